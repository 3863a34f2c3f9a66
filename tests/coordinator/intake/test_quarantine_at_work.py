"""Clients that flood or send nonsense, beside honest ones, at a real Mosquitto."""

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.flood import flooding
from broker_config.local_broker import RunningBroker
from coordinator.commands import quarantine_command
from coordinator.config import FederationConfig, Limits
from coordinator.intake import quarantine_file
from fedmqtt.event_loop import Timer
from fedmqtt.messages import Offer
from fedmqtt.status_pages import ClientsPage
from fedmqtt.topics import ClientId, RoundId, UpdatePart
from tests.coordinator.guests import Guest, Room, federation_config, update, zeros

pytestmark = pytest.mark.broker

SIZE = 4
MALLORY = ClientId("mallory")
GOOD = [1.0] * SIZE

Config = Callable[..., FederationConfig]


@pytest.fixture
def config(mosquitto_broker: RunningBroker, federation_name: str) -> Config:
    def made(rounds: int, clients: int, **limits: Any) -> FederationConfig:
        return federation_config(
            mosquitto_broker.url,
            federation_name,
            {"count": rounds, "cohort": clients, "clients_min": clients, "quorum": 1},
            limits=Limits(**limits),
        )

    return made


@pytest.fixture
def room(mosquitto_broker: RunningBroker, federation_name: str) -> Iterator[Room]:
    with Room(mosquitto_broker.url, federation_name) as room:
        yield room


@pytest.fixture
def quiet_room(mosquitto_broker: RunningBroker, federation_name: str) -> Iterator[Room]:
    """In which nobody listens to a flood but the coordinator."""
    with Room(mosquitto_broker.url, federation_name, watches="status/#") as room:
        yield room


def order(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `fedmqtt quarantine` says on stdout."""
    parser = argparse.ArgumentParser()
    quarantine_command.add_arguments(parser)
    assert quarantine_command.run(parser.parse_args(words)) == 0
    return capsys.readouterr().out


def is_out(name: ClientId) -> Callable[[ClientsPage], bool]:
    return lambda page: name in page.quarantined


def answer(offer: Offer, guest: Guest, change: list[float]) -> None:
    guest.say(update(offer, change), number=offer.round)


def insist(room: Room, guest: Guest, offer: Offer) -> None:
    """Until there is a receipt, as a client does: what a full queue lost must be said again."""

    timers: list[Timer] = []

    def say() -> None:
        answer(offer, guest, GOOD)
        timers.append(room.loop.call_in(2.0, say))

    say()
    while (told := guest.receipt()).round != offer.round:
        assert told.accepted
    timers[-1].cancel()
    assert told.accepted


def test_who_sends_only_junk_is_shut_out_until_it_is_lifted(
    room: Room,
    config: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    ann, mallory = room.guests("ann", "mallory")
    with room.coordinating(config(3, 2, strikes=3), zeros(SIZE), tmp_path) as running:
        first = ann.offered(1)
        assert mallory.client in first.train
        for i in range(3):
            mallory.shout(mallory.to(), b"\xc1")
            refused = mallory.receipt()
            assert refused.blamed and "not a message we know" in refused.reason, i
        answer(first, ann, GOOD)
        # The round does not wait for it, and the next ones go without; with one client there are
        # too few for those.
        page: ClientsPage = room.page("clients", is_out(MALLORY))
        assert "3 messages refused in 1 second" in page.quarantined[MALLORY].why
        assert ann.receipt().accepted
        room.page("coordinator", lambda page: "1 in quarantine" in page.says)
        # What it says is refused with the reason, unread.
        answer(first, mallory, GOOD)
        told = mallory.receipt()
        assert not told.accepted and told.reason.startswith("in quarantine until ")
        listed = order(capsys, "--run", str(tmp_path))
        assert listed.startswith("mallory  until ") and "not a message we know" in listed
        order(capsys, "lift", "mallory", "--run", str(tmp_path))
        # It need not say that it is there: what lies there as its presence is looked for.
        second = mallory.offered(2)
        assert second.train == (ann.client, mallory.client)
        for guest in (ann, mallory):
            answer(second, guest, GOOD)
            assert guest.receipt().accepted
        room.page("clients", lambda page: MALLORY not in page.quarantined)
        order(capsys, "add", "mallory", "--for", "2h", "--why", "a test", "--run", str(tmp_path))
        room.page("clients", is_out(MALLORY))
        running.stop()
    assert [record.answered for record in running.records[:2]] == [["ann"], ["ann", "mallory"]]
    assert list(running.records[0].quarantined) == ["mallory"]
    logged = [line for line in caplog.messages if line.startswith("mallory")]
    assert len([line for line in logged if "not a message we know" in line]) == 2
    assert any("is in quarantine until" in line for line in logged)
    assert "mallory is out of quarantine: it was lifted by hand" in logged
    assert any(line.endswith(": a test") for line in logged)


def test_whose_task_does_not_fit_the_model_is_named_and_shut_out(
    room: Room, config: Config, tmp_path: Path
) -> None:
    ann, bob = room.guests("ann", "bob")
    with room.coordinating(config(4, 2, strikes=3), zeros(SIZE), tmp_path) as running:
        for number in (1, 2, 3):
            offer = bob.offered(number)
            bob.say(update(offer, GOOD, fingerprint="f" * 16), number=number)
            refused = bob.receipt()
            assert refused.blamed and "tensors of another task" in refused.reason
            if number == 1:
                page = room.page("clients", lambda page: "bob" in page.refused)
                assert "1 refused lately, the last: tensors of another task" in page.refused["bob"]
            answer(offer, ann, GOOD)
            assert ann.receipt().accepted
        page = room.page("clients", is_out(bob.client))
        assert "tensors of another task" in page.quarantined[bob.client].why
        running.stop()


def test_late_uninvited_and_repeated_answers_are_no_strikes(
    room: Room, config: Config, tmp_path: Path
) -> None:
    ann, bob = room.guests("ann", "bob")
    with room.coordinating(config(2, 2, strikes=1), zeros(SIZE), tmp_path) as running:
        first = ann.offered(1)
        cat = room.guest("cat")
        answer(first, cat, GOOD)
        assert "not invited" in cat.receipt().reason
        for guest in (ann, ann, bob):
            answer(first, guest, GOOD)
            assert guest.receipt().accepted
        cat.come()
        second = ann.offered(2)
        ann.say(update(first, GOOD, run="another"), number=1)
        assert "is over" in ann.receipt().reason
        bob.say(update(first, GOOD), number=1)
        assert bob.receipt().accepted
        cat.say(update(first, GOOD), number=1)
        assert "late" in cat.receipt().reason
        for guest in (ann, bob):
            answer(second, guest, GOOD)
            assert guest.receipt().accepted
        room.ended(running)
    assert [record.quarantined for record in running.records[:2]] == [{}, {}]


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "junk"),
        ("--kind", "junk", "--qos", "1"),
        ("--kind", "chunks", "--size", "20000"),
        ("--kind", "presence", "--qos", "1"),
    ],
    ids=" ".join,
)
def test_rounds_go_on_while_one_client_floods(
    quiet_room: Room, config: Config, tmp_path: Path, words: tuple[str, ...]
) -> None:
    room = quiet_room
    ann, bob = room.guests("ann", "bob")
    with (
        flooding(str(room.url), room.federation, *words),
        room.coordinating(config(3, 2), zeros(SIZE), tmp_path) as running,
    ):
        for number in (1, 2, 3):
            offer = ann.offered(number)
            for guest in (ann, bob):
                insist(room, guest, offer)
        room.ended(running)
    assert [record.answered for record in running.records] == [["ann", "bob"]] * 3
    assert "mallory" in quarantine_file.load(tmp_path)


def test_a_topic_where_nothing_belongs_is_junk_too(
    room: Room, config: Config, tmp_path: Path
) -> None:
    mallory, *_ = room.guests("mallory", "ann")
    with room.coordinating(config(1, 2, strikes=2), zeros(SIZE), tmp_path) as running:
        mallory.offered(1)
        for _ in range(3):
            # As `fedmqtt doctor` does, which is no strike.
            mallory.shout(UpdatePart(0, MALLORY, RoundId(0), "doctor-1"), b"")
        for _ in range(2):
            mallory.shout(UpdatePart(0, MALLORY, RoundId(1), "nowhere"), b"")
        page = room.page("clients", is_out(MALLORY))
        assert "1/nowhere" in page.quarantined[MALLORY].why
        running.stop()


def test_a_newcomer_is_heard_while_the_door_is_closed(
    quiet_room: Room, config: Config, tmp_path: Path
) -> None:
    room = quiet_room
    ann, bob = room.guests("ann", "bob")
    with (
        flooding(str(room.url), room.federation),
        room.coordinating(config(2, 2), zeros(SIZE), tmp_path) as running,
    ):
        room.page("clients", is_out(MALLORY))
        offer = ann.offered(1)
        cat = room.guest("cat")
        cat.come()
        room.page("clients", lambda page: "cat" in page.online)
        for guest in (ann, bob):
            insist(room, guest, offer)
        running.stop()


@contextmanager
def _as_a_program(config_file: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = ["-m", "fedmqtt", "coordinator", str(config_file), "--run", str(folder)]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)


def test_a_coordinator_that_is_killed_lets_nobody_out(
    room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, run = tmp_path / "federation.toml", tmp_path / "run"
    settings.write_text(
        f'name = "{room.federation}"\ntask = "learning_tasks.linear"\n'
        f'[broker]\nurl = "{room.url}"\n'
        "[rounds]\nclients_min = 1\nquorum = 1\ncohort = 1\n[limits]\nstrikes = 2\n"
    )
    mallory = room.guest("mallory")
    with _as_a_program(settings, run):
        mallory.come(task="learning_tasks.linear")
        mallory.offered(1)
        for _ in range(2):
            mallory.shout(mallory.to(), b"\xc1")
        room.page("clients", is_out(MALLORY))
    room.forget()
    mallory.offers.clear()
    with _as_a_program(settings, run):
        room.page("clients", is_out(MALLORY))
        mallory.shout(mallory.to(), b"\xc1")
        while not (told := mallory.receipt()).reason.startswith("in quarantine until"):
            assert "not a message we know" in told.reason
        # Given while it lives, and kept when it is killed again.
        order(capsys, "lift", "mallory", "--run", str(run))
        room.page("clients", lambda page: MALLORY not in page.quarantined)
    room.forget()
    with _as_a_program(settings, run):
        room.page("clients", lambda page: MALLORY in page.online and not page.quarantined)


def test_who_is_in_quarantine_is_one_line_at_each_start(
    room: Room, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However much of it lies on the broker."""
    caplog.set_level(logging.INFO, "coordinator")
    _, mallory = room.guests("ann", "mallory")

    def shouts(last: str) -> None:
        for number in (1, 2, 3):
            mallory.shout(mallory.to(number=number), b"\xc1")
        mallory.shout(mallory.to("nowhere"), b"")
        mallory.shout(mallory.to(last), b"")
        room.page("coordinator", lambda page: any(last in one for one in page.refusals))

    with room.coordinating(config(2, 2, strikes=2), zeros(SIZE), tmp_path) as running:
        mallory.offered(1)
        shouts("before")
        room.page("clients", is_out(MALLORY))
        running.stop()
        room.ended(running)
    for last in ("once", "again"):
        room.forget()
        caplog.clear()
        with room.coordinating(config(2, 2, strikes=2), None, tmp_path) as running:
            room.page("clients", is_out(MALLORY))
            shouts(last)
            running.stop()
        (line,) = [line for line in caplog.messages if line.startswith("mallory")]
        assert line.startswith("mallory: in quarantine until ")
        assert line.endswith("; what it says can wait")


def test_an_order_that_was_given_while_nobody_ran_is_carried_out(
    room: Room, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = room.guests("ann", "bob")
    with room.coordinating(config(2, 2), zeros(SIZE), tmp_path) as running:
        ann.offered(1)
        running.stop()
        room.ended(running)
    order(capsys, "add", "bob", "--why", "a test", "--run", str(tmp_path))
    assert "bob  until it is lifted: a test" in order(capsys, "list", "--run", str(tmp_path))
    room.forget()
    with room.coordinating(config(2, 2), None, tmp_path) as running:
        room.page("clients", is_out(bob.client))
        # Nobody waits for it.
        answer(ann.offers[-1] or ann.offered(1), ann, GOOD)
        assert ann.receipt().accepted
        running.stop()
