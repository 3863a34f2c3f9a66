"""One storm's federation: how many clients, which rules, how fast its coordinator's disk is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from coordinator import selection
from coordinator.config import Transfer
from coordinator.known import Known
from coordinator.pacing import Bounds
from coordinator.rounds import Late, Rules
from fedmqtt import parts
from fedmqtt.effects import Seconds
from fedmqtt.messages import Method, Purpose
from fedmqtt.topics import ClientId, RoundId, RunId
from fleet_sim.clock import stream
from fleet_sim.scene import CHUNK_BYTES

TASK = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is drawn from the seed beside the weather, and how long the bad weather lasts."""

    seed: int
    clients: int
    rounds: int
    cohort: int
    quorum: int
    over_selection: float
    clients_min: int
    deadline_s: Seconds
    pause_s: Seconds
    retry_s: Seconds
    away_grace_s: Seconds
    evaluate_every: int
    evaluators: int
    storm_s: Seconds
    resend_s: Seconds = 20.0
    resend_max_s: Seconds = 160.0
    leave_from_s: Seconds = 0.0
    """Clients disconnect when the next round is further away; 0 never."""
    over_selection_min: float
    over_selection_max: float
    deadline_min_s: Seconds
    deadline_max_s: Seconds
    late: Late
    late_batch: int
    late_rounds_max: int
    selection: str = "uniform"
    purpose: Purpose = "train"
    greet_s: Seconds
    remind_s: Seconds = 0.0
    commit_s: Seconds
    """Mean time that the coordinator's disk takes for one group of answers."""
    method: Method = field(default_factory=Method)
    uploads_at_once: int = 4
    stall_s: Seconds = 5.0
    participations_max: int = 0
    """In how many sums a client may be; 0: in all. No seed draws it."""
    concurrency: int = 0
    """Of an asynchronous federation; 0: its rounds are synchronous."""

    @classmethod
    def from_seed(
        cls, seed: int, clients: int | None = None, round_count: int | None = None
    ) -> "Plan":
        chance, uploads = stream(seed, "plan"), stream(seed, "uploads")
        mode = stream(seed, "mode")
        drawn_clients = chance.choice([3, 10, 40, chance.randint(3, 80)])
        drawn_rounds = chance.choice([1, 6, 12])
        clients = clients or drawn_clients
        cohort = max(1, round(clients * chance.choice([0.05, 0.1, 0.3, 0.6])))
        deadline_s = chance.choice([20.0, 60.0, 120.0])
        quorum = chance.choice([1, max(1, cohort // 2), cohort])
        over_selection = chance.choice([1.0, 1.3, 1.6])
        leave_from_s = chance.choice([0.0, 0.0, 10.0])
        # With fewer at work, a cohort would not be in time.
        concurrency = mode.choice([0, 0, 0, 0, 1 + cohort // 2, cohort, 3 * cohort])
        clients_min = max(1, round(clients * chance.choice([0.0, 0.1, 0.5])))
        return cls(
            seed=seed,
            clients=clients,
            rounds=round_count or drawn_rounds,
            cohort=cohort,
            quorum=quorum,
            over_selection=over_selection,
            # Where clients leave between rounds, so few may be back when the next one opens that it
            # could make no model: the service never waits for fewer than the quorum.
            clients_min=max(clients_min, quorum) if leave_from_s else clients_min,
            deadline_s=deadline_s,
            pause_s=chance.choice([0.0, 0.0, 15.0]),
            retry_s=chance.choice([0.0, 5.0]),
            away_grace_s=chance.choice([0.0, 10.0, 1000.0]),
            evaluate_every=chance.choice([0, 1, 3]),
            evaluators=max(1, clients // 20),
            storm_s=chance.choice([3, 10]) * deadline_s,
            leave_from_s=leave_from_s,
            over_selection_min=chance.choice([over_selection, 1.0]),
            over_selection_max=chance.choice([over_selection, 2.0]),
            deadline_min_s=deadline_s * chance.choice([1.0, 0.5, 0.1]),
            deadline_max_s=deadline_s * chance.choice([1.0, 1.0, 3.0]),
            late=_late(chance.choice(["discard", "weigh", "buffer"]), concurrency),
            late_batch=chance.choice([1, 2, 5]),
            late_rounds_max=chance.choice([1, 5, 40]),
            # A stream of its own: a new file in the folder changes nothing else of a seed's storm.
            selection=_selection(stream(seed, "selection"), concurrency),
            greet_s=chance.choice([0.0, 2.0, 10.0]),
            commit_s=chance.choice([0.0, 0.01, 0.5, 5.0]),
            # So few that the slots are fought for, and not so few that a cohort cannot be in time.
            uploads_at_once=uploads.choice([1 + cohort // 4, 4 + cohort // 4, 100]),
            stall_s=uploads.choice([0.5, 5.0]),
            concurrency=concurrency,
            remind_s=stream(seed, "remind").choice([0.0, 2.0, 5.0]),
        )

    @property
    def transfer(self) -> Transfer:
        return Transfer(
            chunk_bytes=CHUNK_BYTES, uploads_at_once=self.uploads_at_once, stall_s=self.stall_s
        )

    def round_rules(self, epoch: int) -> Rules:
        return Rules(
            select=self._select,
            by_sortition=_draws(self.selection),
            purpose=self.purpose,
            rounds=self.rounds,
            cohort=self.cohort,
            pace=Bounds(
                over_selection=self.over_selection,
                over_selection_min=self.over_selection_min,
                over_selection_max=self.over_selection_max,
                deadline_s=self.deadline_s,
                deadline_min_s=self.deadline_min_s,
                deadline_max_s=self.deadline_max_s,
            ),
            quorum=self.quorum,
            clients_min=self.clients_min,
            pause_s=self.pause_s,
            retry_s=self.retry_s,
            away_grace_s=self.away_grace_s,
            evaluate_every=self.evaluate_every,
            evaluators=self.evaluators,
            final_deadline_s=self.deadline_s,
            late=self.late,
            late_batch=self.late_batch,
            late_rounds_max=self.late_rounds_max,
            greet_s=self.greet_s,
            remind_s=self.remind_s,
            run=RunId(f"storm-{self.seed}"),
            epoch=epoch,
            task=TASK,
            method=self.method,
            lanes=4,
            participations_max=self.participations_max,
            concurrency=self.concurrency,
        )

    def _select(
        self,
        candidates: Sequence[ClientId],
        count: int,
        round_id: RoundId,
        purpose: Purpose,
        known: Mapping[ClientId, Known],
    ) -> tuple[ClientId, ...]:
        policy = parts.load(selection, self.selection)
        chance = stream(self.seed, "select", purpose, round_id)
        invited: tuple[ClientId, ...] = policy.select(
            candidates, count, chance, known, policy.Settings()
        )
        return invited


def _selection(chance: Random, concurrency: int) -> str:
    names = parts.names(selection)
    # Where rounds are asynchronous, clients are invited by name (`coordinator/checks.py`).
    return chance.choice([name for name in names if not (concurrency and _draws(name))])


def _draws(policy: str) -> bool:
    return bool(getattr(parts.load(selection, policy), "BY_SORTITION", False))


def _late(drawn: Late, concurrency: int) -> Late:
    return "weigh" if concurrency else drawn
