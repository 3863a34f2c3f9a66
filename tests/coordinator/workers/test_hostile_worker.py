"""A worker that says nonsense, at a real coordinator: it is in no sum, and stops nobody."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from broker_config.local_broker import RunningBroker
from coordinator import deciding
from coordinator.config import FederationConfig, Workers
from coordinator.workers.program import PROGRAM
from fedmqtt import messages, weights
from fedmqtt.messages import (
    AnyMessage,
    Chunk,
    Claimed,
    Claims,
    Lanes,
    Measures,
    Offer,
    Passed,
    Sum,
    SumPiece,
    Term,
    Verdicts,
    Working,
)
from fedmqtt.topics import ClientId, Digest, LanesOf, RoundId, RunId, WorkOf, lane_of
from tests.coordinator.guests import Guest, Room, federation_config, update, zeros

pytestmark = pytest.mark.broker

_LANES = 4
_WORKER = ClientId("w0")
_ZEROS = np.zeros(2, "<i8")
_ANNS = Term(ClientId("ann"), 10, {}, "full", 8, None)
_RAGGED = Measures(sample_count=3, confusion=((1, 2), ()))
_NO_CLAIMS: list[dict[str, Any]] = [
    {"loss": math.nan},
    {"loss": -math.inf},
    {"sample_count": 2**53},
]
_NO_SUMS = [
    # Too short.
    (_ANNS, np.zeros(1, "<i8")),
    # Of another's answer.
    (structs.replace(_ANNS, client=ClientId("bob")), _ZEROS),
    # Of more samples than anybody may have.
    (structs.replace(_ANNS, samples=2**53), _ZEROS),
    # With figures that are none, in the round's record for ever.
    (structs.replace(_ANNS, metrics={"loss": math.nan}), _ZEROS),
    (structs.replace(_ANNS, measures=_RAGGED), _ZEROS),
    # By a codec that nobody was asked for, on the pages for ever.
    (structs.replace(_ANNS, codec="\x1b[2J"), _ZEROS),
    # Of more bytes than can be added up: twice that is no number of a page.
    (structs.replace(_ANNS, size_bytes=2**63), _ZEROS),
    # Further away than her samples can be.
    (_ANNS, np.array([0, -(2**63)], "<i8")),
]


class Nonsense:
    """A worker's place, and what is said to it there."""

    def __init__(self, room: Room, guest: Guest, config: FederationConfig) -> None:
        self._room = room
        self._guest = guest
        self._settings = deciding.digest(config)
        self._connections = 0
        self.session = ""
        self._number = 0

    def say(self, message: AnyMessage) -> None:
        self.shout(messages.encode(message))

    def shout(self, payload: bytes) -> None:
        self._guest.link.publish(WorkOf(_WORKER), payload)

    @property
    def told(self) -> list[Lanes | Verdicts]:
        return [
            messages.read_to_worker(one.payload)
            for one in self._room.traffic
            if one.address == LanesOf(_WORKER)
        ]

    @property
    def lanes(self) -> list[Lanes]:
        return [one for one in self.told if isinstance(one, Lanes)]

    def begin(self) -> None:
        """It comes anew. All lanes are its own, and it says that it listens to them."""
        self._connections += 1
        heard = len(self.lanes)
        self._here("", 0)
        self._room.wait(lambda: len(self.lanes) > heard)
        self.session, self._number = self.lanes[-1].session, 0
        heard = len(self.lanes)
        self._here(self.session, self.lanes[-1].version)
        self._room.wait(lambda: len(self.lanes) > heard)
        assert self.lanes[-1].lanes == tuple(range(_LANES))

    def _here(self, session: str, version: int) -> None:
        here = Working(
            token=f"{self._connections:016x}",
            program=PROGRAM,
            settings=self._settings,
            session=session,
            version=version,
        )
        self.say(here)

    def number(self) -> int:
        self._number += 1
        return self._number

    def is_collected(self) -> bool:
        """Whether its sum is wanted, in this session."""
        return any(
            isinstance(one, Verdicts) and one.collects and one.session == self.session
            for one in self.told
        )

    def is_over(self) -> bool:
        """Whether it was given another session."""
        return self.lanes[-1].session != self.session


def test_a_worker_that_says_nonsense_stops_nobody(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    rounds = {"cohort": 2, "quorum": 2, "clients_min": 2}
    workers = Workers(lanes=_LANES, hand_over_s=0.0)
    config = federation_config(mosquitto_broker.url, federation_name, rounds, workers=workers)
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        worker = Nonsense(room, room.guest("mallory"), config)
        with room.coordinating(config, zeros(2), tmp_path / "run") as coordinator:
            offer = ann.offered(1)
            assert offer.lanes == _LANES
            worker.begin()
            # What nobody can read; what is no part of an answer; a Go that is none.
            worker.shout(b"\xc1\x00")
            chunk = messages.encode(Chunk(digest=Digest("b" * 64), data=memoryview(b"1")))
            for part, payload in (("x", chunk), ("7", b"\x80"), ("", b"\x80"), ("a/b", chunk)):
                worker.say(
                    Passed(
                        session=worker.session,
                        number=worker.number(),
                        client=ann.client,
                        round=RoundId(1),
                        part=part,
                        payload=memoryview(payload),
                    )
                )
            # A sum that nobody has asked for.
            _hand_over(worker, _ANNS, _ZEROS, offer.run, bits=20)
            room.wait(worker.is_over)
            for wrong in _NO_CLAIMS:
                worker.begin()
                _claim(worker, ann, offer, **wrong)
                room.wait(worker.is_over)
            for term, numbers in _NO_SUMS:
                worker.begin()
                _claim(worker, ann, offer)
                room.wait(worker.is_collected)
                bits = next(one.bits for one in reversed(worker.told) if isinstance(one, Verdicts))
                _hand_over(worker, term, numbers, offer.run, bits)
                room.wait(worker.is_over)
            # The coordinator listened to the lanes again before it said so.
            # What it passed on in her name.
            assert ann.receipt().reason.startswith("not a message we know")
            for guest in (ann, bob):
                guest.say(update(offer, [1.0, 3.0]), lane=lane_of(guest.client, _LANES))
                assert guest.receipt().accepted
            room.ended(coordinator)
    (record,) = coordinator.records
    assert record.outcome == "averaged" and record.answered == ["ann", "bob"]


def _claim(worker: Nonsense, guest: Guest, offer: Offer, **wrong: Any) -> None:
    good = Claimed(
        guest.client,
        offer.run,
        RoundId(1),
        offer.model.digest,
        offer.model.fingerprint,
        fault="",
        excused=False,
        checked=True,
        sample_count=10,
        loss=None,
        digest=Digest("c" * 64),
        key=b"",
    )
    claims = (structs.replace(good, **wrong),)
    worker.say(Claims(session=worker.session, number=worker.number(), claims=claims))


def _hand_over(
    worker: Nonsense, term: Term, numbers: NDArray[np.int64], run: RunId, bits: int
) -> None:
    summed = Sum(
        run=run,
        round=RoundId(1),
        bits=bits,
        weight=term.samples,
        terms=(term,),
        payload=memoryview(numbers.tobytes()),
    )
    encoded = messages.encode(summed)
    worker.say(
        SumPiece(
            session=worker.session,
            number=worker.number(),
            index=0,
            count=1,
            digest=weights.digest(encoded),
            data=memoryview(encoded),
        )
    )
