"""What a coordinator that is killed still knows, for tests of the round machine alone.

Follows the machine as the service does, with the simulator's disk.

    Accept ──▶ on_the_way ──write──▶ disk ──▶ Stored is told, and the machine receipts

When the coordinator is killed, what is on the way is lost, and so is a model that was being made,
and with it that its round has closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from coordinator import orders, rounds
from coordinator.known import Report
from coordinator.persistence import recovery
from coordinator.persistence.ledger import Carried, Refusals
from coordinator.roster import Roster
from coordinator.rounds import Named, Rules
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import Offer
from fedmqtt.topics import Digest, OfferBoard
from fleet_sim.disk import Disk, first_carried


@dataclass(slots=True)
class Remembered:
    disk: Disk = field(default_factory=Disk)
    on_the_way: list[Named] = field(default_factory=list)
    """Accepted, and not written."""
    reports: dict[Named, Report] = field(default_factory=dict)
    """Of those that train."""
    closed: list[rounds.Close] = field(default_factory=list)
    """Written down."""
    closing: rounds.Close | None = None
    """Of the round whose model is being made."""

    def prepare(self, event: rounds.Event, state: rounds.State, rules: Rules) -> None:
        """Write what is on the disk when the machine hears of it."""
        if not isinstance(event, rounds.ModelReady):
            return
        model = event.model.digest
        if isinstance(state, rounds.Averaging) and (number := state.goes_back_to) is not None:
            if not event.fault:
                self.disk.go_back(number, orders.gone_back(state.past.control, number))
            return
        if self.disk.carried is None:
            self.disk.begin(first_carried(rules), model)
        elif self.closing is not None:
            self._close(self.closing, state, model)
            self.closing = None

    def perform(self, effect: rounds.Effect, after: rounds.State, roster: Roster) -> None:
        """Write what the service writes because of this, except answers: those are on the way."""
        match effect:
            case (
                rounds.Accept(client, number)
                | rounds.AcceptEvaluation(client, number)
                | rounds.Hold(client, number)
            ):
                named = Named(client, number)
                self.on_the_way.append(named)
                if report := roster.knowledge.reports.get((client, number)):
                    self.reports[named] = report
            case rounds.Close(outcome="averaged"):
                self.closing = effect
            case rounds.Close():
                self._close(effect, after, self.disk.model)
            case Publish(OfferBoard(), Offer() as offer):
                assert isinstance(after, rounds.Collecting)
                self.disk.open_round(offer.round, recovery.opening(after))
            case rounds.Invite(number):
                assert isinstance(after, rounds.Collecting)
                self.disk.invite(number, recovery.opening(after))
            case rounds.Shut(number, clients):
                self.disk.shut(number, clients)
            case rounds.Answer(control=told):
                self.disk.order(told)
            case rounds.GoBack(_, dropped):
                self.disk.set_aside(dropped)
            case rounds.Finish():
                self.disk.finish()
            case _:
                pass

    def write(self, answers: Sequence[Named], closes_in_s: Seconds | None) -> None:
        """Those of them that are on the way reach the disk. `closes_in_s`, of the open round."""
        for named in answers:
            if named in self.on_the_way:
                self.on_the_way.remove(named)
                self.disk.keep(named, closes_in_s, self.reports.get(named))

    def write_orders(self, state: rounds.State) -> None:
        """What is left of them to be carried out, which is written after what follows from it."""
        self.disk.order(state.past.control)

    def write_refusals(self, state: rounds.State) -> None:
        if isinstance(state, rounds.Collecting):
            refusals = Refusals(declined={**state.declined}, rejected={**state.rejected})
            self.disk.refuse(state.round, refusals)

    def _close(self, close: rounds.Close, state: rounds.State, model: Digest) -> None:
        self.disk.close_round(close, _carried(state), model)
        self.closed.append(close)

    def resume(
        self, at: Seconds, rules: Rules, roster: Roster
    ) -> rounds.Waiting | rounds.Collecting:
        """What the machine goes on from, when the coordinator was killed and comes back."""
        roster.knowledge = self.disk.knowledge()
        roster.recall(self.disk.participations)
        self.on_the_way.clear()
        self.closing = None
        return self.disk.recover(at, rules)


def _carried(state: rounds.State) -> Carried:
    past = state.past
    return Carried(pace=past.pace, late=past.late, typical_s=past.typical_s)
