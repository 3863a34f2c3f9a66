"""The coordinator's quarantine in virtual time: who is refused for what it sends again and again is
left out, until its time is over. What floods do to a real coordinator is not simulated.
"""

from collections.abc import Callable

from coordinator import round_rules, rounds
from coordinator.config import Limits
from coordinator.intake.quarantine import Quarantine
from fedmqtt.topics import ClientId
from fleet_sim.clock import Clock


class ShutOut:
    """Of one coordinator, which never dies. `tell` tells its machine."""

    def __init__(self, limits: Limits, clock: Clock, tell: Callable[[rounds.Event], None]) -> None:
        self._quarantine = Quarantine({}, round_rules.of_quarantine(limits))
        self._clock = clock
        self._tell = tell

    @property
    def why(self) -> dict[ClientId, str]:
        """Of those that are in quarantine."""
        return {client: term.why for client, term in self._quarantine.terms.items()}

    def why_out(self, client: ClientId) -> str:
        """Nothing where it is heard."""
        term = self._quarantine.term(client)
        return "" if term is None else f"in quarantine: {term.why}"

    def strike(self, client: ClientId, why: str) -> None:
        if self.why_out(client):
            return
        term = self._quarantine.strike(self._clock.now, client, why)
        if term is None or term.until is None:
            return
        # Not now: the event that it came of is being dealt with.
        self._clock.after(0.0, self._bar, client)
        self._clock.at(term.until, self._let_out)

    def _bar(self, client: ClientId) -> None:
        self._tell(rounds.Barred(self._clock.now, client, self.why_out(client)))

    def _let_out(self) -> None:
        for client in self._quarantine.pass_time(self._clock.now):
            self._tell(rounds.Unbarred(self._clock.now, client))
