"""How often each device may take part: who has done so that often is not asked and not heard again.

    a round's sum is made ──took_part──▶ counts ──▶ is_spent, for whoever invites or accepts

Counts only grow, and nobody is ever forgotten: a device that came back as unknown would be allowed
more than was promised. They are written down with the round that they are of.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedmqtt.topics import ClientId


@dataclass(slots=True)
class Participations:
    """Of one run."""

    most: int = 0
    """Of each device; 0: as many as there are rounds."""
    counts: dict[ClientId, int] = field(default_factory=dict)
    """In how many sums each device is, if in any."""

    def took_part(self, clients: Iterable[ClientId]) -> dict[ClientId, int]:
        """These are in a sum, once for each time they are named. Their counts from now on."""
        changed = {}
        for client in clients:
            changed[client] = self.counts[client] = self.counts.get(client, 0) + 1
        return changed

    def is_spent(self, client: ClientId, waiting: int = 0) -> bool:
        """`waiting`: of its answers that are accepted and in no sum yet."""
        return bool(self.most) and self.counts.get(client, 0) + waiting >= self.most

    @property
    def largest(self) -> int:
        """Of any device, so far."""
        return max(self.counts.values(), default=0)
