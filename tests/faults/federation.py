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
from tests.clusters import Cluster
from tests.faults.arrangement import ON_A_LAPTOP, Ground
from tests.faults.closings import watching
from tests.faults.own_mosquitto import OwnMosquitto, own_mosquitto
from tests.faults.plan import COORDINATOR, Plan
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.reaper import Reaper, reaping
from tests.own_postgresql import Server
from tests.patience import WITHIN_S
from tests.programs import Program, running

_LOOK_EVERY_S = 0.02
_TRAINING = re.compile(r"round (\d+): train\b")
_RECEIPT = re.compile(r"receipt: .*?round (\d+)\b.* accepted")


class TookTooLong(Exception):
    """What was to happen did not, however long one waited."""


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

    def __init__(
        self, folder: Path, plan: Plan, ground: Ground, stack: ExitStack, reaper: Reaper
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.name = folder.name
        self._stack = stack
        self._reaper = reaper
        self._ground = ground
        self._own_broker: OwnMosquitto | None = None
        if not plan.arrangement.cluster:
            self._own_broker = stack.enter_context(
                own_mosquitto(folder, reaper, persistent=plan.persistent)
            )
        self.ways: dict[str, list[Proxy]] = {
            who: [stack.enter_context(proxy_to(node, plan.disturbance)) for node in self.nodes]
            for who in plan.proxied
        }
        """To each node one."""
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "pace_s").write_text(str(plan.pace_s))
        self.config = folder / "federation.toml"
        ledger = stack.enter_context(ground.ledger(plan.arrangement))
        words = plan.settings(self.name, self._url(COORDINATOR), folder / "runs", ledger)
        self.config.write_text(words)
        self.coordinator = self._lives(COORDINATOR, "fedmqtt", "coordinator", str(self.config))
        self.standby: Lives | None = None
        """That waits for the coordinator's end, on another machine: in another folder."""
        self.workers = [
            self._lives(name, "fedmqtt", "worker", str(self.config), "--name", name)
            for name in (f"worker-{one}" for one in range(plan.arrangement.workers))
        ]
        self.clients = {who: self._client(who) for who in plan.clients}
        self._run: Path | None = None
        self.closings = stack.enter_context(watching(lambda: len(self.records)))

    # Programs

    def start(self) -> None:
        """All clients, then the coordinator."""
        self.start_all_but()

    def start_all_but(self, *these: str) -> None:
        """`start`, without some."""
        free = [who for who in self.clients if not self._hold(who).exists()]
        if self.plan.arrangement != ON_A_LAPTOP:
            # The run is not to be over before all are there who have a part in it.
            self.hold(*free, number=1)
        for who in self.clients:
            if who not in these:
                self.start_client(who)
        if COORDINATOR not in these:
            self.start_program(self.coordinator)
        if self.plan.arrangement != ON_A_LAPTOP:
            self._start_the_others()
            self.let_go(*free)

    def _start_the_others(self) -> None:
        for worker in self.workers:
            self.start_program(worker)
        if self.plan.arrangement.standby:
            # Of two that begin at once either may be the one that gets the run.
            self._wait_for_log(self.coordinator, "round 1: invited", "the first round")
            self.start_standby()
        for worker in self.workers:
            self._wait_for_log(worker, "listening to", f"lanes of {worker.folder.name}")

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
        self.kill_program(self.coordinator)

    def kill_program(self, lives: Lives) -> None:
        _kill(lives.now)

    def start_standby(self) -> None:
        """Another machine's coordinator, which waits for the end of the one that is there."""
        number = len(list(self.folder.glob("machine-*")))
        folder = self.folder / f"machine-{number}"
        words = (*self.coordinator.words, "--set", f"runs={folder / 'runs'}", "--standby")
        self.standby = Lives(words, folder)
        self.start_program(self.standby)
        self._wait_for_log(self.standby, "standing by: run ", "a standby")

    def kill_the_leader(self) -> None:
        """The standby takes over; another one, on one more machine, stands by from then on."""
        standby = self.standby
        assert standby is not None
        self.kill_coordinator()
        self.coordinator.programs += standby.programs
        self._wait_for_log(self.coordinator, "connected to", "the standby's taking over")
        self.start_standby()

    def another(self, who: str, *words: str) -> Lives:
        """One more program of this client's, or of the `COORDINATOR`; it is not started yet."""
        model = self.coordinator if who == COORDINATOR else self.clients[who]
        number = len(list(self.folder.glob(f"{who}*")))
        return Lives((*model.words, *words), self.folder / f"{who}-{number}")

    def state(self, who: str) -> Path:
        return self.folder / who / "state"

    @property
    def broker(self) -> OwnMosquitto:
        """Where it is no cluster."""
        assert self._own_broker is not None
        return self._own_broker

    @property
    def cluster(self) -> Cluster:
        assert self._ground.cluster is not None
        return self._ground.cluster

    @property
    def server(self) -> Server:
        """That has the ledger."""
        assert self._ground.server is not None
        return self._ground.server

    @property
    def nodes(self) -> list[str]:
        """Of each broker its URL."""
        return self.cluster.nodes if self._own_broker is None else [self._own_broker.url]

    @property
    def proxies(self) -> dict[str, Proxy]:
        """Of each that is proxied the way to the first node."""
        return {who: ways[0] for who, ways in self.ways.items()}

    # Training

    def hold(self, *clients: str, number: int) -> None:
        """From this round on their trainings do not end, before `let_go` or a `hold` from later on.

        Rounds that kept their model do not count: the task tells the round by the model's age.
        """
        for who in clients:
            written = self.data / f"{who}.hold.part"
            written.write_text(str(number))
            written.replace(self._hold(who))

    def let_go(self, *clients: str) -> None:
        for who in clients:
            self._hold(who).unlink()

    def _hold(self, who: str) -> Path:
        return self.data / f"{who}.hold"

    # What has happened

    @property
    def run(self) -> Path:
        """The folder of the first run that has closed a round: where several machines have been at
        it, that of the last one."""
        if self.plan.arrangement.standby:
            return max(self._histories(), key=lambda path: path.read_bytes().count(b"\n")).parent
        if self._run is None:
            histories = self._histories()
            assert histories, "no round has closed"
            self._run = histories[0].parent
        return self._run

    @property
    def run_count(self) -> int:
        """How many runs have closed a round: one, unless the coordinator began anew."""
        return len({path.parent.name for path in self._histories()})

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
        # A cluster that has lost a node takes its time.
        within_s = (5 if self.plan.arrangement.cluster else 1) * WITHIN_S
        give_up_at = monotonic() + within_s
        while not holds():
            if monotonic() > give_up_at:
                raise TookTooLong(f"not within {within_s:.0f} s: {what}")
            sleep(_LOOK_EVERY_S)

    def _histories(self) -> list[Path]:
        here = list((self.folder / "runs").glob("*/history.jsonl"))
        return here + list(self.folder.glob("machine-*/runs/*/history.jsonl"))

    def _client(self, who: str) -> Lives:
        words = ["fedmqtt", "client", "--broker", self._url(who), "--federation", self.name]
        words += ["--id", who, "--task", str(self.plan.task)]
        words += ["--data", str(self.data), "--state", str(self.state(who))]
        for setting in self.plan.client_settings:
            words += ["--set", setting]
        return self._lives(who, *words)

    def _lives(self, who: str, *words: str) -> Lives:
        return Lives(words, self.folder / who)

    def _url(self, who: str) -> str:
        nodes = [way.url for way in self.ways[who]] if who in self.ways else self.nodes
        return "mqtt://" + ",".join(url.removeprefix("mqtt://") for url in nodes)


@contextmanager
def federation(folder: Path, plan: Plan, ground: Ground) -> Iterator[Federation]:
    """A broker that runs, and programs that do not yet. The folder's name is the federation's.
    `ground` has what the plan's arrangement asks for.

    Raises BrokerError where there is no Mosquitto.
    """
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        reaper = stack.enter_context(reaping())
        yield Federation(folder, plan, ground, stack, reaper)


def read_history(run: Path) -> list[Record]:
    """All whole lines of it."""
    whole, _, _torn = (run / "history.jsonl").read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line, type=Record) for line in whole.splitlines()]


def _kill(program: Program) -> None:
    program.process.kill()
    program.process.wait(WITHIN_S)
