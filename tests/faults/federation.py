"""A whole federation in processes of its own, for a scenario to hurt.

    with federation(folder, Plan(rounds=4)) as fed:
        fed.hold("dan", number=2)            # from round 2 on, its trainings do not end
        fed.start()
        fed.wait_for_training("dan", 2)      # round 2 is open, and dan is at work
        fed.kill("dan")
        fed.wait_for_end()

Broker, coordinator and clients are the real programs with their real logs, folders and links; a
`Proxy` stands between the broker and those that the plan names. Nothing outlives the block, nor the
death of who runs it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import msgspec

from coordinator.persistence.history import Record
from tests.faults.closings import watching
from tests.faults.own_mosquitto import OwnMosquitto, own_mosquitto
from tests.faults.plan import CLIENT_SETTINGS, COORDINATOR, Plan
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.reaper import Reaper, reaping
from tests.patience import WITHIN_S
from tests.programs import Program, running

_LOOK_EVERY_S = 0.02
_TRAINING = re.compile(r"round (\d+): train\b")
_RECEIPT = re.compile(r"receipt: .*?round (\d+)\b.* accepted")


class TookTooLong(Exception):
    """What was to happen did not, within `WITHIN_S`."""


@dataclass(slots=True)
class Lives:
    """One program and, where it was killed and started again, those before it."""

    words: tuple[str, ...]
    folder: Path
    programs: list[Program] = field(default_factory=list)

    @property
    def now(self) -> Program:
        return self.programs[-1]

    @property
    def is_running(self) -> bool:
        return bool(self.programs) and self.now.process.poll() is None

    @property
    def log(self) -> str:
        """Of all its lives."""
        return "".join(program.log for program in self.programs)


class Federation:
    """Made by `federation`."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack, reaper: Reaper) -> None:
        self.folder = folder
        self.plan = plan
        self.name = folder.name
        self._stack = stack
        self._reaper = reaper
        self.broker: OwnMosquitto = stack.enter_context(
            own_mosquitto(folder, reaper, persistent=plan.persistent)
        )
        self.proxies: dict[str, Proxy] = {
            who: stack.enter_context(proxy_to(self.broker.url, plan.disturbance))
            for who in plan.proxied
        }
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "pace_s").write_text(str(plan.pace_s))
        self.config = folder / "federation.toml"
        self.config.write_text(plan.settings(self.name, self._url(COORDINATOR), folder / "runs"))
        self.coordinator = self._lives(COORDINATOR, "fedmqtt", "coordinator", str(self.config))
        self.clients = {who: self._client(who) for who in plan.clients}
        self._run: Path | None = None
        self.closings = stack.enter_context(watching(lambda: len(self.records)))

    # Programs

    def start(self) -> None:
        """All clients, then the coordinator."""
        self.start_all_but()

    def start_all_but(self, *these: str) -> None:
        """`start`, without some."""
        for who in self.clients:
            if who not in these:
                self.start_client(who)
        if COORDINATOR not in these:
            self.start_program(self.coordinator)

    def start_program(self, lives: Lives, *words: str, launcher: tuple[str, ...] = ()) -> Program:
        """Another life of it, with these further words."""
        lives.folder.mkdir(exist_ok=True)
        program = self._stack.enter_context(running(lives.folder, *launcher, *lives.words, *words))
        self._reaper.watch(program.process.pid)
        lives.programs.append(program)
        return program

    def start_client(self, who: str) -> None:
        self.start_program(self.clients[who])

    def kill(self, *clients: str) -> None:
        """As the system does when memory is short: no signal to catch, no goodbye."""
        for who in clients:
            _kill(self.clients[who].now)

    def kill_coordinator(self) -> None:
        _kill(self.coordinator.now)

    def another(self, who: str, *words: str) -> Lives:
        """One more program of this client's, or of the `COORDINATOR`; it is not started yet."""
        model = self.coordinator if who == COORDINATOR else self.clients[who]
        number = len(list(self.folder.glob(f"{who}*")))
        return Lives((*model.words, *words), self.folder / f"{who}-{number}")

    def state(self, who: str) -> Path:
        return self.folder / who / "state"

    # Training

    def hold(self, *clients: str, number: int) -> None:
        """From this round on their trainings do not end, before `let_go` or a `hold` from later on.

        Rounds that kept their model do not count: the task tells the round by the model's age.
        """
        for who in clients:
            written = self.data / f"{who}.hold.part"
            written.write_text(str(number))
            written.replace(self.data / f"{who}.hold")

    def let_go(self, *clients: str) -> None:
        for who in clients:
            (self.data / f"{who}.hold").unlink()

    # What has happened

    @property
    def run(self) -> Path:
        """The folder of the first run that has closed a round."""
        if self._run is None:
            histories = self._histories()
            assert histories, "no round has closed"
            self._run = histories[0].parent
        return self._run

    @property
    def run_count(self) -> int:
        """How many runs have closed a round: one, unless the coordinator began anew."""
        return len(self._histories())

    @property
    def records(self) -> list[Record]:
        """Of the rounds that have closed so far, oldest first; a line that is torn is left out."""
        return read_history(self.run) if self._histories() else []

    def receipts(self, who: str) -> list[int]:
        """The rounds for which this client was told that its answer counts, as they came."""
        return [int(number) for number in _RECEIPT.findall(self.clients[who].log)]

    def trainings(self, who: str) -> list[int]:
        """The rounds that this client began to train for, as it began."""
        return [int(number) for number in _TRAINING.findall(self.clients[who].log)]

    def outbox(self, who: str) -> list[Path]:
        """Finished answers without a receipt."""
        return sorted((self.state(who) / "outbox").glob("*.answer"))

    # Waiting

    def wait_for_training(self, who: str, number: int) -> None:
        """Until this client is at work for round `number`, or was."""
        self.wait(lambda: number in self.trainings(who), f"{who} trains in round {number}")

    def wait_for_connections(self, *clients: str) -> None:
        """Until these, or all, have reached the broker in their present life."""
        for who in clients or self.plan.clients:
            lives = self.clients[who]
            self._wait_for_log(lives, "connected (", f"{who}'s connection")

    def wait_for_receipt(self, who: str, number: int) -> None:
        self.wait(lambda: number in self.receipts(who), f"{who}'s receipt for round {number}")

    def wait_for_round(self, number: int) -> None:
        """Until this many rounds have closed."""
        self.wait(lambda: len(self.records) >= number, f"the end of round {number}")

    def wait_for_end(self) -> int:
        """The coordinator's exit code."""
        process = self.coordinator.now.process
        self.wait(lambda: process.poll() is not None, "the end of the run")
        return process.wait()

    def _wait_for_log(self, lives: Lives, words: str, what: str) -> None:
        self.wait(lambda: words in lives.now.log, what)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Raises TookTooLong."""
        give_up_at = monotonic() + WITHIN_S
        while not holds():
            if monotonic() > give_up_at:
                raise TookTooLong(f"not within {WITHIN_S:.0f} s: {what}")
            sleep(_LOOK_EVERY_S)

    def _histories(self) -> list[Path]:
        return list((self.folder / "runs").glob("*/history.jsonl"))

    def _client(self, who: str) -> Lives:
        words = ["fedmqtt", "client", "--broker", self._url(who), "--federation", self.name]
        words += ["--id", who, "--task", str(self.plan.task)]
        words += ["--data", str(self.data), "--state", str(self.state(who))]
        for setting in CLIENT_SETTINGS:
            words += ["--set", setting]
        return self._lives(who, *words)

    def _lives(self, who: str, *words: str) -> Lives:
        return Lives(words, self.folder / who)

    def _url(self, who: str) -> str:
        return self.proxies[who].url if who in self.proxies else self.broker.url


@contextmanager
def federation(folder: Path, plan: Plan) -> Iterator[Federation]:
    """A broker that runs, and programs that do not yet. The folder's name is the federation's.

    Raises BrokerError where there is no Mosquitto.
    """
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        reaper = stack.enter_context(reaping())
        yield Federation(folder, plan, stack, reaper)


def read_history(run: Path) -> list[Record]:
    """All whole lines of it."""
    whole, _, _torn = (run / "history.jsonl").read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=Record) for line in whole.splitlines()]


def _kill(program: Program) -> None:
    program.process.kill()
    program.process.wait(WITHIN_S)
