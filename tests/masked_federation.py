"""A federation whose answers are masked: real programs with credentials of a kit, on its Mosquitto,
and somebody with a second account who keeps all that crosses it.

    with masked_federation(tmp_path, keyholders=("kh-a", "kh-b", "kh-c")) as federation:
        with federation.keyholder("kh-a"), ..., federation.client("ann"), federation.coordinating():
            federation.open_gates(1, "ann")
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker_config import kit
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import envelope, messages, status_pages
from fedmqtt.messages import Offer
from fedmqtt.status_pages import ModelPage
from fedmqtt.topics import (
    Address,
    ClientId,
    OfferBoard,
    RoundId,
    StatusPage,
    Topics,
    UpdatePart,
)
from tests import planted_task
from tests.broker_config.kit_broker import FEDERATION, KitBroker, plan, running_kit
from tests.broker_config.raw_client import RawClient
from tests.programs import Program, running, wait_until

TASK = str(Path(planted_task.__file__))
SEED = 3


@dataclass
class MaskedFederation:
    folder: Path
    broker: KitBroker
    _reader: RawClient
    seen: list[tuple[Address | None, bytes]] = field(default_factory=list)
    """All that crossed the broker, as far as it has been looked at."""

    def __post_init__(self) -> None:
        self.gates = self.folder / "gates"
        self.gates.mkdir()
        self.run = self.folder / "run"

    @property
    def name(self) -> str:
        return self.broker.kit.plan.federation

    def client(self, who: str, *words: str) -> AbstractContextManager[Program]:
        return self._connected(
            *("client", "--task", TASK, "--data", str(self.gates)),
            *("--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5", *words),
            who=who,
        )

    def keyholder(
        self, who: str, command: str = "keyholder", *words: str
    ) -> AbstractContextManager[Program]:
        return self._connected(command, "--floor", "3", *words, who=who)

    @contextmanager
    def _connected(self, *words: str, who: str) -> Iterator[Program]:
        account = ("--credentials", str(self._file(who)), "--state", str(self.folder / who))
        with running(self.folder, "fedmqtt", *words, *account) as program:
            program.wait_for("connected")
            yield program

    def _file(self, who: str) -> Path:
        return self.broker.folder / "accounts" / f"{who}.toml"

    @contextmanager
    def coordinating(self, rounds: str, privacy: str) -> Iterator[Program]:
        config = self.folder / "federation.toml"
        config.write_text(
            f'name = "{self.name}"\ntask = "{TASK}"\nseed = {SEED}\n'
            '[tuning]\nenabled = false\n[late]\npolicy = "discard"\n'
            "[rounds]\nover_selection = 1.0\ndeadline_s = 1000\naway_grace_s = 1000\n"
            f"{rounds}\n[privacy]\n{privacy}\n"
        )
        words = ("--credentials", str(self._file("coordinator")), "--run", str(self.run))
        with running(self.folder, "fedmqtt", "coordinator", str(config), *words) as program:
            yield program

    def open_gates(self, number: int, *names: str) -> None:
        for who in names:
            (self.gates / f"{who}-{number}").touch()

    @property
    def records(self) -> list[Record]:
        path = self.run / "history.jsonl"
        return history.read(path) if path.exists() else []

    def wait_for_round(self, number: int) -> None:
        """Until it has closed."""
        wait_until(lambda: len(self.records) >= number)

    def wait_for_answer(self, who: str, number: int) -> None:
        """Until the broker has passed it on."""
        place = (ClientId(who), RoundId(number))
        self.wait_for(
            lambda to, data: isinstance(to, UpdatePart) and (to.client, to.round) == place
        )

    def wait_for(self, holds: Callable[[Address | None, bytes], bool]) -> None:
        wait_until(lambda: any(holds(to, data) for to, data in self.crossed()))

    def crossed(self) -> list[tuple[Address | None, bytes]]:
        """All that has crossed the broker so far."""
        topics = Topics(self.name)
        while not self._reader.messages.empty():
            got = self._reader.messages.get()
            self.seen.append((topics.parse(got.topic), got.payload))
        return self.seen

    def model_page(self, number: int) -> ModelPage:
        """The status page that tells of the model of this round, once it has been said."""

        def told() -> list[ModelPage]:
            pages = [data for to, data in self.crossed() if to == StatusPage("model") and data]
            read = [status_pages.decode("model", data) for data in pages]
            return [page for page in read if isinstance(page, ModelPage)]

        wait_until(lambda: any(page.figures_round == number for page in told()))
        return next(page for page in told() if page.figures_round == number)

    def offers(self) -> dict[int, Offer]:
        """Of each round the last one."""
        read = [
            messages.read_offer(unsigned(data))
            for to, data in self.crossed()
            if to == OfferBoard() and data
        ]
        return {offer.round: offer for offer in read}


def unsigned(data: bytes) -> bytes:
    """A message of the coordinator's, out of its envelope."""
    assert data.startswith(envelope.BY_COORDINATOR)
    return data[len(envelope.BY_COORDINATOR) + 64 :]


@contextmanager
def masked_federation(
    folder: Path, keyholders: Sequence[str], clients: Sequence[str], name: str = FEDERATION
) -> Iterator[MaskedFederation]:
    """The caller has seen to it that there is a Mosquitto."""
    made = kit.create(folder / "kit", plan(folder / "kit", federation=name))
    # First: who is enrolled after them knows them.
    for one in keyholders:
        made.enroll(one, keyholder=True)
    for one in clients:
        made.enroll(one)
    with running_kit(made, folder / "kit") as broker:
        account = broker.account("coordinator")
        with RawClient(account, broker.servers_port, "listens") as reader:
            assert reader.subscribe(f"fed/v1/{name}/#")
            yield MaskedFederation(folder, broker, reader)
