"""Nobody can read one device's answer: real programs, killed in the middle, on a real broker.

What each of them received, wrote or said is searched for what one of the devices alone may know.
"""

import json
import signal
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from broker_config.mosquitto import find_mosquitto
from coordinator import evaluation
from fedmqtt.masking import packing
from fedmqtt.messages import Measures, Update, encode, read_presence
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId, RunId, UpdatePart
from tests.masked_federation import MaskedFederation, masked_federation
from tests.planted_task import SIZE, planted

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

NAMES = ("ann", "bob", "cat", "dan")
KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
WEIGHT_MAX, SAMPLES_MAX, VALUE_BITS, CHANGE_MAX = 100, 2**28, 20, 1.0
PRIVACY = (
    f"weight_max = {WEIGHT_MAX}\nsamples_max = {SAMPLES_MAX}\nvalue_bits = {VALUE_BITS}\n"
    f"change_max = {CHANGE_MAX}\nkeyholder_timeout_s = 1"
)
BITS = 22
"""Of the modulus: four clients' values fit."""
_STEP = WEIGHT_MAX * CHANGE_MAX / (2 ** (VALUE_BITS - 1) - 1)

Model = NDArray[np.float32]
Wholes = NDArray[np.int64]


def change_of(who: str, base: Model) -> Model:
    """What training changes, float32, shape (1 + SIZE,)."""
    after = base + np.concatenate([np.ones(1, np.float32), planted(who).change])
    changed: Model = after - base
    return changed


def weight_of(who: str) -> int:
    return max(1, round(WEIGHT_MAX * min(planted(who).samples, SAMPLES_MAX) / SAMPLES_MAX))


def wholes_of(who: str, base: Model) -> Wholes:
    """The whole numbers that a client's answer is made of, before it is masked."""
    clipped = np.clip(change_of(who, base).astype(np.float64), -CHANGE_MAX, CHANGE_MAX)
    wholes: Wholes = np.rint(clipped * (weight_of(who) / _STEP)).astype(np.int64)
    return wholes


def next_model(base: Model, names: Sequence[str]) -> Model:
    """From the plain integers of these clients."""
    return _mean_of(base, [(who, base) for who in names])


def _mean_of(base: Model, answers: Sequence[tuple[str, Model]]) -> Model:
    """From those of clients that trained from these."""
    total: Wholes = np.sum([wholes_of(who, trained) for who, trained in answers], axis=0)
    weight = sum(weight_of(who) for who, _ in answers)
    mean = (total * (_STEP / weight)).astype(np.float32)
    made: Model = (base + mean.astype(np.float64)).astype(np.float32)
    return made


def models(names: Sequence[str], count: int) -> list[Model]:
    """The first one, and those after so many rounds in which all of these answer."""
    found = [np.zeros(1 + SIZE, np.float32)]
    for _ in range(count):
        found.append(next_model(found[-1], names))
    return found


def measures_of(who: str) -> Measures:
    own = planted(who)
    matrix = tuple(map(tuple, own.confusion))
    return Measures(
        sample_count=sum(map(sum, own.confusion)),
        metrics={"loss": own.measured_loss},
        confusion=matrix,
    )


def figures_of(names: Sequence[str]) -> Figures:
    """As of answers that can be read, added up: each value of a metric is off by 2^-25 at most."""
    found = evaluation.summarise({ClientId(who): measures_of(who) for who in names})
    assert found is not None
    return found


def _assert_figures(found: Figures | None, names: Sequence[str]) -> None:
    wanted = figures_of(names)
    assert found is not None
    assert found.metrics.pop("loss") == pytest.approx(wanted.metrics.pop("loss"), abs=2**-24)
    assert found.metrics["accuracy"] == wanted.metrics["accuracy"]
    assert found == wanted or found == wanted.without_details()


def model_in(run: Path) -> Model:
    tensors = load_file(run / "model.safetensors")
    found: Model = np.concatenate([tensors["age"], tensors["w"]])
    return found


# What may be nowhere


def traces(who: str, bases: Sequence[Model], bits: int) -> dict[str, list[bytes]]:
    """Bytes by which a value of this client's would be known, by what it is."""
    own = planted(who)
    numbers = [own.samples, own.steps]
    found = {
        "a count": [packed for number in numbers for packed in _of_whole(number)],
        "its loss": _of_float(own.loss),
        "what it measured": _of_float(own.measured_loss),
        "its matrix": [packed for row in own.confusion for packed in _of_row(row)],
    }
    for base in bases:
        # The model's age grows by the same for all.
        change, wholes = change_of(who, base)[1:], wholes_of(who, base)[1:]
        found.setdefault("its change", []).extend(_runs(change.tobytes(), 4))
        found.setdefault("its whole numbers", []).extend(_runs(wholes.astype("<i4").tobytes(), 4))
        # As a payload has them: behind the age, and before what it is filled up with.
        packed = packing.pack(wholes_of(who, base)[:SIZE].astype(np.int32).view(np.uint32), bits)
        packed = packed[4 : SIZE * bits // 8]
        found.setdefault("its packed numbers", []).extend(_runs(packed, 1))
    return found


def _of_whole(number: int) -> list[bytes]:
    # As MessagePack writes it, as a file may, and as people read it.
    return [b"\xce" + struct.pack(">I", number), struct.pack("<q", number), str(number).encode()]


def _of_float(number: float) -> list[bytes]:
    return [struct.pack(">d", number), struct.pack("<d", number), repr(number)[:9].encode()]


def _of_row(row: list[int]) -> list[bytes]:
    # One cell alone is too short to be told from chance.
    arrays = [np.array(row, kind).tobytes() for kind in ("<i4", "<i8")]
    texts = [json.dumps(row, separators=separators).encode() for separators in ((",", ":"), None)]
    return [msgspec.msgpack.encode(row), *arrays, *texts]


def _runs(data: bytes, step: int) -> list[bytes]:
    """Any twelve bytes in a row that begin with a number."""
    return [data[at : at + 12] for at in range(0, len(data) - 11, step)]


def found_in(data: bytes, wanted: dict[str, list[bytes]]) -> list[str]:
    return [what for what, traces in wanted.items() if any(one in data for one in traces)]


def test_the_search_finds_what_a_plain_answer_would_tell() -> None:
    base, own = models(NAMES, 1)[-1], planted("ann")
    plain = Update(
        run=RunId("r"),
        round=RoundId(2),
        base=Digest("0" * 64),
        fingerprint="f",
        sample_count=own.samples,
        codec="full",
        metrics={"loss": own.loss},
        steps=own.steps,
        measures=measures_of("ann"),
        payload=memoryview(change_of("ann", base).tobytes()),
    )
    wanted = traces("ann", [base], BITS)
    assert found_in(encode(plain), wanted) == [
        "a count",
        "its loss",
        "what it measured",
        "its matrix",
        "its change",
    ]
    wholes = wholes_of("ann", base).astype(np.int32)
    assert found_in(wholes.tobytes(), wanted) == ["its whole numbers"]
    assert found_in(packing.pack(wholes.view(np.uint32), BITS), wanted) == ["its packed numbers"]
    assert found_in(f"{own.samples} samples, loss {own.loss}".encode(), wanted) == [
        "a count",
        "its loss",
    ]
    matrix = np.array(own.confusion, "<u4")
    for told in (matrix.tobytes(), str(own.confusion).encode(), f"loss {own.measured_loss}"):
        data = told if isinstance(told, bytes) else told.encode()
        assert found_in(data, wanted) in (["its matrix"], ["what it measured"])
    assert not found_in(encode(plain), traces("bob", [base], BITS))


def _nowhere(federation: MaskedFederation, names: Sequence[str], bases: Sequence[Model]) -> None:
    """Not in what crossed the broker, and in no file that any program has written."""
    files = [path for path in federation.folder.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(federation.run) for path in files)
    crossed = federation.crossed()
    maskings = [offer.masking for offer in federation.offers().values()]
    assert maskings and all(one is not None and one.bits == BITS for one in maskings)
    told = {to.client for to, _ in crossed if isinstance(to, UpdatePart)}
    assert told >= set(names)
    for who in names:
        wanted = traces(who, bases, BITS)
        for to, data in crossed:
            assert not found_in(data, wanted), f"{who} in {to}"
        for path in files:
            assert not found_in(path.read_bytes(), wanted), f"{who} in {path}"


# Their stories


def test_a_client_and_a_keyholder_vanish_and_the_sum_is_that_of_the_plain_numbers(
    tmp_path: Path,
) -> None:
    expected = models(NAMES, 3)
    with masked_federation(tmp_path, KEYHOLDERS, NAMES) as federation, ExitStack() as stack:
        _, leaving_keyholder, _ = [
            stack.enter_context(federation.keyholder(name)) for name in KEYHOLDERS
        ]
        asks = ("--set", "privacy.at_least=keyholders", "--set", "privacy.floor_min=4")
        *_, dan = [stack.enter_context(federation.client(name, *asks)) for name in NAMES]
        rounds = "count = 3\ncohort = 4\nquorum = 4\nclients_min = 4"
        privacy = f'aggregation = "keyholders"\nfloor = 4\n{PRIVACY}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        federation.open_gates(1, *NAMES)
        dan.wait_for("round 2: train")
        # Its message is out, and that is the last that is seen of it: it dies without a receipt.
        coordinator.process.send_signal(signal.SIGSTOP)
        federation.open_gates(2, "dan")
        federation.wait_for_answer("dan", 2)
        dan.process.kill()
        leaving_keyholder.process.kill()
        coordinator.process.send_signal(signal.SIGCONT)
        federation.open_gates(2, *NAMES)
        federation.wait_for_round(2)
        assert "round 2 accepted" not in dan.log
        # It comes again; the keyholder does not.
        stack.enter_context(federation.client("dan", *asks))
        federation.open_gates(3, *NAMES)
        assert coordinator.wait() == 0, coordinator.log
        records = federation.records
        assert [one.outcome for one in records] == ["averaged"] * 3, coordinator.log
        assert all(sorted(one.answered) == list(NAMES) for one in records)
        assert not any(one.declined or one.rejected for one in records)
        assert model_in(federation.run).tobytes() == expected[3].tobytes()
        for record in records:
            _assert_figures(record.figures, NAMES)
        _assert_figures(federation.model_page(3).figures, NAMES)
        _nowhere(federation, NAMES, expected[:3])


def test_one_aggregator_is_trusted_by_those_who_do_so(tmp_path: Path) -> None:
    three, expected = NAMES[:3], models(NAMES[:3], 1)
    with masked_federation(tmp_path, ("agg",), NAMES) as federation, ExitStack() as stack:
        stack.enter_context(federation.keyholder("agg", "aggregator"))
        for name in three:
            asks = ("--set", "privacy.at_least=trusted")
            # Whose owner does not let it measure, does not under the mask either.
            own = ("--set", 'purposes=["train"]') if name == "cat" else ()
            stack.enter_context(federation.client(name, *asks, *own))
        asks = ("--set", "privacy.at_least=keyholders")
        dan = stack.enter_context(federation.client("dan", *asks))
        rounds = "count = 1\ncohort = 4\nquorum = 3\nclients_min = 4"
        privacy = f'aggregation = "trusted"\nfloor = 3\n{PRIVACY}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        federation.open_gates(1, *NAMES)
        assert coordinator.wait() == 0, coordinator.log
        (record,) = federation.records
        assert record.outcome == "averaged" and sorted(record.answered) == list(three)
        why = (
            "this client's answers would be masked for one aggregator, and its owner asks for at"
            " least 'keyholders' (privacy.at_least)"
        )
        assert record.declined == {"dan": why}
        assert why in dan.log
        assert "a sum of 3 clients tells" in coordinator.log
        assert record.figures is None
        few = "no figures are told of the 2 clients that measured: 3 must"
        assert few in coordinator.log
        federation.wait_for(
            lambda to, data: to == PresenceOf(ClientId("dan")) and read_presence(data).note == why
        )
        assert model_in(federation.run).tobytes() == expected[1].tobytes()
        _nowhere(federation, NAMES, expected[:1])


def test_a_committee_of_devices_opens_what_their_owners_let_be_hidden_by_an_experiment(
    tmp_path: Path,
) -> None:
    """One of its members ends, and so does a client once its message is out."""
    three, expected = NAMES[:3], models(NAMES[:3], 3)
    with masked_federation(tmp_path, KEYHOLDERS, NAMES) as federation, ExitStack() as up:
        serves = ("keyholder", "--serve", "committee")
        members = [up.enter_context(federation.keyholder(one, *serves)) for one in KEYHOLDERS]
        allows = ("--set", 'privacy.experiments=["committee"]')
        *_, cat = [up.enter_context(federation.client(name, *allows)) for name in three]
        dan = up.enter_context(federation.client("dan"))
        rounds = "count = 3\ncohort = 4\nquorum = 3\nclients_min = 4"
        privacy = f'aggregation = "committee"\nexperiments = ["committee"]\nfloor = 3\n{PRIVACY}'
        coordinator = up.enter_context(federation.coordinating(rounds, privacy))
        federation.open_gates(1, *three)
        cat.wait_for("round 2: train")
        # Its message is out, and that is the last that is seen of it: it dies without a receipt.
        coordinator.process.send_signal(signal.SIGSTOP)
        federation.open_gates(2, "cat")
        federation.wait_for_answer("cat", 2)
        cat.process.kill()
        members[1].process.kill()
        coordinator.process.send_signal(signal.SIGCONT)
        federation.open_gates(2, *three)
        federation.wait_for_round(2)
        assert "round 2 accepted" not in cat.log
        up.enter_context(federation.client("cat", *allows))
        federation.open_gates(3, *three)
        assert coordinator.wait() == 0, coordinator.log
        records = federation.records
        assert [one.outcome for one in records] == ["averaged"] * 3, coordinator.log
        assert all(sorted(one.answered) == list(three) for one in records)
        why = "hidden by an experiment, which no cryptographer has reviewed"
        assert why in records[0].declined[ClientId("dan")] and why in dan.log
        assert model_in(federation.run).tobytes() == expected[3].tobytes()
        for record in records:
            _assert_figures(record.figures, three)
        _nowhere(federation, three, expected[:3])


def test_where_rounds_are_asynchronous_who_is_slow_is_in_a_later_sum(tmp_path: Path) -> None:
    """And a keyholder that dies comes again."""
    slow = ("eve", "fay")
    with masked_federation(tmp_path, KEYHOLDERS, (*NAMES, *slow)) as federation, ExitStack() as up:
        mixed = ("keyholder", "--mixed-rounds")
        dying, *_ = [up.enter_context(federation.keyholder(name, *mixed)) for name in KEYHOLDERS]
        for name in (*NAMES, *slow):
            up.enter_context(federation.client(name, "--set", "privacy.at_least=keyholders"))
        rounds = (
            'mode = "asynchronous"\nconcurrency = 6\ncount = 2\ncohort = 4\nquorum = 3\n'
            "clients_min = 6\n[evaluation]\nevery = 0"
        )
        privacy = f'aggregation = "keyholders"\nfloor = 3\n{PRIVACY}'
        coordinator = up.enter_context(federation.coordinating(rounds, privacy))
        federation.open_gates(1, *NAMES)
        federation.wait_for_round(1)
        before, after = models(NAMES, 1)
        # Two are at work on the first model still, and are done when others are on the second.
        federation.open_gates(1, *slow)
        for name in slow:
            federation.wait_for_answer(name, 1)
        dying.process.kill()
        dying.wait()
        federation.open_gates(2, "ann", "bob")
        for name in ("ann", "bob"):
            federation.wait_for_answer(name, 2)
        up.enter_context(federation.keyholder("kh-a", *mixed))
        assert coordinator.wait() == 0, coordinator.log
        assert [one.outcome for one in federation.records] == ["averaged"] * 2, coordinator.log
        answers = [("eve", before), ("fay", before), ("ann", after), ("bob", after)]
        assert model_in(federation.run).tobytes() == _mean_of(after, answers).tobytes()
