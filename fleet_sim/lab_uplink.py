"""What a client of the lab measures of its link up, as a real one does from acknowledgements.

Those need no events of their own: when each will come is known as soon as a message goes, and it is
taken into account once it is asked for. Jitter and lost packets are left out of the way back.
"""

from dataclasses import dataclass, field

from edge_client import link_quality
from edge_client.link_quality import LinkQuality
from fedmqtt.effects import Seconds


@dataclass(frozen=True, slots=True)
class _Said:
    size_bytes: int
    at: Seconds
    acknowledged_at: Seconds


@dataclass(slots=True)
class Uplink:
    """Of one client, for as long as its program runs."""

    _quality: LinkQuality = field(default_factory=LinkQuality)
    _said: list[_Said] = field(default_factory=list)
    """What the broker has not acknowledged yet, or what has not been looked at since."""

    def says(self, size_bytes: int, at: Seconds, acknowledged_at: Seconds) -> None:
        self._said.append(_Said(size_bytes, at, acknowledged_at))

    def breaks(self, now: Seconds) -> None:
        """The connection is lost: nothing is acknowledged over it any more."""
        self.quality(now)
        self._said.clear()

    def quality(self, now: Seconds) -> LinkQuality:
        """As far as the broker has acknowledged what was said."""
        for said in self._said:
            if said.acknowledged_at <= now:
                size, acknowledged_at = said.size_bytes, said.acknowledged_at
                self._quality = link_quality.after(self._quality, size, said.at, acknowledged_at)
        self._said = [said for said in self._said if said.acknowledged_at > now]
        return self._quality
