"""The coordinator at a real broker, among clients that are hostile, clumsy, or gone."""

import logging
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import Evaluation, Limits, Transfer
from fedmqtt.logs import printable
from fedmqtt.messages import (
    Activity,
    Announce,
    Chunk,
    Decline,
    Measures,
    Offer,
    Presence,
    encode,
)
from fedmqtt.messages import Evaluation as EvaluationMessage
from fedmqtt.mqtt_link import LinkUp
from fedmqtt.status_pages import REFUSALS, CoordinatorPage, RoundPage
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    OfferBoard,
    PresenceOf,
    RoundId,
    StatusPage,
)
from fedmqtt.weights import digest
from tests.coordinator.guests import Guest, Room, Running, federation_config, update, zeros
from tests.own_broker import free_port, mosquitto_at

pytestmark = pytest.mark.broker

SIZE = 4

Say = Callable[[Guest, Offer], None]


def _update(change: list[float], samples: int = 10, **wrong: Any) -> Say:
    return lambda guest, offer: guest.say(update(offer, change, samples, **wrong))


def _measured(measures: Measures) -> Say:
    return _update([0.0] * SIZE, measures=measures)


def _announce(**wrong: Any) -> Say:
    def say(guest: Guest, offer: Offer) -> None:
        fields: dict[str, Any] = {
            "run": offer.run,
            "round": RoundId(1),
            "digest": Digest("ab" * 32),
            "size_bytes": 100,
            "chunk_bytes": 1024,
        }
        guest.say(Announce(**(fields | wrong)), part=ANNOUNCE)

    return say


def _bytes(payload: bytes, part: str = "0", lane: int = 0) -> Say:
    return lambda guest, offer: guest.shout(guest.to(part, lane), payload)


def _wrong_lane(guest: Guest, offer: Offer) -> None:
    guest.say(update(offer, [1.0] * SIZE), lane=3)


REJECTED: dict[str, tuple[Say, str]] = {
    "other-base": (_update([0.0] * SIZE, base="0" * 64), "trained from model 000000000000, not"),
    "other-task": (_update([0.0] * SIZE, fingerprint="f" * 16), "tensors of another task"),
    "too-short": (_update([0.0] * (SIZE - 1)), "tensors of other shapes: 12 bytes where 16 belong"),
    "too-long": (_update([0.0] * 1000), "tensors of other shapes: 4000 bytes where 16 belong"),
    "nan": (_update([0.0, math.nan, 0.0, 0.0]), "has values that are not finite"),
    "inf": (_update([0.0, math.inf, 0.0, 0.0]), "has values that are not finite"),
    "minus-inf": (_update([-math.inf, math.inf, 0.0, 0.0]), "has values that are not finite"),
    "too-far": (_update([0.0, 0.0, 0.0, -2.5]), "changes a parameter by 2.5; limits.change_max is"),
    "too-much": (_update([0.0] * SIZE, 101), "claims 101 samples; limits.samples_max is 100"),
    "other-codec": (_update([0.0] * SIZE, codec="tiny"), "codec 'tiny', not 'full'"),
    "other-wire": (_update([0.0] * SIZE, wire=99), "wire version 99, not"),
    "nan-metric": (_update([0.0] * SIZE, metrics={"loss": math.nan}), "metric 'loss' is nan"),
    "inf-measure": (
        _measured(Measures(sample_count=1, metrics={"loss": math.inf})),
        "metric 'loss' is inf",
    ),
    "not-square": (
        _measured(Measures(sample_count=3, confusion=((1, 2),))),
        "the confusion matrix is not square",
    ),
    "wrong-total": (
        _measured(Measures(sample_count=4, confusion=((1, 0), (0, 0)))),
        "the confusion matrix does not sum to the sample count",
    ),
    "much-measured": (_measured(Measures(sample_count=2**40)), "limits.samples_max is 100"),
    "evaluates": (
        lambda guest, offer: guest.say(
            EvaluationMessage(
                run=offer.run,
                round=offer.round,
                base=offer.model.digest,
                measures=Measures(sample_count=1),
            )
        ),
        "not invited to evaluate in round 1",
    ),
    "ten-gigabytes": (_announce(size_bytes=10 * 10**9), "10000000000 bytes; at most"),
}
"""What a client may send that can be read, but not counted."""

UNREAD: dict[str, tuple[Say, str]] = {
    "noise": (_bytes(bytes(range(256))), "not a message we know"),
    "empty": (_bytes(b""), "not a message we know"),
    "cut-off": (_bytes(b"\x83\xa4kind"), "not a message we know"),
    # A header that claims two gigabytes, and nothing behind it.
    "two-gigabytes": (
        _bytes(b"\x82\xa4kind\xa6update\xa7payload\xc6" + struct.pack(">I", 2**31 - 1)),
        "not a message we know",
    ),
    "many-entries": (_bytes(b"\xdf" + struct.pack(">I", 2**32 - 1)), "not a message we know"),
    "nested": (_bytes(b"\x91" * 100_000), "not a message we know"),
    "no-samples": (_update([0.0] * SIZE, 0), "not a message we know"),
    "huge-announce": (_announce(size_bytes=2**50), "not a message we know"),
    "tiny-chunks": (_announce(chunk_bytes=1), "not a message we know"),
    "offers": (
        lambda guest, offer: guest.say(offer),
        "not a message we know",
    ),
    "json": (_bytes(msgspec.json.encode({"kind": "update"})), "not a message we know"),
    "wrong-lane": (_wrong_lane, "lane 3, not 0"),
    "chunk-as-announce": (
        lambda guest, offer: guest.say(
            Chunk(digest=Digest("ab" * 32), data=memoryview(b"x")), part=ANNOUNCE
        ),
        "part 'announce' is no place for Chunk",
    ),
    "announce-as-chunk": (
        lambda guest, offer: guest.say(
            Announce(
                run=offer.run,
                round=offer.round,
                digest=Digest("ab" * 32),
                size_bytes=10,
                chunk_bytes=1024,
            ),
            part="5",
        ),
        "part '5' is no place for Announce",
    ),
}
"""What cannot be read as an answer, or not where it was sent."""


def test_nonsense_is_refused_with_its_reason_and_the_round_goes_on_without_it(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    hostile = REJECTED | UNREAD
    config = federation_config(
        mosquitto_broker.url,
        federation_name,
        {"cohort": len(hostile) + 2, "clients_min": len(hostile) + 2},
        limits=Limits(change_max=2.0, samples_max=100),
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = dict(zip(hostile, room.guests(*hostile), strict=True))
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = ann.offered(1)
            for name, (say, reason) in hostile.items():
                say(guests[name], offer)
                receipt = guests[name].receipt()
                assert not receipt.accepted and reason in receipt.reason, (name, receipt.reason)
                assert receipt.round == 1
                assert any(name in line and receipt.reason in line for line in caplog.messages), (
                    name
                )
            page: RoundPage = room.page("round", lambda page: len(page.rejected) == len(REJECTED))
            for name, (_, reason) in REJECTED.items():
                assert reason in page.rejected[guests[name].client]
            coordinator: CoordinatorPage = room.page(
                "coordinator", lambda page: page.unreadable_messages == len(UNREAD)
            )
            # The newest of all refusals, with reasons, for whoever looks at the topic.
            told = list(hostile)[-REFUSALS:]
            assert len(coordinator.refusals) == REFUSALS
            for name, line in zip(told, coordinator.refusals, strict=True):
                reason = printable(hostile[name][1])
                assert line.startswith(guests[name].client) and reason[:100] in line, (name, line)
            # The first of the unreadable mends its ways; the others give up.
            sorry, *others = UNREAD
            guests[sorry].say(update(offer, [1.0] * SIZE))
            assert guests[sorry].receipt().accepted
            for name in others:
                guests[name].say(Decline(run=offer.run, round=offer.round, reason="I give up"))
            ann.say(update(offer, [1.0, 0.0, 0.0, 0.0]))
            bob.say(update(offer, [0.0, 2.0, 0.0, 1.0]))
            assert ann.receipt().accepted and bob.receipt().accepted
            room.ended(running)
    (record,) = running.records
    assert record.outcome == "averaged" and len(record.answered) == 3
    assert record.rejected.keys() == {guests[name].client for name in REJECTED}
    # Three answers of ten samples each.
    model = load_file(tmp_path / "model.safetensors")["w"]
    expected = [Fraction(2, 3), Fraction(1), Fraction(1, 3), Fraction(2, 3)]
    assert model.tolist() == [np.float32(float(value)) for value in expected]


def test_what_was_not_asked_for_is_told_why_it_does_not_count(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url, federation_name, {"count": 2, "cohort": 2, "pause_s": 1000.0}
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path):
            offer = ann.offered(1)
            (eve,) = room.guests("eve")
            eve.say(update(offer, [1.0] * SIZE))
            assert eve.receipt().reason == "not invited to train in round 1"
            _announce()(eve, offer)
            assert eve.receipt().reason == "not invited to round 1"
            ann.say(update(offer, [1.0] * SIZE, round=RoundId(7)), number=7)
            receipt = ann.receipt()
            assert (receipt.round, receipt.reason) == (7, "round 7 has not been opened")
            # Twice, as QoS 1 may deliver it: told twice, counted once.
            for _ in range(2):
                ann.say(update(offer, [1.0] * SIZE))
                assert ann.receipt().accepted
            bob.say(update(offer, [0.0] * SIZE, samples=30))
            assert bob.receipt().accepted
            room.page("model", lambda page: page.trained_rounds == 1)
            # Round 1 is closed: what had counted is confirmed once more, what had not is late.
            ann.say(update(offer, [1.0] * SIZE))
            assert ann.receipt().accepted
            eve.say(update(offer, [1.0] * SIZE))
            assert eve.receipt().reason == "late: round 1 is closed"
            room.page("coordinator", lambda page: page.late_updates == 1)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [0.25] * SIZE


def test_a_late_answer_is_in_the_record_of_the_next_round_that_closes(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url, federation_name, {"count": 2, "cohort": 1, "quorum": 1}
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob", purposes=("train",))
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            first = ann.offered(1)
            one, other = (ann, bob) if ann.client in first.train else (bob, ann)
            # So that round 2 does not open before the late answer is here.
            other.leave()
            room.page("clients", lambda page: page.away == [other.client])
            one.say(update(first, [1.0] * SIZE))
            assert one.receipt().accepted
            cat = room.guest("cat")
            cat.say(update(first, [1.0] * SIZE))
            assert cat.receipt().reason == "late: round 1 is closed"
            other.come(purposes=("train",), session="2")
            second = ann.offered(2)
            for guest in (ann, bob):
                if guest.client in second.train:
                    guest.say(update(second, [1.0] * SIZE), number=2)
            room.ended(running)
    assert [record.late_updates for record in running.records] == [0, 1]
    assert running.service.totals.late == 1


def test_the_model_is_the_same_to_the_last_bit_in_whatever_order_answers_arrive(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    names = ("ann", "bob", "cat", "dan")
    chance = Random(5)
    # Multiples of 2^-20, so that the sum can be checked exactly.
    changes = [[chance.randrange(-(2**20), 2**20) / 2**20 for _ in range(SIZE)] for _ in names]
    samples = [3, 50, 7, 4]
    orders = [order for order in permutations(range(4)) if order[0] in (0, 3)][::4]
    models: list[bytes] = []
    for number, order in enumerate(orders):
        name, folder = f"{federation_name}-{number}", tmp_path / str(number) / "run"
        config = federation_config(
            mosquitto_broker.url, name, {"cohort": 4, "clients_min": 4}, seed=1
        )
        with Room(mosquitto_broker.url, name) as room:
            guests = room.guests(*names)
            with room.coordinating(config, zeros(SIZE), folder) as running:
                offer = guests[0].offered(1)
                for which in order:
                    guests[which].say(update(offer, changes[which], samples[which]))
                    assert guests[which].receipt().accepted
                room.ended(running)
        models.append((folder / "model.safetensors").read_bytes())
    assert len(models) == 3 and len(set(models)) == 1
    sums = [
        sum(Fraction(change[i]) * count for change, count in zip(changes, samples, strict=True))
        for i in range(SIZE)
    ]
    model = load_file(tmp_path / "0" / "run" / "model.safetensors")["w"]
    # 64 samples: the division is exact too, and rounds once, to float32.
    assert model.tolist() == [np.float32(float(total / 64)) for total in sums]


def test_the_model_crosses_the_wire_once_a_round_however_many_clients_there_are(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    few = _model_traffic(mosquitto_broker.url, f"{federation_name}-3", 3, tmp_path / "3")
    many = _model_traffic(mosquitto_broker.url, f"{federation_name}-12", 12, tmp_path / "12")
    # The first model and those of two rounds, 12,000 bytes of numbers each, in chunks of 4 KiB.
    assert few == many and len(few) == 3 * 3
    assert 3 * 12_000 < sum(few) < 3 * 12_100


def _model_traffic(url: str, federation: str, count: int, folder: Path) -> list[int]:
    """How many bytes of models each message of a coordinator had, with so many clients."""
    config = federation_config(
        url,
        federation,
        {"count": 2, "cohort": count, "clients_min": count},
        transfer=Transfer(chunk_bytes=4096),
    )
    with Room(url, federation) as room:
        guests = room.guests(*(f"client-{i}" for i in range(count)))
        with room.coordinating(config, zeros(3000), folder) as running:
            for number in (1, 2):
                offer = guests[0].offered(number)
                for guest in guests:
                    guest.say(update(offer, [1.0] * 3000), number=number)
            room.ended(running)
        # Its last words clear the last model.
        room.wait(lambda: room.retained_model_bytes == 0)
        return [len(one.payload) for one in room.model_chunks() if one.payload]


@pytest.mark.parametrize(("size", "comes_along"), [(3, True), (1000, True), (1100, False)])
def test_a_small_model_comes_with_its_offer_and_a_large_one_does_not(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    size: int,
    comes_along: bool,
) -> None:
    alone = {"cohort": 1, "quorum": 1, "clients_min": 1}
    config = federation_config(mosquitto_broker.url, federation_name, alone)
    with Room(mosquitto_broker.url, federation_name) as room:
        (ann,) = room.guests("ann")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = ann.offered(1)
            assert bool(offer.model_file) == comes_along
            if comes_along:
                assert digest(offer.model_file) == offer.model.digest
            # Clients that know nothing of that find its chunks as ever.
            room.wait(lambda: room.retained_model_bytes == offer.model.size_bytes)
            running.stop()
            room.ended(running)


def test_nothing_of_a_finished_run_stays_on_the_broker_but_its_status(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # More chunks than may be on the way at a time.
    size = 16_000
    config = federation_config(
        broker.url, federation_name, {"cohort": 2}, transfer=Transfer(chunk_bytes=1024)
    )
    with Room(broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = ann.offered(1)
            assert offer.model.size_bytes // offer.model.chunk_bytes > 60
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * size))
            room.ended(running)
        assert room.page("coordinator", lambda page: page.state == "finished")
    # Who comes now sees what the broker kept.
    with Room(broker.url, federation_name) as later:
        guest = later.guest("cat")
        guest.come()
        # What was kept arrives before what is new.
        later.wait(lambda: any(one.address == PresenceOf(guest.client) for one in later.traffic))
        later.page("coordinator")
        assert not later.model_chunks() and not guest.offers


def test_a_coordinator_that_is_stopped_withdraws_its_offer_and_its_model(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 16_000
    config = federation_config(
        broker.url, federation_name, {"cohort": 2}, transfer=Transfer(chunk_bytes=1024)
    )
    with Room(broker.url, federation_name) as room:
        ann, _ = room.guests("ann", "bob")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            ann.offered(1)
            running.stop()
            room.ended(running)
        room.wait(lambda: ann.offers[-1] is None)
        room.page("coordinator", lambda page: page.state == "stopped")
        assert not room.page("round").open
    with Room(broker.url, federation_name) as later:
        guest = later.guest("cat")
        guest.come()
        later.wait(lambda: any(one.address == PresenceOf(guest.client) for one in later.traffic))
        assert not later.model_chunks() and not guest.offers
    assert not running.service.is_finished


def test_a_run_that_is_stopped_while_averaging_keeps_the_model_that_its_history_names(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    def stop(running: Running) -> None:
        running.loop.stop()

    config = federation_config(mosquitto_broker.url, federation_name, {"count": 9, "cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        # The last moment before the sum becomes a model.
        with room.coordinating(config, zeros(SIZE), tmp_path, stop) as running:
            offer = ann.offered(1)
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
    assert [record.outcome for record in running.records] == ["averaged"]
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [1.0] * SIZE


def test_a_link_that_comes_back_while_averaging_does_not_bring_the_old_model_back(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    def reconnect(running: Running) -> None:
        # The broker's answer lies in the mailbox when the round closes, before the average.
        service = running.service
        running.loop.post(lambda: service._on_link(LinkUp("token", None, "MQTT 5")))

    config = federation_config(mosquitto_broker.url, federation_name, {"count": 2, "cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path, reconnect) as running:
            first = ann.offered(1)
            for guest in (ann, bob):
                guest.say(update(first, [1.0] * SIZE))
            second = ann.offered(2)
            assert second.model.digest != first.model.digest
            for guest in (ann, bob):
                guest.say(update(second, [1.0] * SIZE), number=2)
            room.ended(running)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [2.0] * SIZE


# Large answers


def _pieces(payload: bytes) -> list[Chunk]:
    name = digest(payload)
    return [
        Chunk(digest=name, data=memoryview(payload[start : start + 1024]))
        for start in range(0, len(payload), 1024)
    ]


def _announcing(guest: Guest, payload: bytes) -> None:
    offer = guest.offered(1)
    announce = Announce(
        run=offer.run,
        round=offer.round,
        digest=digest(payload),
        size_bytes=len(payload),
        chunk_bytes=1024,
    )
    guest.say(announce, part=ANNOUNCE)


def test_a_large_answer_is_taken_in_pieces_whatever_others_throw_in(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 1000
    config = federation_config(broker.url, federation_name, {"cohort": 2})
    with Room(broker.url, federation_name) as room:
        ann, eve = room.guests("ann", "eve")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = ann.offered(1)
            payload = encode(update(offer, [1.0] * size))
            pieces = _pieces(payload)
            _announcing(ann, payload)
            assert ann.go().ranges == ((0, len(pieces)),)
            # Eve sends a forged chunk of ann's answer, and some of an answer she never announced.
            forged = Chunk(digest=pieces[0].digest, data=memoryview(bytes(1024)))
            eve.say(forged, part="0")
            eve.say(Chunk(digest=Digest("cd" * 32), data=memoryview(bytes(9))), part="4000000000")
            for index in reversed(range(len(pieces))):
                ann.say(pieces[index], part=str(index))
                ann.say(pieces[index], part=str(index))
            assert ann.receipt().accepted
            eve.say(update(offer, [3.0] * size))
            assert eve.receipt().accepted
            room.ended(running)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [2.0] * size


def test_chunks_that_hold_no_update_are_refused_and_those_that_do_not_add_up_asked_for_again(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 1000
    config = federation_config(mosquitto_broker.url, federation_name, {"cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, eve = room.guests("ann", "eve")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = ann.offered(1)
            decline = encode(Decline(run=offer.run, round=RoundId(1), reason="x" * 400))
            for nonsense, why in (
                (b"\xc1" * 3000, "not a message we know"),
                (decline, "what the chunks add up to is no update"),
            ):
                _announcing(eve, nonsense)
                eve.go()
                for index, piece in enumerate(_pieces(nonsense)):
                    eve.say(piece, part=str(index))
                assert eve.receipt().reason.startswith(why)
            payload = encode(update(offer, [1.0] * size))
            pieces = _pieces(payload)
            _announcing(ann, payload)
            ann.go()
            damaged = Chunk(digest=pieces[0].digest, data=memoryview(bytes(1024)))
            for index, piece in enumerate([damaged, *pieces[1:]]):
                ann.say(piece, part=str(index))
            room.page("coordinator", lambda page: page.unreadable_messages == 3)
            # Nothing was counted, nothing was refused: it still owes the answer.
            assert not ann.has_mail
            _announcing(ann, payload)
            ann.go()
            for index, piece in enumerate(pieces):
                ann.say(piece, part=str(index))
            assert ann.receipt().accepted
            eve.say(update(offer, [1.0] * size))
            room.ended(running)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [1.0] * size


def test_a_client_cut_in_the_middle_of_its_upload_leaves_the_others_unharmed(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 1000
    config = federation_config(
        mosquitto_broker.url,
        federation_name,
        {"cohort": 3, "quorum": 2, "clients_min": 3, "away_grace_s": 0.1},
        transfer=Transfer(uploads_at_once=1, stall_s=0.1),
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob, eve = room.guests("ann", "bob", "eve")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = ann.offered(1)
            answers = {
                guest: encode(update(offer, [value] * size))
                for guest, value in ((ann, 1.0), (bob, 3.0), (eve, 9.0))
            }
            _announcing(eve, answers[eve])
            eve.go()
            eve.say(_pieces(answers[eve])[0], part="0")
            _announcing(ann, answers[ann])
            _announcing(bob, answers[bob])
            eve.leave()
            # Asked again and again in vain, eve loses the only slot.
            for guest in (ann, bob):
                guest.go()
                for index, piece in enumerate(_pieces(answers[guest])):
                    guest.say(piece, part=str(index))
                assert guest.receipt().accepted
            room.ended(running)
    (record,) = running.records
    assert (record.reason, record.dropped) == ("the rest is away", [eve.client])
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [2.0] * size


# Time and absence


def test_a_round_nobody_answered_keeps_the_model_says_why_and_is_tried_again(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url,
        federation_name,
        {"count": 2, "cohort": 2, "deadline_s": 0.2, "retry_s": 0.2},
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, _ = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            first, second = ann.offered(1), ann.offered(2)
            assert first.model == second.model
            room.ended(running)
    assert [(one.outcome, one.reason) for one in running.records] == [("kept", "deadline")] * 2
    assert [one.dropped for one in running.records] == [["ann", "bob"]] * 2
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [0.0] * SIZE


def test_who_declines_is_not_waited_for(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url, federation_name, {"cohort": 3, "clients_min": 3}
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob, cat = room.guests("ann", "bob", "cat")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = ann.offered(1)
            cat.say(Decline(run=offer.run, round=offer.round, reason="battery at 9 %"))
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
    (record,) = running.records
    assert record.reason == "nobody left to answer"
    assert record.declined == {cat.client: "battery at 9 %"}


def test_who_comes_back_is_told_how_long_the_round_still_waits(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(broker.url, federation_name, {"cohort": 2})
    with Room(broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = ann.offered(1)
            ann.leave()
            room.page("round", lambda page: page.away == [ann.client])
            ann.come(session="2")
            left = ann.time_left()
            assert left.round == 1 and 0 < left.closes_in_s <= offer.closes_in_s
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
    assert running.records[0].outcome == "averaged"


def test_who_is_silent_is_told_of_the_round_again_and_who_is_at_work_is_not(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(broker.url, federation_name, {"cohort": 3, "clients_min": 3})
    with Room(broker.url, federation_name) as room:
        ann, bob, cat = room.guests("ann", "bob", "cat")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = bob.offered(1)
            at_work = Presence(
                online=True,
                session="1",
                task=offer.task,
                purposes=("train", "evaluate"),
                draws=True,
                activity=Activity(doing="training", round=offer.round),
            )
            bob.shout(PresenceOf(bob.client), encode(at_work))
            cat.say(update(offer, [1.0] * SIZE))
            room.wait(lambda: bool(ann.reminders))
            # As it stands on the board, but for the time that is left, and for other names.
            again = ann.reminders[0]
            assert (again.train, again.evaluate) == ((ann.client,), ())
            assert again.closes_in_s < offer.closes_in_s
            same = msgspec.structs.replace(
                offer, train=again.train, evaluate=(), closes_in_s=again.closes_in_s
            )
            assert again == same
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
            assert bob.receipt().accepted
    # What came before its receipt came before this.
    assert not bob.reminders and not cat.reminders
    assert running.records[0].answered == [ann.client, bob.client, cat.client]


def test_a_round_opens_only_when_its_quorum_can_be_met(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url, federation_name, {"cohort": 3, "quorum": 3, "clients_min": 1}
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, *_ = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path):
            room.page("coordinator", lambda page: page.says.endswith("2 willing, 3 needed"))
            room.guests("cat")
            assert len(ann.offered(1).train) == 3


# Evaluation


def test_clients_that_train_and_measure_give_each_round_its_figures(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(
        mosquitto_broker.url,
        federation_name,
        {"count": 2, "cohort": 3, "clients_min": 3},
        evaluation=Evaluation(every=1, clients=0),
    )
    matrices = (((3, 1), (0, 0)), ((0, 0), (2, 2)), ((1, 0), (0, 1)))
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = room.guests("ann", "bob", "cat")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            for number in (1, 2):
                offer = guests[0].offered(number)
                assert offer.evaluate == offer.train
                for guest, matrix in zip(guests, matrices, strict=True):
                    measures = Measures(
                        sample_count=sum(map(sum, matrix)), metrics={"loss": 0.5}, confusion=matrix
                    )
                    answer = update(offer, [1.0] * SIZE, measures=measures, metrics={"loss": 1.5})
                    guest.say(answer, number=number)
            # 7 of 10 are right.
            model = room.page("model", lambda page: page.figures_round == 2)
            assert model.figures.metrics["accuracy"] == 0.7
            last = guests[0].offered(3)
            assert last.train == () and len(last.evaluate) == 3
            for guest in guests:
                measures = Measures(sample_count=2, confusion=((1, 0), (0, 1)))
                guest.say(
                    EvaluationMessage(
                        run=last.run, round=last.round, base=last.model.digest, measures=measures
                    ),
                    number=3,
                )
            room.ended(running)
        history = room.page("history", lambda page: len(page.rounds) == 3)
    figures = [line.figures.metrics["accuracy"] for line in history.rounds]
    assert figures == [0.7, 0.7, 1.0]
    assert [one.outcome for one in running.records] == ["averaged", "averaged", "evaluated"]
    assert running.records[0].figures is not None
    assert running.records[0].figures.confusion == ((4, 1), (2, 3))
    assert running.records[0].train_metrics == {"loss": 1.5}
    assert running.service.totals.rounds == 2


def test_who_was_not_asked_to_measure_has_no_say_in_the_figures(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(mosquitto_broker.url, federation_name, {"cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = ann.offered(1)
            assert offer.evaluate == ()
            splendid = Measures(sample_count=9, metrics={"accuracy": 1.0})
            ann.say(update(offer, [1.0] * SIZE, measures=splendid))
            bob.say(update(offer, [1.0] * SIZE))
            room.ended(running)
    assert running.records[0].figures is None


# What the broker does


def test_a_small_packet_limit_makes_small_chunks_and_small_pages(
    federation_name: str, tmp_path: Path
) -> None:
    limit, size, port = 20_000, 30_000, free_port()
    url = f"mqtt://127.0.0.1:{port}"
    with mosquitto_at(port, f"max_packet_size {limit}"), Room(url, federation_name) as room:
        # Long names: a page with all of them would be too large for one packet.
        crowd = room.guests("ann", "bob")
        for number in range(400):
            crowd[0].shout(
                PresenceOf(ClientId(f"{'long' * 14}-{number:03}")),
                encode(Presence(online=True, session="1", task="another")),
            )
        config = federation_config(url, federation_name, {"cohort": 2})
        with room.coordinating(config, zeros(size), tmp_path) as running:
            offer = crowd[0].offered(1)
            assert offer.model.chunk_bytes < limit
            room.page("clients", lambda page: page.hindered)
            for guest in crowd:
                payload = encode(update(offer, [1.0] * size))
                _announcing(guest, payload)
                guest.go()
                for index, piece in enumerate(_pieces(payload)):
                    guest.say(piece, part=str(index))
                assert guest.receipt().accepted
            room.ended(running)
        assert all(len(one.payload) < limit for one in room.traffic)
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [1.0] * size


def test_a_broker_that_restarts_and_forgets_all_is_told_all_again(
    federation_name: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    config = federation_config(url, federation_name, {"cohort": 2})
    with mosquitto_at(port) as first, Room(url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = ann.offered(1)
            ann.say(update(offer, [1.0] * SIZE))
            assert ann.receipt().accepted
            room.page("round", lambda page: page.answered == [ann.client])
            first.kill()
            first.wait()
            room.wait(lambda: not ann.link.is_up and not bob.link.is_up)
            room.forget()
            with mosquitto_at(port):
                room.wait(lambda: any(isinstance(a.address, OfferBoard) for a in room.traffic))
                room.wait(lambda: bool(room.model_chunks()))
                room.page("model")
                room.page("round", lambda page: page.answered == [ann.client])
                room.wait(lambda: bob.link.is_up)
                bob.say(update(offer, [3.0] * SIZE))
                assert bob.receipt().accepted
                room.ended(running)
    assert running.records[0].answered == ["ann", "bob"]
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [2.0] * SIZE


def test_two_runs_have_two_names_even_in_folders_of_one_name(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    runs: list[str] = []
    config = federation_config(mosquitto_broker.url, federation_name, {"cohort": 2})
    for parent in ("first", "second"):
        with Room(mosquitto_broker.url, federation_name) as room:
            ann, _ = room.guests("ann", "bob")
            with room.coordinating(config, zeros(SIZE), tmp_path / parent / ("run" * 80)):
                runs.append(ann.offered(1).run)
    assert runs[0] != runs[1]


# What people see


def test_a_new_run_begins_without_the_round_and_the_participation_of_the_one_before(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    rounds = {"cohort": 2, "clients_min": 2}
    config = federation_config(mosquitto_broker.url, federation_name, rounds)
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(SIZE), tmp_path / "one") as running:
            offer = ann.offered(1)
            for guest in (ann, bob):
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
        room.page("round", lambda page: not page.open)
        room.page("participation", lambda page: page.rounds == [1])
        bob.leave()
        with room.coordinating(config, zeros(SIZE), tmp_path / "two"):
            room.page("coordinator", lambda page: page.run == "two" and page.state == "waiting")
            room.wait(lambda: not {"round", "participation"} & room.page_names)
            room.page("history", lambda page: not page.rounds)


def test_pages_are_said_at_intervals_and_not_at_every_message(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    names = [f"client-{number}" for number in range(40)]
    config = federation_config(
        mosquitto_broker.url, federation_name, {"cohort": len(names), "clients_min": len(names)}
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        guests = room.guests(*names)
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            began = running.loop.now()
            offer = guests[0].offered(1)
            for guest in guests:
                guest.say(update(offer, [1.0] * SIZE))
            room.ended(running)
            lasted = running.loop.now() - began
        room.page("round", lambda page: not page.open)
        said = [one for one in room.traffic if one.address == StatusPage("round")]
    # However long it took on this machine: one an interval, and the last words.
    assert len(said) <= lasted / 0.5 + 2


def test_the_log_names_the_broker_without_its_password(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    url = mosquitto_broker.url.replace("//", "//ada:secret@")
    config = federation_config(url, federation_name, {"cohort": 2})
    with (
        Room(mosquitto_broker.url, federation_name) as room,
        room.coordinating(config, zeros(SIZE), tmp_path),
    ):
        room.page("coordinator")
    assert any("connected to mqtt://ada@" in line for line in caplog.messages)
    assert not any("secret" in line for line in caplog.messages)
