"""A run's folder that somebody or something has damaged: which file, and what can be done.

One run is made, killed after two rounds, and copied for each kind of damage.
"""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.coordinator.guests import Room
from tests.coordinator.persistence.test_restart import CHANGES, Federation, answer, come, kill
from tests.coordinator.test_command import NOWHERE, run
from tests.programs import running

pytestmark = pytest.mark.broker


@dataclass(frozen=True, slots=True)
class Killed:
    """A federation's folder with a run that was killed in its third round."""

    folder: Path
    log_bytes: int
    """How long the ledger's write-ahead log was when the first round had just closed."""

    def copy(self, to: Path) -> "Damaged":
        config = (self.folder / "federation.toml").read_text()
        (to / "federation.toml").write_text(config.replace(str(self.folder), str(to)))
        shutil.copy(self.folder / "start.safetensors", to)
        shutil.copytree(self.folder / "runs", to / "runs")
        (run_folder,) = (to / "runs").iterdir()
        return Damaged(to / "federation.toml", run_folder, self.log_bytes)


@dataclass(frozen=True, slots=True)
class Damaged:
    config: Path
    run: Path
    log_bytes: int

    @property
    def ledger(self) -> Path:
        return self.run / "ledger.db"

    def without_log(self) -> None:
        for log in self.run.glob("ledger.db-*"):
            log.unlink()


@pytest.fixture(scope="module")
def killed(mosquitto_broker: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder, name = tmp_path_factory.mktemp("killed"), f"test-{uuid.uuid4().hex[:12]}"
    federation = Federation(mosquitto_broker.url, name, folder)
    with Room(mosquitto_broker.url, name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating("--set", "rounds.count=5") as program:
            for guest in guests:
                answer(guest, guests[0].offered(1))
            second = guests[0].offered(2)
            log_bytes = (federation.run / "ledger.db-wal").stat().st_size
            for guest in guests:
                answer(guest, second)
            guests[0].offered(3)
            kill(room, program)
    return Killed(folder, log_bytes)


def _model_is_noise(run: Damaged) -> None:
    (run.run / "models" / "2.safetensors").write_bytes(b"damaged " * 1000)


def _model_is_gone(run: Damaged) -> None:
    (run.run / "models" / "2.safetensors").unlink()


def _model_is_another(run: Damaged) -> None:
    start = run.run / "models" / "2.safetensors"
    # The last byte of its last number.
    content = bytearray(start.read_bytes())
    content[-2] ^= 1
    start.write_bytes(content)


def _log_ends_early(run: Damaged) -> None:
    for index in run.run.glob("ledger.db-shm"):
        index.unlink()
    log = run.run / "ledger.db-wal"
    log.write_bytes(log.read_bytes()[: run.log_bytes])


def _ledger_is_gone(run: Damaged) -> None:
    run.ledger.unlink()


def _all_of_the_ledger_is_gone(run: Damaged) -> None:
    run.without_log()
    run.ledger.unlink()


def _ledger_is_empty(run: Damaged) -> None:
    run.without_log()
    run.ledger.write_bytes(b"")


def _ledger_is_zeros(run: Damaged) -> None:
    run.without_log()
    run.ledger.write_bytes(bytes(16384))


def _ledger_is_noise(run: Damaged) -> None:
    run.without_log()
    run.ledger.write_bytes(b"damaged " * 1000)


def _folder_instead(name: str) -> Callable[[Damaged], None]:
    def damage(run: Damaged) -> None:
        (run.run / name).unlink()
        (run.run / name).mkdir()

    return damage


_NEWEST = "models/2.safetensors"
_LOST = "holds a run, and no ledger.db that knows of it"

DAMAGES: dict[str, tuple[Callable[[Damaged], None], list[str]]] = {
    "model-noise": (_model_is_noise, [_NEWEST, "it is the newest model of its run"]),
    "model-gone": (_model_is_gone, [_NEWEST, "no such file; it is the newest model of its run"]),
    "model-another": (_model_is_another, [_NEWEST, "is not the model that its ledger tells of"]),
    "log-cut": (
        _log_ends_early,
        [
            "models/1.safetensors: no such file",
            "its ledger, which is older than models/2.safetensors",
        ],
    ),
    "log-gone": (Damaged.without_log, [_LOST]),
    "ledger-gone": (_ledger_is_gone, [_LOST]),
    "ledger-all-gone": (_all_of_the_ledger_is_gone, [_LOST]),
    "ledger-empty": (_ledger_is_empty, [_LOST]),
    "ledger-zeros": (_ledger_is_zeros, ["ledger.db: file is not a database"]),
    "ledger-noise": (_ledger_is_noise, ["ledger.db: file is not a database"]),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_named_with_what_can_be_done(
    killed: Killed, tmp_path: Path, damage: Callable[[Damaged], None], words: list[str]
) -> None:
    damaged = killed.copy(tmp_path)
    damage(damaged)
    ended = run(damaged.config, "--broker", NOWHERE)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in [*words, "put back a copy", "begin another run with --new", str(damaged.run)]:
        assert word in ended.stderr
    # Of a disk that is not full.
    assert "MB free" not in ended.stderr


@pytest.mark.parametrize("name", ["history.jsonl", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_named(
    killed: Killed, tmp_path: Path, name: str
) -> None:
    damaged = killed.copy(tmp_path)
    _folder_instead(name)(damaged)
    ended = run(damaged.config, "--broker", NOWHERE)
    assert (ended.returncode, ended.stdout) == (2, "")
    wanted = f"{damaged.run / name}: Is a directory; move it away: it is made anew"
    assert wanted in ended.stderr and ended.stderr.count("\n") == 1


def test_beside_a_run_that_lost_its_ledger_another_can_begin(
    killed: Killed, tmp_path: Path
) -> None:
    damaged = killed.copy(tmp_path)
    _all_of_the_ledger_is_gone(damaged)
    words = ["fedmqtt", "coordinator", str(damaged.config), "--broker", NOWHERE, "--new"]
    with running(tmp_path, *words) as coordinator:
        coordinator.wait_for("cannot reach")
        assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_in_the_folder_that_was_chosen_is_not_begun_anew_without_its_ledger(
    killed: Killed, tmp_path: Path
) -> None:
    damaged = killed.copy(tmp_path)
    _all_of_the_ledger_is_gone(damaged)
    ended = run(damaged.config, "--broker", NOWHERE, "--run", str(damaged.run))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{damaged.run} {_LOST}" in ended.stderr
    assert "choose another folder with --run" in ended.stderr
    assert not damaged.ledger.exists()
