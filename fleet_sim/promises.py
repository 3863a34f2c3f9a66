"""What must hold after every event, whatever the weather; and what must follow when it calms.

The promises keep accounts of their own, from events and effects alone, so that a machine whose
state is wrong cannot convince them.
"""

import math
from dataclasses import dataclass, field

from coordinator import rounds
from coordinator.roster import Roster
from edge_client import session
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import PURPOSES, Announce, ModelRef, Offer, Receipt
from fedmqtt.topics import ClientId, Inbox, OfferBoard, RoundId


class Broken(AssertionError):
    """A promise was broken; says which, by whom and how."""


def hold(promise: bool, otherwise: str) -> None:
    # Not `assert`: the promises are checked under `python -O` too.
    if not promise:
        raise Broken(otherwise)


@dataclass(slots=True)
class CoordinatorPromises:
    rules: rounds.Rules
    model: ModelRef | None = None
    offers: dict[RoundId, Offer] = field(default_factory=dict)
    counted: dict[RoundId, set[ClientId]] = field(default_factory=dict)
    """Whose update or evaluation counted; a client is asked for one of them only."""
    closed: list[rounds.Close] = field(default_factory=list)
    finished: bool = False

    def check(
        self,
        event: rounds.Event,
        after: rounds.State,
        effects: list[rounds.Effect],
        roster: Roster,
        alarm_at: Seconds | None,
    ) -> None:
        if isinstance(event, rounds.ModelReady):
            self.model = event.model
        for effect in effects:
            match effect:
                case rounds.Accept(client, round_id):
                    self._counts(event, rounds.UpdateCame, client, round_id)
                case rounds.AcceptEvaluation(client, round_id):
                    self._counts(event, rounds.EvaluationCame, client, round_id)
                case rounds.Close():
                    self._closes(event.at, effect, roster)
                case Publish(OfferBoard(), Offer() as offer):
                    self._opens(offer, roster)
                case rounds.Finish():
                    hold(not self.finished, "finished twice")
                    self.finished = True
                case _:
                    pass
        self._receipts(event, effects)
        self._on_time(event, after, roster, alarm_at)

    def _opens(self, offer: Offer, roster: Roster) -> None:
        rules, number = self.rules, len(self.closed) + 1
        hold(offer.round == number, f"round {offer.round} opened after {number - 1} were closed")
        hold(offer.round not in self.offers, f"round {offer.round} opened twice")
        hold(offer.model == self.model, f"round {offer.round} is not about the newest model")
        for client in offer.train:
            entry = roster.clients[client]
            hold(entry.online, f"{client} invited to train while away")
            hold("train" in entry.presence.purposes, f"{client} invited against its will")
        invited = len(offer.train)
        hold(invited <= math.ceil(rules.cohort * rules.over_selection), f"invited {invited}")
        self.offers[offer.round] = offer
        self.counted[offer.round] = set()

    def _counts(
        self,
        event: rounds.Event,
        kind: type[rounds.UpdateCame | rounds.EvaluationCame],
        client: ClientId,
        round_id: RoundId,
    ) -> None:
        what = f"{client}'s answer to round {round_id}"
        if not isinstance(event, rounds.UpdateCame | rounds.EvaluationCame):
            raise Broken(f"{what} counted though none came")
        hold(isinstance(event, kind), f"{what} counted as what it is not")
        hold((event.client, event.round) == (client, round_id), f"{what} counted for another")
        offer = self.offers.get(round_id)
        if offer is None or len(self.closed) >= round_id:
            raise Broken(f"{what} counted though the round is not open")
        # Who is asked for both sends both in one update.
        trains = client in offer.train
        invited = trains if isinstance(event, rounds.UpdateCame) else client in offer.evaluate
        hold(invited, f"{what} counted uninvited")
        hold(trains == isinstance(event, rounds.UpdateCame), f"{what} counted as half of it")
        hold(event.base == offer.model.digest, f"{what} counted with base {event.base}")
        hold(not event.fault, f"{what} counted with a fault")
        if isinstance(event, rounds.UpdateCame):
            hold(event.fingerprint == offer.model.fingerprint, f"{what} is of another task")
        hold(client not in self.counted[round_id], f"{what} counted twice")
        self.counted[round_id].add(client)

    def _closes(self, at: Seconds, close: rounds.Close, roster: Roster) -> None:
        number = len(self.closed) + 1
        hold(close.round == number, f"round {close.round} closed after {number - 1}")
        hold(close.round in self.offers, f"round {close.round} closed unopened")
        answered = self.counted[close.round] & set(self.offers[close.round].train)
        hold(answered == close.answered, f"round {close.round} closed with what did not count")
        hold(not close.answered & close.declined.keys(), "answered and declined")
        hold(not close.answered & close.rejected.keys(), "answered and rejected")
        if close.outcome == "averaged":
            enough = len(answered) >= max(1, self.rules.quorum)
            hold(enough, f"round {close.round} averaged {len(answered)} answers")
        if close.outcome == "kept":
            few = len(answered) < self.rules.quorum
            hold(few, f"round {close.round} kept its model despite {len(answered)} answers")
        self.closed.append(close)
        recount(roster)

    def _receipts(self, event: rounds.Event, effects: list[rounds.Effect]) -> None:
        told = [
            (effect.to.client, effect.message)
            for effect in effects
            if isinstance(effect, Publish)
            and isinstance(effect.to, Inbox)
            and isinstance(effect.message, Receipt)
        ]
        admitted = [effect for effect in effects if isinstance(effect, rounds.Admit)]
        if not isinstance(event, rounds.AnnounceCame | rounds.UpdateCame | rounds.EvaluationCame):
            hold(not told and not admitted, "a receipt for nothing")
            return
        what = f"{event.client}'s answer to round {event.round}"
        if isinstance(event, rounds.AnnounceCame) and not told:
            hold(len(admitted) == 1, f"{what} was announced and got no reply")
            open_now = event.round == len(self.closed) + 1 and event.round in self.offers
            hold(open_now, f"{what} admitted though the round is not open")
            return
        hold(not admitted, f"{what} admitted without having been announced")
        hold(len(told) == 1, f"{what} got {len(told)} receipts")
        client, receipt = told[0]
        hold((client, receipt.round) == (event.client, event.round), f"{what}: receipt of another")
        counts = event.client in self.counted.get(event.round, ())
        remembered = event.round > len(self.closed) - rounds.SETTLED_ROUNDS
        if receipt.accepted or remembered:
            hold(receipt.accepted == counts, f"{what} counts: {counts}; told: {receipt.accepted}")

    def _on_time(
        self, event: rounds.Event, after: rounds.State, roster: Roster, alarm_at: Seconds | None
    ) -> None:
        match after:
            case rounds.Collecting(closes_at=closes_at, round=number):
                hold(event.at < closes_at, f"round {number} is open after its deadline")
                hold(alarm_at is not None and alarm_at <= closes_at, f"no alarm for round {number}")
            case rounds.Waiting(model=model, not_before=not_before, round=number) if model:
                if event.at < not_before:
                    soon = alarm_at is not None and alarm_at <= not_before
                    hold(soon, f"no alarm for round {number}")
                    return
                enough = roster.willing_count("train") >= max(1, self.rules.clients_min)
                hold(not enough, f"round {number} could open and does not")
                rest = roster.rest_ends_at()
                again = rest is None or (alarm_at is not None and alarm_at <= max(rest, event.at))
                hold(again, f"no alarm for those who rest before round {number}")
            case _:
                pass


def recount(roster: Roster) -> None:
    """The roster's running counts are what a count of its entries gives."""
    online = [client for client, entry in roster.clients.items() if entry.online]
    hold(roster.online_count == len(online), f"{roster.online_count} online, not {len(online)}")
    usable = [
        client
        for client in online
        if not roster.clients[client].hindrance and not roster.is_resting(client)
    ]
    for purpose in PURPOSES:
        willing = sorted(c for c in usable if purpose in roster.clients[c].presence.purposes)
        hold(roster.willing(purpose) == willing, f"willing to {purpose}: not who says so")
        hold(roster.willing_count(purpose) == len(willing), f"miscounted who would {purpose}")


def check_client(
    client: ClientId,
    before: session.Session,
    event: session.Event,
    after: session.Session,
    effects: list[session.Effect],
    alarm_at: Seconds | None,
) -> None:
    """One step of one client's machine."""
    if before.owed is not after.owed:
        _nothing_is_lost(client, before, event, after)
    for effect in effects:
        match effect:
            case Publish() | session.Send() | session.SendChunks():
                hold(after.online, f"{client} speaks without a link")
            case session.Forget(answer):
                _may_forget(client, before, event, answer)
            case session.Work(offer, purpose):
                invited = offer.train if purpose == "train" else offer.evaluate
                hold(client in invited, f"{client} works uninvited")
                hold(not after.hindrance, f"{client} works against its owner's conditions")
                job = after.job
                working = isinstance(job, session.Working) and job.offer is offer
                hold(working, f"{client} works on what it does not know of")
                hold(isinstance(before.job, session.Fetching), f"{client} works without a model")
            case _:
                pass
    if isinstance(event, session.Woke) and before.online:
        _what_is_due_is_sent(client, before, event.at, effects)
    due = [one.send_at for one in after.owed] if after.online else []
    if after.job is not None:
        due.append(after.job.closes_at)
    if due:
        hold(alarm_at is not None and alarm_at <= min(due), f"{client} has no alarm")


def _nothing_is_lost(
    client: ClientId, before: session.Session, event: session.Event, after: session.Session
) -> None:
    owed = {one.answer for one in after.owed}
    hold(len(owed) == len(after.owed), f"{client} owes an answer twice")
    for one in before.owed:
        if one.answer in owed or isinstance(event, session.Started):
            continue
        receipted = (
            isinstance(event, session.Received)
            and isinstance(event.message, Receipt)
            and event.message.round == one.answer.round
        )
        hold(receipted, f"{client} lost its answer to round {one.answer.round} to {event}")


def _what_is_due_is_sent(
    client: ClientId, before: session.Session, at: Seconds, effects: list[session.Effect]
) -> None:
    sent = {effect.answer.digest for effect in effects if isinstance(effect, session.Send)}
    for effect in effects:
        if isinstance(effect, Publish) and isinstance(effect.message, Announce):
            sent.add(effect.message.digest)
    due = {one.answer.digest for one in before.owed if one.send_at <= at}
    hold(due <= sent, f"{client} was woken and does not send what it owes")


def _may_forget(
    client: ClientId, before: session.Session, event: session.Event, answer: session.Answer
) -> None:
    match event:
        case session.Received(_, Receipt(round=round_id)):
            hold(answer.round == round_id, f"{client} forgot {answer.round}, not {round_id}")
        case session.Finished():
            owed = any(one.answer == answer for one in before.owed)
            hold(not owed, f"{client} forgot what it owes for round {answer.round}")
        case _:
            raise Broken(f"{client} forgot its answer to round {answer.round} at {event}")
