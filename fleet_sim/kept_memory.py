"""A simulated device's memory: what `edge_client/device_memory.py` does with files, without any."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from edge_client import device_memory
from edge_client.remembered import NOTHING, Remembered
from edge_client.session import Answer
from fedmqtt.topics import RoundId, RunId


@dataclass(slots=True)
class KeptMemory:
    """Of one client. It survives a loss of power, as a disk does."""

    run: RunId | None = None
    committed: Remembered = NOTHING
    pending: dict[Answer, Remembered] = field(default_factory=dict)

    def keep(self, answer: Answer, remembered: Remembered) -> None:
        """To be committed when this answer is accepted."""
        self.pending[answer] = remembered

    def of(self, run: RunId) -> Remembered:
        """What is remembered of this run."""
        return self.committed if self.run == run else NOTHING

    def has(self, answer: Answer) -> bool:
        """Whether something is to be committed then."""
        return answer in self.pending

    def sweep(self, owed: Collection[Answer]) -> None:
        """At the start: remove what belongs to no answer."""
        self.pending = {one: kept for one, kept in self.pending.items() if one in owed}

    def settle(self, answer: Answer, accepted: bool, counted: RoundId | None) -> None:
        pending = self._pending(answer)
        before = self.of(answer.run)
        commit, is_lost = device_memory.settled(
            answer.round, accepted, counted, before.round, pending
        )
        if commit is not None and (kept := pending[commit]) is not None:
            self.run, self.committed = answer.run, kept
        elif is_lost:
            number = counted or RoundId(0)
            self.run, self.committed = answer.run, replace(NOTHING, round=number, lost=number > 0)
        self.pending.pop(answer, None)

    def _pending(self, answer: Answer) -> dict[RoundId, Remembered | None]:
        """Of each round what may be committed; None where there is doubt what that is."""
        found: dict[RoundId, Remembered | None] = {}
        for other, kept in self.pending.items():
            if other.run == answer.run:
                found[other.round] = None if other.round in found else kept
        return found | ({answer.round: self.pending[answer]} if answer in self.pending else {})
