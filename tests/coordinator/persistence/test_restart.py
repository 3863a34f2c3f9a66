"""A real coordinator process, killed by -9 and started again: it goes on as if nothing had been."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt import codec_chain, codec_chance
from fedmqtt.fixed_point import ExactSum, fraction_bits
from fedmqtt.messages import Announce, Chunk, Offer, encode
from fedmqtt.topics import ANNOUNCE, OfferBoard
from fedmqtt.weights import digest
from tests.coordinator.guests import Guest, Room, update
from tests.programs import Program, running

pytestmark = pytest.mark.broker

TASK = "learning_tasks.linear"
SIZE = 4
CHANGES = {
    "ann": [0.1, 0.2, 0.3, 0.4],
    "bob": [1e-7, -1e-3, 7.0, 1 / 3],
    "cat": [-0.7, 0.11, 1e-5, 2.0],
}
SAMPLES = {"ann": 3, "bob": 50, "cat": 7}


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


class Federation:
    """One federation's settings, its folder of runs, and its coordinators."""

    def __init__(
        self,
        url: str,
        name: str,
        folder: Path,
        size: int = SIZE,
        more: str = "",
        shape: tuple[int, ...] = (),
    ) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self._url = url
        start, self._config = folder / "start.safetensors", folder / "federation.toml"
        numbers = np.linspace(-1, 1, size, dtype=np.float32)
        save_file({"w": numbers.reshape(shape or (size,))}, start)
        self._config.write_text(
            f'name = "{name}"\ntask = "{TASK}"\nruns = "{self.runs}"\ninitial_model = "{start}"\n'
            "[evaluation]\nevery = 0\n[tuning]\nenabled = false\n"
            "[rounds]\ncount = 2\ncohort = 3\nover_selection = 1.0\nquorum = 2\nclients_min = 3\n"
            "deadline_s = 1000\naway_grace_s = 1000\n" + more
        )

    @contextmanager
    def coordinating(self, *words: str) -> Iterator[Program]:
        command = ["fedmqtt", "coordinator", str(self._config), "--broker", self._url]
        with running(self.folder, *command, *words) as program:
            yield program

    @property
    def run(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder

    @property
    def model(self) -> bytes:
        return load_file(self.run / "model.safetensors")["w"].tobytes()


def kill(room: Room, program: Program) -> None:
    program.process.send_signal(signal.SIGKILL)
    room.wait(lambda: program.process.poll() is not None)


def come(room: Room, *names: str) -> list[Guest]:
    guests = [room.guest(name) for name in names]
    for guest in guests:
        guest.come(task=TASK, purposes=("train",))
    return guests


def back(room: Room, guest: Guest, before: Offer) -> Offer:
    """The offer by which a coordinator that has come back goes on."""

    def found() -> Offer | None:
        return next((one for one in guest.offers if one and one.epoch > before.epoch), None)

    room.wait(lambda: found() is not None)
    offer = found()
    assert offer is not None
    return offer


def answer(guest: Guest, offer: Offer) -> None:
    name = str(guest.client)
    good = update(offer, CHANGES[name], SAMPLES[name])
    guest.say(good, number=offer.round)
    receipt = guest.receipt()
    assert receipt.accepted and (receipt.run, receipt.round) == (offer.run, offer.round), receipt


def answer_all(guests: Sequence[Guest], offer: Offer) -> None:
    for guest in guests:
        answer(guest, offer)


def undisturbed(
    url: str,
    name: str,
    folder: Path,
    *words: str,
    count: int = 2,
    say: Callable[[Sequence[Guest], Offer], None] = answer_all,
) -> bytes:
    """The last model, where nothing happens in so many rounds."""
    folder.mkdir()
    federation = Federation(url, name, folder)
    with Room(url, name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            for number in range(1, count + 1):
                say(guests, guests[0].offered(number))
            room.wait(lambda: program.process.poll() is not None)
    return federation.model


def test_killed_twice_it_goes_on_with_the_round_and_the_model_is_the_same_to_the_last_bit(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    (tmp_path / "killed").mkdir()
    federation = Federation(url, federation_name, tmp_path / "killed")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = ann.offered(1)
            answer(ann, first)
            kill(room, program)
        with federation.coordinating() as program:
            # The same round of the same run, by a newer coordinator, and for the others only.
            again = back(room, bob, first)
            assert (again.run, again.round, again.model) == (first.run, 1, first.model)
            assert again.train == ("bob", "cat")
            # Said again, its answer is no second one.
            answer(ann, first)
            answer(bob, first)
            kill(room, program)
        with federation.coordinating() as program:
            back(room, cat, again)
            answer(cat, first)
            second = ann.offered(2)
            for guest in (cat, bob, ann):
                answer(guest, second)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
            assert "finished after 2 rounds: 6 of 6 invited answered" in program.said
    records = history.read(federation.run / "history.jsonl")
    assert [(one.round, one.outcome, one.answered) for one in records] == [
        (1, "averaged", ["ann", "bob", "cat"]),
        (2, "averaged", ["ann", "bob", "cat"]),
    ]
    assert federation.model == undisturbed(url, f"{federation_name}-u", tmp_path / "undisturbed")


@pytest.mark.parametrize("text", ["part(share=0.5)+eden+zstd", "lowrank(rank=3)+int8"])
def test_what_was_accepted_in_few_bits_is_folded_again_to_the_last_bit(
    url: str, federation_name: str, tmp_path: Path, text: str
) -> None:
    shape, size, seed = (60, 50), 3000, 11
    codec = codec_chain.read(text)
    average = ExactSum(size, fraction_bits(64.0, 1_000_000, 3))
    federation = Federation(url, federation_name, tmp_path, size, shape=shape)
    words = ("--set", f"codec={codec.text}", "--set", f"seed={seed}", "--set", "rounds.count=1")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            offer = ann.offered(1)
            for guest in (ann, bob, cat):
                change = np.random.default_rng(len(guest.offers)).normal(size=size)
                chances = codec_chance.of_answer(seed, offer.round, guest.client)
                payload = codec.encode(change.astype(np.float32), chances, (shape,))
                average.add(codec.decode(payload, size, chances, (shape,)), 10)
                if guest is cat:
                    kill(room, program)
                    break
                guest.say(update(offer, [], payload=memoryview(payload)), number=1)
                assert guest.receipt().accepted
        with federation.coordinating(*words) as program:
            # What it knows of two answers is what its ledger holds of their bytes.
            back(room, cat, offer)
            cat.say(update(offer, [], payload=memoryview(payload)), number=1)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    base = np.linspace(-1, 1, size, dtype=np.float32)
    assert federation.model == (base + average.mean()).astype(np.float32).tobytes()


def test_another_seed_gives_up_the_round_that_is_open(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        ann, *_ = come(room, *CHANGES)
        with federation.coordinating() as program:
            answer(ann, ann.offered(1))
            kill(room, program)
        with federation.coordinating("--set", "seed=1") as program:
            program.wait_for("it is given up")
            assert ann.offered(2).seed == 1


def test_stopped_in_good_order_it_goes_on_too(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = ann.offered(1)
            answer(ann, first)
            program.process.send_signal(signal.SIGTERM)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 130
        # Nobody is to train while nobody coordinates.
        room.wait(lambda: bob.offers[-1] is None)
        page = room.page("coordinator", lambda page: page.state == "stopped")
        assert "starting it again goes on with round 1" in page.says
        with federation.coordinating() as program:
            back(room, bob, first)
            for guest in (bob, cat):
                answer(guest, first)
            for guest in (ann, bob, cat):
                answer(guest, ann.offered(2))
            room.wait(lambda: program.process.poll() is not None)
    assert [len(one.answered) for one in history.read(federation.run / "history.jsonl")] == [3, 3]


def test_an_answer_in_chunks_survives_too(url: str, federation_name: str, tmp_path: Path) -> None:
    size = 10_000
    federation = Federation(
        url, federation_name, tmp_path, size, "[transfer]\nchunk_bytes = 4096\n"
    )
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            offer = guests[0].offered(1)
            for guest in guests[:2]:
                send_in_chunks(guest, encode(update(offer, [0.25] * size)), offer)
            kill(room, program)
        assert len(list((federation.run / "answers").iterdir())) == 2
        with federation.coordinating() as program:
            back(room, guests[2], offer)
            send_in_chunks(guests[2], encode(update(offer, [1.0] * size)), offer)
            room.wait(lambda: (guests[0].offers[-1] or offer).round == 2)
            assert list((federation.run / "answers").iterdir()) == []
            kill(room, program)
    wanted = np.linspace(-1, 1, size, dtype=np.float32) + np.float64(0.5)
    assert federation.model == wanted.astype(np.float32).tobytes()


def send_in_chunks(guest: Guest, payload: bytes, offer: Offer) -> None:
    announce = Announce(
        run=offer.run,
        round=offer.round,
        digest=digest(payload),
        size_bytes=len(payload),
        chunk_bytes=4096,
    )
    guest.say(announce, part=ANNOUNCE)
    go = guest.go()
    assert go.run == offer.run
    for index in range(-(-len(payload) // 4096)):
        piece = memoryview(payload)[index * 4096 : (index + 1) * 4096]
        guest.say(Chunk(digest=announce.digest, data=piece), part=str(index))
    assert guest.receipt().accepted


def test_who_is_gone_when_it_comes_back_does_not_hold_the_round(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, more="")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = ann.offered(1)
            answer(ann, first)
            answer(bob, first)
            kill(room, program)
        cat.leave()
        with federation.coordinating("--set", "rounds.away_grace_s=0") as program:
            room.page("history", lambda page: len(page.rounds) == 1)
            kill(room, program)
    (record,) = history.read(federation.run / "history.jsonl")
    assert (record.reason, record.dropped) == ("the rest is away", ["cat"])


def test_a_killed_ones_models_and_offer_leave_the_broker_with_the_next_run(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    size = 5000
    more = "[transfer]\nchunk_bytes = 1024\n"
    federation = Federation(url, federation_name, tmp_path, size, more)
    with Room(url, federation_name) as room:
        come(room, "ann")
        with federation.coordinating() as program:
            room.wait(lambda: room.retained_model_bytes > 4 * size)
            kill(room, program)
        save_file({"w": np.ones(size // 2, np.float32)}, tmp_path / "start.safetensors")
        with federation.coordinating("--new") as program:
            room.wait(lambda: 2 * size < room.retained_model_bytes < 3 * size)
            program.process.send_signal(signal.SIGTERM)
            room.wait(lambda: program.process.poll() is not None)
        room.wait(lambda: room.retained_model_bytes == 0)
    assert len(list(federation.runs.iterdir())) == 2


def test_a_second_coordinator_refuses_and_disturbs_nothing(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        (ann, *_) = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = ann.offered(1)
            with federation.coordinating() as same_run:
                room.wait(lambda: same_run.process.poll() is not None)
                assert same_run.wait() == 2
                assert f"is in use by process {program.process.pid}" in same_run.log
                assert "Stop that one, or wait for its end with --standby" in same_run.log
                assert "--new" not in same_run.log
            with federation.coordinating("--new") as other_run:
                room.wait(lambda: other_run.process.poll() is not None)
                assert other_run.wait() == 2
                assert f"federation {federation_name} has a coordinator" in other_run.log
                assert f"process {program.process.pid}" in other_run.log
            assert federation.run.exists(), "the one that was refused has left no folder"
            assert program.process.poll() is None
            answer(ann, first)
            offers = [one for one in room.traffic if one.address == OfferBoard() and one.payload]
            assert len(offers) == 1, "the second one has said nothing"


def test_a_standby_takes_over_with_the_same_round(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            answer(guests[0], first)
            with federation.coordinating("--standby") as standby:
                standby.wait_for("standing by")
                kill(room, program)
                back(room, guests[0], first)
                for guest in guests[1:]:
                    answer(guest, first)
                for guest in guests:
                    answer(guest, guest.offered(2))
                room.wait(lambda: standby.process.poll() is not None)
                assert standby.wait() == 0
    assert [len(one.answered) for one in history.read(federation.run / "history.jsonl")] == [3, 3]


def test_a_finished_run_is_not_gone_on_with(url: str, federation_name: str, tmp_path: Path) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating("--set", "rounds.count=1") as program:
            for guest in guests:
                answer(guest, guests[0].offered(1))
            room.wait(lambda: program.process.poll() is not None)
        finished = federation.run
        with federation.coordinating("--run", str(finished)) as program:
            assert program.wait() == 2
            assert "holds a finished run" in program.log
        with federation.coordinating() as program:
            room.wait(lambda: len(list(federation.runs.iterdir())) == 2)


def test_a_round_under_other_settings_is_given_up_and_the_model_stays(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            answer(guests[0], first)
            kill(room, program)
        with federation.coordinating("--set", "training.learning_rate=0.5") as program:
            second = guests[0].offered(2)
            assert second.training.learning_rate == 0.5
            assert second.model.digest == first.model.digest
            guests[1].say(update(first, CHANGES["bob"]))
            assert guests[1].receipt().reason == "late: round 1 is closed"
            program.wait_for("given up")
            kill(room, program)
    (record,) = history.read(federation.run / "history.jsonl")
    assert (record.outcome, record.reason) == ("kept", "the settings were changed")


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("ledger.db", "ledger.db: file is not a database"),
        ("models/0.safetensors", "models/0.safetensors"),
    ],
)
def test_a_damaged_run_is_refused_by_name(
    url: str, federation_name: str, tmp_path: Path, file: str, complaint: str
) -> None:
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            guests[0].offered(1)
            kill(room, program)
    if file == "ledger.db":
        for log in federation.run.glob("ledger.db-*"):
            log.unlink()
    (federation.run / file).write_bytes(b"damaged " * 1000)
    with federation.coordinating() as program:
        assert program.wait() == 2
        assert complaint in program.log and "Traceback" not in program.log


def test_a_damaged_answer_is_refused_by_name(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    more = "[transfer]\nchunk_bytes = 4096\n"
    federation = Federation(url, federation_name, tmp_path, 10_000, more)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            offer = guests[0].offered(1)
            send_in_chunks(guests[0], encode(update(offer, [0.25] * 10_000)), offer)
            kill(room, program)
    (file,) = (federation.run / "answers").iterdir()
    file.write_bytes(b"damaged")
    with federation.coordinating() as program:
        assert program.wait() == 2
        assert "the answer of ann to round 1: not a message we know" in program.log
        # To start it again would not help.
        assert "nothing that was received is lost" not in program.log
        assert "Traceback" not in program.log


@pytest.mark.parametrize(
    ("policy", "rounds_until_counted"), [("discard", None), ("weigh", 2), ("buffer", 3)]
)
def test_late_answers_by_policy_and_over_a_crash(
    url: str, federation_name: str, tmp_path: Path, policy: str, rounds_until_counted: int | None
) -> None:
    more = f'[late]\npolicy = "{policy}"\nbatch = 2\n'
    federation = Federation(url, federation_name, tmp_path, more=more)
    base = np.linspace(-1, 1, SIZE, dtype=np.float32)
    settings = ["--set", "rounds.count=3", "--set", "rounds.cohort=2"]
    settings += ["--set", "rounds.over_selection=1.5"]
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*settings) as program:
            first = ann.offered(1)
            for guest in (ann, bob):
                guest.say(update(first, [0.5] * SIZE, 10))
                assert guest.receipt().accepted
            second = ann.offered(2)
            # Cat was too slow for round 1.
            cat.say(update(first, [1.0] * SIZE, 1000))
            receipt = cat.receipt()
            assert receipt.accepted == (policy != "discard"), receipt
            kill(room, program)
        with federation.coordinating(*settings) as program:
            back(room, cat, second)
            cat.say(update(first, [1.0] * SIZE, 1000))
            assert cat.receipt().accepted == (policy != "discard"), "said again, told the same"
            for offer in (second, None):
                offer = offer or ann.offered(3)
                for guest in (ann, bob):
                    guest.say(update(offer, [0.5] * SIZE, 10), number=offer.round)
                    assert guest.receipt().accepted
            room.wait(lambda: program.process.poll() is not None)
    records = history.read(federation.run / "history.jsonl")
    counted = {number: one.late_counted for one in records if (number := one.round)}
    late = [("cat", 1)]
    assert counted == {
        number: late if number == rounds_until_counted else [] for number in (1, 2, 3)
    }
    steps = [0.5, 0.5, 0.5]
    if rounds_until_counted is not None:
        staleness = rounds_until_counted - 1
        weight = round(1000 / (1 + staleness) ** 0.5)
        steps[rounds_until_counted - 1] = (20 * 0.5 + weight) / (20 + weight)
    wanted = base.astype(np.float64)
    for step in steps:
        wanted = (wanted + step).astype(np.float32)
    found = load_file(federation.run / "model.safetensors")["w"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    logged = [json.loads(line) for line in (federation.run / "history.jsonl").open()]
    assert len(logged) == 3
