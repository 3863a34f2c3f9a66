"""Whole federations with workers: the same model, to the last bit, whoever adds the answers up."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from copy import copy
from pathlib import Path

import psycopg
import pytest
from safetensors.numpy import load_file

from broker_config import kit
from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.gated import Gated
from tests.programs import Program, running, wait_until
from tests.test_federation import (
    LINEAR,
    clients,
    coordinator_of,
    three_of_all,
    three_train,
    trained,
    write_config,
)

pytestmark = pytest.mark.broker

_WORKERS = "\n[workers]\nlanes = 16\nhand_over_s = 0.2\n"


def model_of(run: Path) -> dict[str, bytes]:
    return {name: each.tobytes() for name, each in load_file(run / "model.safetensors").items()}


def write_with_workers(folder: Path, federation: str, count: int, more: str = "") -> Path:
    config = write_config(folder, federation, LINEAR, three_of_all(count))
    config.write_text(config.read_text() + _WORKERS + more)
    return config


@contextmanager
def workers(folder: Path, config: Path, url: str, *names: str) -> Iterator[list[Program]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    folder,
                    *("fedmqtt", "worker", str(config), "--broker", url, "--name", name),
                    "--verbose",
                )
            )
            for name in names
        ]


def added_up(worker: Program) -> int:
    """By a worker that has ended."""
    return int(worker.said.split(" ", 1)[0])


@pytest.mark.parametrize("count", [1, 2])
def test_workers_make_the_model_that_the_coordinator_makes_alone(
    count: int, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir()
    shared.mkdir()
    three_train(alone, broker.url, f"{federation_name}-alone", LINEAR, 3)

    config = write_with_workers(shared, federation_name, 3)
    run = shared / "run"
    with workers(shared, config, broker.url, *[f"w{one}" for one in range(count)]) as there:
        with running(shared, *coordinator_of(config, broker.url, run)) as coordinator:
            for worker in there:
                worker.wait_for("listening to")
            with clients(shared, broker.url, federation_name, LINEAR):
                assert coordinator.wait() == 0, coordinator.log
        for worker in there:
            worker.process.terminate()
            assert worker.wait() == 0, worker.log
    trained(run)
    assert model_of(run) == model_of(alone / "run")
    # All of them by workers, and by each of them some.
    assert sum(map(added_up, there)) == 3 * 3
    assert all(map(added_up, there))


def standing(folder: Path, url: str, federation: str) -> object:
    """What people are told of each worker."""
    command = ("fedmqtt", "watch", "--broker", url, "--federation", federation)
    with running(folder, *command, "--once", "--json") as watch:
        return json.loads(watch.said)["coordinator"]["workers"] if watch.wait() == 0 else None


def test_people_see_which_workers_are_there(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, config = mosquitto_broker.url, write_with_workers(tmp_path, federation_name, 3)

    def told() -> object:
        return standing(tmp_path, url, federation_name)

    with running(tmp_path, *coordinator_of(config, url, tmp_path / "run")):
        with workers(tmp_path, config, url, "w0", "w1"):
            half = "takes 8 of 16 lanes"
            wait_until(lambda: told() == {"w0": half, "w1": half})
        wait_until(lambda: told() == {})


_NAMESAKE = "another worker calls itself 'w0': give each worker a name of its own"


def test_of_two_workers_of_one_name_one_ends_and_says_why(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, config = mosquitto_broker.url, write_with_workers(tmp_path, federation_name, 3)
    with (
        running(tmp_path, *coordinator_of(config, url, tmp_path / "run")),
        workers(tmp_path, config, url, "w0", "w0") as both,
    ):
        wait_until(lambda: any(one.process.poll() is not None for one in both))
        ended = next(one for one in both if one.process.poll() is not None)
        assert ended.wait() == EXIT_DENIED
        assert f"fedmqtt worker: {_NAMESAKE}\n" in ended.log


def test_two_workers_of_one_name_say_what_it_may_be_where_no_coordinator_is(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, config = mosquitto_broker.url, write_with_workers(tmp_path, federation_name, 3)
    with workers(tmp_path, config, url, "w0", "w0") as both:
        perhaps = f"; the broker ended 5 connections soon after they were made; perhaps {_NAMESAKE}"
        # A broker that knows the word for it ends the matter at once.
        wait_until(lambda: any(perhaps in one.log or _NAMESAKE in one.log for one in both))


_TASK = """
CHANGES = {"ann": 0.1, "bob": 0.7, "cat": -0.3}

def initial_weights(seed):
    return {"age": np.zeros(1, np.float32), "w": np.linspace(0, 1, 40_000, dtype=np.float32)}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    wait_for_gate(data_dir, client, round(float(weights["age"][0])) + 1, progress)
    after = weights["w"] * np.float32(1 + CHANGES[client])
    return Trained({"age": weights["age"] + 1, "w": after}, len(client) + ord(client[0]), {})
"""
"""Its answers, of 160 kB, travel in pieces, and so do sums of them."""


class Slow(Gated):
    """Two rounds in which all three must answer; before they have, little is handed over."""

    def __init__(
        self, url: str, name: str, folder: Path, lanes: int, hand_over_s: float = 60
    ) -> None:
        rounds = "count = 2\ncohort = 3\nquorum = 3\nclients_min = 3\nover_selection = 1"
        more = f"[workers]\nlanes = {lanes}\nterms = 1000\nhand_over_s = {hand_over_s}"
        super().__init__(url, name, folder, task=_TASK, rounds=rounds, more=more)

    def open_gates(self, *names: str) -> None:
        for name in names:
            for number in (1, 2):
                (self.gates / f"{name}-{number}").touch()

    def worker(self, name: str) -> AbstractContextManager[Program]:
        command = ("fedmqtt", "worker", str(self.folder / "federation.toml"), "--verbose")
        return running(self.folder, *command, "--broker", self.url, "--name", name)


def without_workers(url: str, federation: str, folder: Path) -> dict[str, bytes]:
    """The model that the coordinator makes alone."""
    alone = Slow(url, f"{federation}-alone", folder / "alone", lanes=0)
    alone.open_gates("ann", "bob", "cat")
    with ExitStack() as stack:
        coordinator = stack.enter_context(alone.coordinating())
        for name in ("ann", "bob", "cat"):
            stack.enter_context(alone.client(name))
        assert coordinator.wait() == 0, coordinator.log
    return model_after_two_rounds(alone)


def model_after_two_rounds(federation: Slow) -> dict[str, bytes]:
    records = history.read(federation.run / "history.jsonl")
    for record in records:
        assert (record.outcome, record.answered) == ("averaged", ["ann", "bob", "cat"])
    assert len(records) == 2
    return model_of(federation.run)


def test_a_worker_that_is_killed_in_a_round_changes_no_bit(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    alone = without_workers(url, federation_name, tmp_path)
    shared = Slow(url, federation_name, tmp_path / "shared", lanes=16)
    shared.open_gates("ann", "bob")
    with ExitStack() as stack:
        coordinator = stack.enter_context(shared.coordinating("--verbose"))
        first = stack.enter_context(shared.worker("w0"))
        first.wait_for("listening to")
        for name in ("ann", "bob", "cat"):
            stack.enter_context(shared.client(name))
        # It has taken two answers in, and handed over none.
        coordinator.wait_for("not collected from worker w0: 2")
        first.process.kill()
        coordinator.wait_for("answers that a worker had not handed over: 2")
        second = stack.enter_context(shared.worker("w1"))
        second.wait_for("listening to")
        shared.open_gates("cat")
        assert coordinator.wait() == 0, coordinator.log
        second.process.terminate()
        assert second.wait() == 0, second.log
    assert model_after_two_rounds(shared) == alone
    # All of the second round; the two of the first came to it, or to the coordinator before it.
    assert added_up(second) >= 4


def summed(run: Path) -> int:
    """How many answers are in sums that the ledger holds."""
    with closing(sqlite3.connect(f"file:{run}/ledger.db?mode=ro", uri=True)) as db:
        ((count,),) = db.execute("SELECT count(*) FROM answer WHERE summed IS NOT NULL")
    return int(count)


def test_a_coordinator_that_is_killed_goes_on_with_what_was_handed_over(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    alone = without_workers(url, federation_name, tmp_path)
    shared = Slow(url, federation_name, tmp_path / "shared", lanes=16, hand_over_s=0.1)
    shared.open_gates("ann", "bob")
    with ExitStack() as stack:
        worker = stack.enter_context(shared.worker("w0"))
        with shared.coordinating() as first:
            worker.wait_for("listening to")
            for name in ("ann", "bob", "cat"):
                stack.enter_context(shared.client(name))
            wait_until(lambda: (shared.run / "ledger.db").exists() and summed(shared.run) == 2)
            first.process.kill()
            first.wait()
        sums = list((shared.run / "answers").glob("*.sum"))
        for damaged, said in ((b"", "not a message we know"), (b"\x80", "not a message we know")):
            kept = sums[0].read_bytes()
            sums[0].write_bytes(damaged)
            with shared.coordinating() as refused:
                assert refused.wait() == EXIT_USAGE
                assert str(sums[0]) in refused.log and said in refused.log
            sums[0].write_bytes(kept)
        second = stack.enter_context(shared.coordinating())
        second.wait_for("going on with round 1: 2 of 3 answered")
        shared.open_gates("cat")
        assert second.wait() == 0, second.log
    assert model_after_two_rounds(shared) == alone


def summed_on(server: str) -> int:
    """The same, of the first run there; 0 before it has begun."""
    with psycopg.connect(server) as db:
        ((is_there,),) = db.execute("SELECT to_regclass('fedmqtt_run_1.answer') IS NOT NULL")
        if not is_there:
            return 0
        ((count,),) = db.execute("SELECT count(summed) FROM fedmqtt_run_1.answer")
    return int(count)


def test_a_standby_on_another_machine_goes_on_with_what_was_handed_over(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, database: str
) -> None:
    """Another machine is another folder here, as in test_standby_elsewhere."""
    url = mosquitto_broker.url
    alone = without_workers(url, federation_name, tmp_path)
    here = Slow(url, federation_name, tmp_path / "here", lanes=16, hand_over_s=0.1)
    there = copy(here)
    there.run = tmp_path / "there" / "run"
    there.run.parent.mkdir()
    here.open_gates("ann", "bob")
    ledger = ("--set", f"ledger={database}")
    with ExitStack() as stack:
        worker = stack.enter_context(here.worker("w0"))
        with here.coordinating(*ledger) as first:
            worker.wait_for("listening to")
            standby = stack.enter_context(there.coordinating("--standby", *ledger))
            standby.wait_for("standing by: run ")
            for name in ("ann", "bob", "cat"):
                stack.enter_context(here.client(name))
            wait_until(lambda: summed_on(database) == 2)
            first.process.kill()
            first.wait()
        standby.wait_for("going on with round 1: 2 of 3 answered")
        handed_over = sums_in(here.run)
        assert handed_over
        assert sums_in(there.run) == handed_over
        standby.wait_for("worker w0 is there")
        here.open_gates("cat")
        assert standby.wait() == 0, standby.log
    assert model_after_two_rounds(there) == alone
    with psycopg.connect(database) as db:
        kept = db.execute("SELECT name FROM fedmqtt_run_1.file WHERE name LIKE 'answers/%'")
        assert kept.fetchall() == [], "used up, and forgotten"


def sums_in(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "answers").glob("*.sum")}


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here")
def test_a_worker_of_a_kit_adds_up_what_devices_signed(tmp_path: Path) -> None:
    """Over TLS, with an account of its own that may do no more than it must."""
    kit_folder = tmp_path / "kit"
    made = kit.create(kit_folder, plan(kit_folder))
    files = {name: made.enroll(name) for name in ("ann", "bob", "cat")}
    its = made.enroll("w0", "worker")
    config = write_with_workers(tmp_path, FEDERATION, 2)
    run = tmp_path / "run"
    with running_kit(made, kit_folder), ExitStack() as stack:
        worker = stack.enter_context(
            running(tmp_path, "fedmqtt", "worker", str(config), "--credentials", str(its))
        )
        account = ("--credentials", str(kit_folder / "accounts" / "coordinator.toml"))
        words = ("fedmqtt", "coordinator", str(config), *account, "--run", str(run))
        coordinator = stack.enter_context(running(tmp_path, *words))
        worker.wait_for("listening to")
        for name, path in files.items():
            device = ("fedmqtt", "client", "--credentials", str(path), "--task", LINEAR)
            stack.enter_context(running(tmp_path, *device, "--state", str(tmp_path / name)))
        assert coordinator.wait() == 0, coordinator.log
        worker.process.terminate()
        assert worker.wait() == 0, worker.log
    trained(run)
    assert added_up(worker) == 2 * 3


def test_what_a_worker_cannot_begin_with_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, "demo", LINEAR, three_of_all(1))
    for words, said in (
        (("--name", "w0"), "workers.lanes is 0, so there is nothing to do for workers"),
        (("--set", "workers.lanes=4"), "--name '' names no worker"),
        (("--name", "w0", "--set", "workers.lanes=4", "--set", "aggregation=median"), "fedavg"),
    ):
        with running(tmp_path, "fedmqtt", "worker", str(config), *words) as worker:
            assert worker.wait() == EXIT_USAGE
            assert said in worker.log
