"""What a federation of the benchmark is made of: who takes part in what, by which settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import large_task, small_task
from tests.faults.arrangement import LANES, ON_A_LAPTOP, Arrangement
from tests.faults.proxy import Deliver

COORDINATOR = "coordinator"
"""What it is called among the programs of a federation; the others go by their client's name."""

LARGE_BYTES = 800_000
"""Of an answer of the large model, and of the model itself."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who takes part in what. Unless said otherwise a round waits until everybody has answered."""

    clients: tuple[str, ...] = ("ann", "bob", "cat", "dan")
    large: bool = False
    """200,000 parameters, which travel in 49 chunks, instead of 40."""
    rounds: int = 4
    cohort: int = 4
    quorum: int = 4
    over_selection: float = 1.0
    deadline_s: float = 60.0
    clients_min: int = 4
    away_grace_s: float = 1.0
    final_deadline_s: float = 30.0
    pace_s: float = 0.4
    """The longest that a training takes; each draws its share."""
    seed: int = 7
    persistent: bool = False
    """Whether the broker survives its own death."""
    proxied: tuple[str, ...] = ()
    """Clients, or the `COORDINATOR`, whose link goes through a proxy."""
    disturbance: Callable[[], Deliver] | None = None
    """Of what the broker sends to those that are proxied."""
    arrangement: Arrangement = ON_A_LAPTOP

    @property
    def keepalive_s(self) -> int:
        # A node of NATS answers no ping while it makes a subscription: four seconds for each that
        # it has to try again, when another node has just been lost.
        return 20 if self.arrangement.cluster else 5

    @property
    def chunk_bytes(self) -> int:
        # On a cluster of NATS, to fetch a chunk of a model takes half a second, however large.
        return 65536 if self.arrangement.cluster else 16384

    @property
    def client_settings(self) -> tuple[str, ...]:
        return (
            "link.resend_s=1",
            "link.retry_max_s=0.5",
            f"link.keepalive_s={self.keepalive_s}",
            "link.will_delay_s=1",
            f"link.chunk_bytes={self.chunk_bytes}",
            # Starting Python for each training would be most of the time that a scenario takes.
            "trainer.keep_warm_s=600",
            "trainer.nice=0",
        )

    @property
    def task(self) -> Path:
        found = (large_task if self.large else small_task).__file__
        assert found is not None
        return Path(found)

    def settings(self, name: str, broker_url: str, runs: Path, ledger: str) -> str:
        """federation.toml."""
        return "\n".join(
            [
                f'name = "{name}"',
                f'task = "{self.task}"',
                f'runs = "{runs}"',
                f"seed = {self.seed}",
                f'ledger = "{ledger}"',
                "[broker]",
                f'url = "{broker_url}"',
                f"keepalive_s = {self.keepalive_s}",
                "[rounds]",
                f"count = {self.rounds}",
                f"cohort = {self.cohort}",
                f"quorum = {self.quorum}",
                f"clients_min = {self.clients_min}",
                f"over_selection = {self.over_selection}",
                f"deadline_s = {self.deadline_s}",
                f"away_grace_s = {self.away_grace_s}",
                "retry_s = 0.2",
                "[evaluation]",
                "every = 1",
                "clients = 0",
                f"final_deadline_s = {self.final_deadline_s}",
                "[limits]",
                f"change_max = {small_task.CHANGE_MAX}",
                f"samples_max = {small_task.samples_of(small_task.NAMES[-1])}",
                "[transfer]",
                f"chunk_bytes = {self.chunk_bytes}",
                "[workers]",
                f"lanes = {LANES if self.arrangement.workers else 0}",
                "hand_over_s = 0.5",
                "",
            ]
        )
