"""Masked rounds that wait for nobody: what is late is in the next sum, and counts for less."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import settings
from fedmqtt.messages import Offer, Open, Opened
from tests.coordinator.guests import Guest, Room, zeros
from tests.coordinator.masked_coordinator import Told
from tests.coordinator.masked_room import HOLDERS, Keys, answer, keyholders, masked_update
from tests.coordinator.masking.test_masked_rounds import config
from tests.coordinator.persistence.test_restart import back, kill
from tests.coordinator.test_asynchronous import invited
from tests.programs import Program, running

pytestmark = pytest.mark.broker

Mode = Literal["synchronous", "asynchronous"]
NAMES = tuple("abcdefghij")
CHANGES = {name: [0.5 - at / 16, -0.125 * (at % 3), at / 32] for at, name in enumerate(NAMES)}
SECOND = {"a": 4, "b": 4, "g": 4, "h": 3, "i": 3, "j": 3}
"""How often each is in the second sum. A fresh answer would be 8 times and one to the round before
6 times, which is 8 / sqrt 2; both are even. `g` gave both, and the newer one counts."""


class Federation:
    """One run's folder, and its coordinators."""

    def __init__(self, url: str, keys: Keys, folder: Path, quorum: int = 6, count: int = 2) -> None:
        self.folder = folder
        folder.mkdir()
        told = Told(keys.private, keys.trust.keyholders, size=3)
        (folder / "trust.json").write_bytes(msgspec.json.encode(told))
        rounds: dict[str, Any] = {"mode": "asynchronous", "concurrency": 10, "count": count}
        rounds |= {"cohort": 6, "quorum": quorum, "clients_min": 6}
        self._chosen = config(url, keys, **rounds)
        self._write_settings()

    def learns_by(self, learning_rate: float) -> None:
        """The coordinators that start from now on."""
        assert self._chosen.training.learning_rate != learning_rate
        training = structs.replace(self._chosen.training, learning_rate=learning_rate)
        self._chosen = structs.replace(self._chosen, training=training)
        self._write_settings()

    def goes_by(self, mode: Mode) -> None:
        """The same."""
        rounds = structs.replace(self._chosen.rounds, mode=mode)
        self._chosen = structs.replace(self._chosen, rounds=rounds)
        self._write_settings()

    def _write_settings(self) -> None:
        (self.folder / "federation.toml").write_text(settings.render(self._chosen))

    @contextmanager
    def coordinating(self) -> Iterator[Program]:
        with running(
            self.folder, "tests.coordinator.masked_coordinator", str(self.folder)
        ) as program:
            yield program

    @property
    def model(self) -> bytes:
        return load_file(self.folder / "run" / "model.safetensors")["w"].tobytes()

    @property
    def records(self) -> list[Record]:
        return history.read(self.folder / "run" / "history.jsonl")


def _answers(guests: Sequence[Guest], keys: Keys, offer: Offer) -> None:
    for guest in guests:
        answer(guest, keys, offer, CHANGES[guest.client])


def _ran(
    url: str,
    keys: Keys,
    folder: Path,
    killed: str = "",
    spoiled: str = "",
    divided: str = "",
) -> tuple[Federation, list[Open]]:
    """Two rounds, and the lists that keyholders were asked to open; the coordinator is killed at
    this moment, or what a client seals does not open, or opens to different seeds."""
    federation = Federation(url, keys, folder, quorum=3 if spoiled or divided else 6)
    with Room(url, keys.federation, seals=keys) as room, ExitStack() as lives:
        guests = room.guests(*NAMES, purposes=("train",))
        fast, slow = guests[:6], guests[6:]
        holders = keyholders(room, keys, *HOLDERS)
        program = lives.enter_context(federation.coordinating())
        first = guests[0].offered(1)
        assert first.asynchronous and first.masking is not None
        # As many as open a sum, and no more.
        named = [holders[one.name] for one in first.masking.keyholders]
        assert named == [holders["kh-a"], holders["kh-b"]]
        asked: list[Open] = []

        def dies(moment: str) -> None:
            nonlocal program
            if killed == moment:
                kill(room, program)
                program = lives.enter_context(federation.coordinating())

        _answers(fast, keys, first)
        asked += [holder.answer() for holder in named]
        second = fast[0].offered(2)
        # By the same keys: what was begun before counts.
        assert second.masking == first.masking
        for guest in slow:
            answer(
                *(guest, keys, first, CHANGES[guest.client]),
                spoiled_for=HOLDERS if guest.client == spoiled else (),
                divided_for=HOLDERS[1:2] if guest.client == divided else (),
            )
        answer(slow[0], keys, invited(room, slow[0], 2), [-value for value in CHANGES["g"]])
        answer(fast[0], keys, second, CHANGES["a"])
        if killed == "answering":
            dies("answering")
            second = back(room, fast[1], second)
        answer(fast[1], keys, second, CHANGES["b"])
        if killed == "asked":
            # They were told of the list, and one of them has opened it.
            before = [holder.next_list() for holder in named]
            named[0].guest.say(named[0].answer_to(before[0]), number=2)
            assert named[0].guest.receipt().accepted
            dies("asked")
        asked += [holder.answer() for holder in named]
        if killed == "asked":
            assert {one.digest for one in asked[2:]} == {one.digest for one in before}
        room.wait(lambda: program.process.poll() is not None)
        assert program.wait() == 0, program.log
    return federation, asked


def test_late_answers_are_in_the_next_sum_less_often(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    keys = Keys(federation_name, *HOLDERS)
    federation, asked = _ran(mosquitto_broker.url, keys, tmp_path / "run")
    first, _, second, _ = asked
    assert {entry.client: entry.times for entry in first.entries} == dict.fromkeys("abcdef", 1)
    assert {entry.client: entry.times for entry in second.entries} == SECOND
    assert [(one.round, one.count) for one in second.answered] == [(1, 3), (2, 3)]
    taken = [one.masked.exchange for whole in (first, second) for one in whole.entries]
    assert len({*taken}) == len(taken) == 12
    means = [
        np.average(np.array([CHANGES[name] for name in weights]) * signs, 0, [*weights.values()])
        for weights, signs in (
            (dict.fromkeys("abcdef", 1), 1),
            (SECOND, np.array([[1], [1], [-1], [1], [1], [1]])),
        )
    ]
    model = np.frombuffer(federation.model, np.float32)
    np.testing.assert_allclose(model, sum(means), atol=1e-4)
    assert [one.outcome for one in federation.records] == ["averaged", "averaged"]


@pytest.mark.parametrize("moment", ["answering", "asked"])
def test_killed_at_any_moment_it_asks_about_the_same_list_and_ends_with_the_same_bits(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, moment: str
) -> None:
    url = mosquitto_broker.url
    killed, _ = _ran(url, Keys(federation_name, *HOLDERS), tmp_path / "killed", moment)
    calm, _ = _ran(url, Keys(f"{federation_name}-u", *HOLDERS), tmp_path / "undisturbed")
    assert killed.model == calm.model


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("spoiled", "what it sealed does not hold, says kh-a and kh-b"),
        ("divided", "a seed that it sealed is not the one that it committed to, says kh-b"),
    ],
)
def test_who_is_unfit_is_left_out_and_the_others_count_as_often_as_they_may_then(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, how: str, says: str
) -> None:
    """Two late ones are too few to be told from the others."""
    keys = Keys(federation_name, *HOLDERS)
    federation, asked = _ran(mosquitto_broker.url, keys, tmp_path / "run", **{how: "h"})
    last = asked[-1]
    assert {entry.client: entry.times for entry in last.entries} == dict.fromkeys("abgij", 1)
    means = [
        np.mean([CHANGES[name] for name in "abcdef"], 0),
        np.mean([CHANGES[name] for name in "abij"] + [[-one for one in CHANGES["g"]]], 0),
    ]
    model = np.frombuffer(federation.model, np.float32)
    np.testing.assert_allclose(model, sum(means), atol=1e-4)
    assert federation.records[-1].unfit == {"h": says}


def test_what_comes_while_a_list_is_opened_waits_and_counts_no_more_with_other_keys(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    keys = Keys(federation_name, *HOLDERS)
    rounds: dict[str, Any] = {"mode": "asynchronous", "concurrency": 4, "count": 2}
    chosen = config(mosquitto_broker.url, keys, {"key_rounds": 1}, **rounds)
    with Room(mosquitto_broker.url, federation_name, seals=keys) as room:
        *fast, slow = room.guests("a", "b", "c", "d", purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running_:
            first = slow.offered(1)
            assert first.masking is not None and first.masking.lists_max == 1
            _answers(fast, keys, first)
            named = [holders[one.name] for one in first.masking.keyholders]
            late = masked_update(keys, slow.client, first, CHANGES["d"])
            lists = [holder.next_list() for holder in named]
            # Nothing is said of it: it is sent again.
            slow.say(late, number=1)
            for holder, whole in zip(named, lists, strict=True):
                holder.guest.say(holder.answer_to(whole), number=1)
                assert holder.guest.receipt().accepted
            second = fast[0].offered(2)
            assert second.masking is not None
            assert {one.key.number for one in second.masking.keyholders} == {2}
            slow.say(late, number=1)
            refused = slow.receipt()
            assert refused.reason == "late: round 1 was masked by keys that open no sum any more"
            _answers(fast, keys, second)
            for holder in named:
                holder.answer()
            room.ended(running_)
    assert [one.outcome for one in running_.records] == ["averaged", "averaged"]


def _keys_of(offer: Offer) -> list[tuple[str, int]]:
    assert offer.masking is not None
    return [(one.name, one.key.number) for one in offer.masking.keyholders]


def test_under_other_settings_the_next_round_has_keys_of_its_own(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    """A keyholder opens with one key no sums of answers that were asked for otherwise."""
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(mosquitto_broker.url, keys, tmp_path / "run", count=3)
    with Room(mosquitto_broker.url, federation_name, seals=keys) as room:
        guests = room.guests(*NAMES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            assert first.masking is not None
            _answers(guests[:6], keys, first)
            for name, _ in _keys_of(first):
                holders[name].answer()
            assert _keys_of(guests[0].offered(2)) == _keys_of(first) == [("kh-a", 1), ("kh-b", 1)]
            kill(room, program)
        federation.learns_by(0.5)
        with federation.coordinating() as program:
            third = guests[0].offered(3)
            assert third.masking is not None and third.masking.work != first.masking.work
            assert _keys_of(third) == [("kh-a", 2), ("kh-b", 2)]


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_a_round_of_the_other_mode_is_given_up_though_keyholders_know_its_list(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, mode: Mode
) -> None:
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(mosquitto_broker.url, keys, tmp_path / "run")
    federation.goes_by(mode)
    with Room(mosquitto_broker.url, federation_name, seals=keys) as room:
        guests = room.guests(*NAMES[:6], purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            _answers(guests, keys, first)
            for name, _ in _keys_of(first):
                holders[name].next_list()
            kill(room, program)
        federation.goes_by("asynchronous" if mode == "synchronous" else "synchronous")
        with federation.coordinating() as program:
            second = guests[0].offered(2)
            _answers(guests, keys, second)
            for name, _ in _keys_of(second):
                holders[name].answer()
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    assert [one.outcome for one in federation.records] == ["kept", "averaged"]


def test_keys_by_which_a_sum_was_not_opened_are_used_no_more(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    """A keyholder is there, and its state folder was lost."""
    keys = Keys(federation_name, *HOLDERS)
    federation = Federation(mosquitto_broker.url, keys, tmp_path / "run")
    with Room(mosquitto_broker.url, federation_name, seals=keys) as room:
        guests = room.guests(*NAMES, purposes=("train",))
        holders = keyholders(room, keys, *HOLDERS)
        lost = holders["kh-a"]
        with federation.coordinating() as program:
            first = guests[0].offered(1)
            assert _keys_of(first) == [("kh-a", 1), ("kh-b", 1)]
            lost.round_keys = lost.round_keys[4:]
            lost.come("2")
            looks, lost.guest.looks = (
                lost.guest.looks,
                lambda part: lost.guest.say(
                    Opened(
                        run=part.run,
                        round=part.round,
                        digest=part.digest,
                        refused="there is no key 1 of kh-a, or not any more",
                    ),
                    number=part.round,
                ),
            )
            _answers(guests[:6], keys, first)
            second = guests[0].offered(2)
            assert _keys_of(second) == [("kh-a", 5), ("kh-b", 2)]
            lost.guest.looks = looks
            _answers(guests[:6], keys, second)
            for name, _ in _keys_of(second):
                whole = holders[name].next_list()
                holders[name].guest.say(holders[name].answer_to(whole), number=2)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    one, other = federation.records
    assert one.outcome == "kept" and "kh-a opens no sum: there is no key 1" in one.reason
    assert other.outcome == "averaged"
