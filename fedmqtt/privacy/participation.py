"""How often each device may take part: who has done so that often is not asked and not heard again.

    a round's sum is made ──took_part──▶ counts ──▶ is_spent, for whoever invites or accepts

A device whose m answers are in one sum, as late ones may be, adds m times as much to it, and that
is worth m^2 sums with one: so it counts. Counts only grow, and nobody is ever forgotten: a device
that came back as unknown would be allowed more than was promised. They are written down with the
round that they are of.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedmqtt.topics import ClientId


@dataclass(slots=True)
class Participations:
    """Of one run."""

    most: int = 0
    """Of each device; 0: nobody counts."""
    counts: dict[ClientId, int] = field(default_factory=dict)

    def took_part(self, clients: Iterable[ClientId]) -> dict[ClientId, int]:
        """These are in a sum, once for each time they are named. Their counts from now on."""
        changed: dict[ClientId, int] = {}
        if not self.most:
            return changed
        for client, answers in sorted(Counter(clients).items()):
            changed[client] = self.counts.get(client, 0) + answers**2
        self.counts.update(changed)
        return changed

    def is_spent(self, client: ClientId, waiting: int = 0) -> bool:
        """Whether one more is too much. `waiting`: of its answers that are accepted and in no sum
        yet, as they may all come into the same."""
        return bool(self.most) and self.counts.get(client, 0) + (waiting + 1) ** 2 > self.most

    @property
    def largest(self) -> int:
        """Of any device, so far."""
        return max(self.counts.values(), default=0)
