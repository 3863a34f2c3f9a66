"""A standby on another machine goes on with the same round: the ledger is on a server.

Another machine is another folder here: nothing but the broker and the server is shared.
"""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import encode
from tests.coordinator.guests import Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    Federation,
    answer,
    answer_all,
    back,
    come,
    kill,
    send_in_chunks,
    undisturbed,
)
from tests.own_object_store import Store
from tests.own_postgresql import Server

pytestmark = pytest.mark.broker


def machine(url: str, name: str, folder: Path, size: int = 4, more: str = "") -> Federation:
    folder.mkdir()
    return Federation(url, name, folder, size, more)


_ROUNDS = ("--set", "rounds.count=3")
_WITH_MEMORY = ("--set", "aggregation=fedadam", "--set", "downlink_codec=int8")
"""Beside the model, what the strategy remembers is needed, and what clients were given for it."""


@pytest.mark.parametrize("words", [(), _WITH_MEMORY], ids=["mean", "memory"])
@pytest.mark.parametrize("models", ["in the ledger", "in a store"])
def test_killed_in_the_middle_of_a_round_the_other_machine_ends_it_to_the_last_bit(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    database: str,
    words: tuple[str, ...],
    models: str,
    request: pytest.FixtureRequest,
) -> None:
    url, ledger = mosquitto_broker.url, ("--set", f"ledger={database}", *words, *_ROUNDS)
    if models == "in a store":
        store: Store = request.getfixturevalue("object_store")
        address = request.getfixturevalue("store_address")
        ledger += ("--set", f"checkpoint.store={address}")
        ledger += ("--set", f"checkpoint.endpoint={store.endpoint}")
    here = machine(url, federation_name, tmp_path / "here")
    there = machine(url, federation_name, tmp_path / "there")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with here.coordinating(*ledger) as program:
            answer_all((ann, bob, cat), ann.offered(1))
            second = ann.offered(2)
            answer(ann, second)
            with there.coordinating("--standby", *ledger) as standby:
                standby.wait_for("standing by: run ")
                answer(bob, second)
                kill(room, program)
                again = back(room, cat, second)
                assert (again.run, again.round, again.model) == (second.run, 2, second.model)
                assert again.train == ("cat",), "ann and bob have their receipts"
                # Said again, its answer is no second one.
                answer(ann, second)
                answer(cat, second)
                answer_all((ann, bob, cat), ann.offered(3))
                room.wait(lambda: standby.process.poll() is not None)
                assert standby.wait() == 0, standby.log
                assert "finished after 3 rounds: 9 of 9 invited answered" in standby.said
        assert "botocore" not in standby.log and "Traceback" not in standby.log, standby.log
    assert there.run.name == here.run.name
    records = history.read(there.run / "history.jsonl")
    all_three = ["ann", "bob", "cat"]
    assert [(one.outcome, one.answered) for one in records] == [("averaged", all_three)] * 3
    alone = (f"{federation_name}-u", tmp_path / "undisturbed")
    assert there.model == undisturbed(url, *alone, *words, *_ROUNDS, count=3)


def test_models_and_large_answers_are_there_too(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, database: str
) -> None:
    size = 10_000
    url, ledger = mosquitto_broker.url, ("--set", f"ledger={database}")
    in_chunks = "[transfer]\nchunk_bytes = 4096\n"
    here = machine(url, federation_name, tmp_path / "here", size, in_chunks)
    there = machine(url, federation_name, tmp_path / "there", size, in_chunks)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with here.coordinating(*ledger) as program:
            for number in (1, 2):
                offer = guests[0].offered(number)
                # Of the second round, two of three: the third is sent to the other machine.
                for guest in guests[: 4 - number]:
                    send_in_chunks(guest, encode(update(offer, [0.25] * size)), offer)
            kill(room, program)
        with there.coordinating(*ledger) as program:
            again = back(room, guests[2], offer)
            assert (again.round, again.train) == (2, (str(guests[2].client),))
            send_in_chunks(guests[2], encode(update(again, [0.25] * size)), again)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    assert here.model != there.model
    records = history.read(there.run / "history.jsonl")
    assert [len(one.answered) for one in records] == [3, 3]


def test_who_was_cut_off_from_the_server_writes_nothing_more(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    database: str,
    postgresql: Server,
) -> None:
    url, ledger = mosquitto_broker.url, ("--set", f"ledger={database}")
    here = machine(url, federation_name, tmp_path / "here")
    there = machine(url, federation_name, tmp_path / "there")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with here.coordinating(*ledger) as program, ExitStack() as stack:
            # Of two that begin at once the standby may be the one that gets the run.
            first = ann.offered(1)
            standby = stack.enter_context(there.coordinating("--standby", *ledger))
            standby.wait_for("standing by: run ")
            answer(ann, first)
            program.process.send_signal(signal.SIGSTOP)
            postgresql.run(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'"
                f" AND database = (SELECT oid FROM pg_database WHERE datname = '{_name(database)}')"
            )
            back(room, cat, first)
            answer(bob, first)
            # It wakes up, and does not know of all that.
            program.process.send_signal(signal.SIGCONT)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 2, program.log
            assert "Traceback" not in program.log
            answer(cat, first)
            answer_all((ann, bob, cat), ann.offered(2))
            room.wait(lambda: standby.process.poll() is not None)
            assert standby.wait() == 0, standby.log
    assert there.model == undisturbed(url, f"{federation_name}-u", tmp_path / "undisturbed")


def _name(database: str) -> str:
    return database.rpartition("/")[2]


def test_rounds_go_on_when_the_server_has_been_away(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, own_server: Server
) -> None:
    url = mosquitto_broker.url
    here = machine(url, federation_name, tmp_path / "here")
    with Room(url, federation_name) as room:
        ann, bob, cat = guests = come(room, *CHANGES)
        with here.coordinating("--set", f"ledger={own_server.url()}") as program:
            first = ann.offered(1)
            answer(ann, first)
            own_server.stop(signal.SIGKILL)
            bob.say(update(first, CHANGES["bob"], 50), number=1)
            room.wait(lambda: "nothing is acknowledged until it is back" in program.log)
            own_server.start()
            assert bob.receipt().accepted
            answer(cat, first)
            answer_all(guests, ann.offered(2))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
            assert "is back after" in program.log and "Traceback" not in program.log
    assert here.model == undisturbed(url, f"{federation_name}-u", tmp_path / "undisturbed")


def test_a_password_in_the_settings_is_refused_and_not_repeated(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    here = machine(mosquitto_broker.url, federation_name, tmp_path / "here")
    asked = ("--set", "ledger=postgresql://ann:hunter2@server/fleet", "--print-config")
    with here.coordinating(*asked) as program:
        assert program.wait() == 2
    assert "ledger is 'postgresql://ann@server/fleet' with a password in it" in program.log
    assert "hunter2" not in program.log + program.said
