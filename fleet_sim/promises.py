"""What must hold after every event, whatever the weather; and what must follow when it calms.

The promises keep accounts of their own, from events and effects alone, so that a machine whose
state is wrong cannot convince them. The coordinator's accounts outlive it: what it had on its disk
when it was killed it must know when it is back, and nothing else.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from msgspec import structs

from coordinator import pacing, rounds
from coordinator.pacing import Pace
from coordinator.roster import Roster
from coordinator.rounds import Named
from edge_client import session
from fedmqtt import sortition
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import ALL_PURPOSES, Announce, ModelRef, Offer, Purpose, Receipt
from fedmqtt.topics import ClientId, Inbox, OfferBoard, RoundId

_CROWDED = "too many wait already"
"""Why an answer cannot count late, as long as it is so."""
_DISCARDED = "late answers are discarded"
_NO_MORE = "no round will take it up"
"""Why it can not, and could if its round were open."""


class Broken(AssertionError):
    """A promise was broken; says which, by whom and how."""


def hold(promise: bool, otherwise: str) -> None:
    # Not `assert`: the promises are checked under `python -O` too.
    if not promise:
        raise Broken(otherwise)


_Answer = rounds.UpdateCame | rounds.EvaluationCame
_Asking = rounds.AnnounceCame | rounds.UpdateCame | rounds.EvaluationCame
_OfClient = rounds.ClientCame | rounds.ClientLeft | rounds.Declined | _Asking
_Own = (
    rounds.Stored
    | rounds.Lost
    | rounds.ModelReady
    | rounds.LeadCame
    | rounds.CalledOff
    | rounds.KeysCame
    | rounds.LinkDown
    | rounds.LinkUp
    | rounds.Woke
    | rounds.Barred
    | rounds.Unbarred
    | rounds.OrderCame
)
_Counting = rounds.Accept | rounds.AcceptEvaluation | rounds.Hold


@dataclass(frozen=True, slots=True)
class Invited:
    train: frozenset[ClientId]
    evaluate: frozenset[ClientId]


@dataclass(slots=True)
class CoordinatorPromises:
    """Of all lives of one run's coordinator."""

    rules: rounds.Rules
    model: ModelRef | None = None
    offers: dict[RoundId, Offer] = field(default_factory=dict)
    """As each round was opened, with whom it invited later."""
    invited: dict[RoundId, Invited] = field(default_factory=dict)
    """When each round was opened, as far as was known."""
    shut: dict[RoundId, frozenset[ClientId]] = field(default_factory=dict)
    """By sortition: who was in each round when somebody found no room, and nobody came any more."""
    trained: dict[RoundId, set[ClientId]] = field(default_factory=dict)
    """Whose update was accepted, in time or late."""
    counted: dict[RoundId, set[ClientId]] = field(default_factory=dict)
    """Whose update or evaluation was accepted, in time or late; a client is asked for one."""
    storing: set[Named] = field(default_factory=set)
    """Accepted, and not said to be stored."""
    receipted: set[Named] = field(default_factory=set)
    """Who was told that its answer counts."""
    turned_away: set[Named] = field(default_factory=set)
    """Who was told that its update does not count, though it was invited and nothing is wrong with
    what is in it. It has forgotten it: a copy of it, which may still be under way, must not
    count."""
    unsaid: dict[Named, bool] = field(default_factory=dict)
    """Who came too late for a round of which it is not written down that it has closed: they are
    told when it is. And whether that will turn them away, as above."""
    used: dict[Named, RoundId] = field(default_factory=dict)
    """In which round's closing each answer counted."""
    held: list[Named] = field(default_factory=list)
    """Late answers that no round has taken up yet, as they came."""
    closed: list[rounds.Close] = field(default_factory=list)
    finished: bool = False
    births: dict[ClientId, str] = field(default_factory=dict)
    """Of which session each client's last one was."""
    barred: set[ClientId] = field(default_factory=set)
    at_work: dict[ClientId, tuple[RoundId, Seconds]] = field(default_factory=dict)
    """Where rounds are asynchronous: to which round, and when, those were invited who have been
    there without a word since."""
    reminded: Counter[tuple[RoundId, ClientId]] = field(default_factory=Counter)
    """How often each was told of a round again."""
    comings: Counter[ClientId] = field(default_factory=Counter)
    """How often it came with another session."""
    restarts: int = 0
    """Of the coordinator."""
    there: set[ClientId] = field(default_factory=set)
    """Who has given a sign of life, and not left with its last session."""
    greeted_at: Seconds = 0.0
    """Before, no round may open: with a new link clients must have time to be heard of."""
    deaf_since: Seconds | None = None
    """There is no link, or nothing has been heard since a crash."""
    recounts: bool = True
    """Whether the roster is counted anew when a round closes."""
    _openings_on_disk: int = 0
    _train_on_disk: dict[RoundId, tuple[ClientId, ...]] = field(default_factory=dict)
    """Who is known to have been invited to each of the rounds, should it be killed now."""
    _shut_on_disk: set[RoundId] = field(default_factory=set)
    _closings_on_disk: int = 0
    _closed_before: int = 0
    """Rounds, when what is being checked happened. So says the next of those that were opened."""
    _opened_before: int = 0
    _is_full: bool = False
    """Whether an answer of who has just spoken may have to wait for its place in the budget."""

    def check(
        self,
        event: rounds.Event,
        after: rounds.State,
        effects: list[rounds.Effect],
        roster: Roster,
        alarm_at: Seconds | None,
    ) -> None:
        self._closed_before, self._opened_before = len(self.closed), len(self.offers)
        if isinstance(event, rounds.ModelReady):
            self.model = event.model
        self._follows_link(event)
        self._leaves_out(event, effects)
        # Before what comes of it: a round that closes may make room.
        self._is_full = isinstance(event, _Asking) and self._waits_for_budget(event.client)
        if not isinstance(event, _Own):
            self._knows_who_is_there(event, roster)
        due = self._take_stored(event) if isinstance(event, rounds.Stored) else []
        for effect in effects:
            match effect:
                case rounds.Accept(client, round_id):
                    self._counts(event, rounds.UpdateCame, Named(client, round_id))
                case rounds.AcceptEvaluation(client, round_id):
                    self._counts(event, rounds.EvaluationCame, Named(client, round_id))
                case rounds.Hold(client, round_id):
                    self._holds(event, Named(client, round_id))
                case rounds.Close():
                    self._closes(event.at, effect, roster)
                case Publish(OfferBoard(), Offer() as offer):
                    hold(not after.past.control.paused_by, f"round {offer.round} opens, paused")
                    self._opens(event.at, offer, roster)
                case rounds.Invite():
                    self._invites_more(event.at, effect, roster)
                case rounds.Remind():
                    self._reminds(effect, roster)
                case rounds.Shut():
                    self._shuts(effect)
                case rounds.Finish():
                    fair = self._has_evaluated or event.at >= self.greeted_at
                    hold(fair, "finished unevaluated before anybody was heard of")
                    hold(not self.finished, "finished twice")
                    hold(not self.storing, f"finished while {_some(self.storing)} were stored")
                    self.finished = True
                case _:
                    pass
        self._receipts(event, effects, due)
        if self.deaf_since is None:
            self._on_time(event, after, roster, alarm_at)

    def _follows_link(self, event: rounds.Event) -> None:
        match event:
            case rounds.LinkDown(at) if self.deaf_since is None:
                self.deaf_since = at
                self.at_work.clear()
            case rounds.LinkUp(at) if self.deaf_since is not None:
                self.deaf_since = None
                self.greeted_at = at + self.rules.greet_s
            case _:
                pass

    def _leaves_out(self, event: rounds.Event, effects: list[rounds.Effect]) -> None:
        match event:
            case rounds.Barred(client=client):
                self.barred.add(client)
                self.at_work.pop(client, None)
            case rounds.Unbarred(client=client):
                self.barred.discard(client)
            case _:
                pass
        for effect in effects:
            match effect:
                case Publish(OfferBoard(), Offer(train=train, evaluate=evaluate)):
                    invited = {*train, *evaluate}
                case rounds.Invite(clients=clients):
                    invited = {*clients}
                case _:
                    continue
            hold(not invited & self.barred, f"invited {_some(invited & self.barred)} all the same")

    def _knows_who_is_there(self, event: _OfClient, roster: Roster) -> None:
        client = event.client
        match event:
            case rounds.ClientCame(presence=presence):
                self.comings[client] += presence.session != self.births.get(client)
                self.births[client] = presence.session
                self.there.add(client)
            case rounds.ClientLeft(session=session):
                if self.births.get(client) == session:
                    self.there.discard(client)
            case _:
                self.there.update({client} & self.births.keys())
                self._is_done(event)
        if client not in self.there:
            self.at_work.pop(client, None)
        is_there = client in self.there
        hold(roster.is_online(client) == is_there, f"{client} is there: {is_there}; not believed")

    # Opening

    def _opens(self, at: Seconds, offer: Offer, roster: Roster) -> None:
        rules, number = self.rules, len(self.closed) + 1
        hold(self.deaf_since is None, f"round {number} opened without a link")
        hold(at >= self.greeted_at, f"round {number} opened before its clients were heard of")
        hold(offer.round == number, f"round {offer.round} opened after {number - 1} were closed")
        hold(offer.round not in self.offers, f"round {offer.round} opened twice")
        hold(offer.model == self.model, f"round {offer.round} is not about the newest model")
        hold((offer.run, offer.epoch) == (rules.run, rules.epoch), "offered as somebody else")
        hold(not self._has_evaluated, f"round {number} opened after the last evaluation")
        invited = self.invited[offer.round] = _invited(offer, roster)
        self._asks(at, offer.round, sorted(invited.train), roster)
        pace, count = self._pace, len(invited.train)
        limit = pacing.invite_limit(pace.over_selection, rules.cohort)
        if rules.is_asynchronous:
            limit = rules.concurrency
        hold(count <= limit, f"invited {count}; at most {limit} are allowed")
        if offer.sortition is not None:
            hold(not offer.train and not offer.evaluate, "invited by name, and by sortition")
            wanted = min(limit, roster.willing_count("train")) if _trains(offer) else 0
            hold(count == wanted, f"{count} drawn of {wanted} that are wanted")
        wanted_s = pace.deadline_s if _trains(offer) else rules.final_deadline_s
        waits_s = offer.closes_in_s
        # The pace counts where anybody is to train; the deadline is a difference of two moments.
        hold(abs(waits_s - wanted_s) < 1e-6 * (1 + wanted_s), f"open for {waits_s}, not {wanted_s}")
        self.offers[offer.round] = offer
        self.counted[offer.round], self.trained[offer.round] = set(), set()

    def _asks(
        self, at: Seconds, number: RoundId, clients: Iterable[ClientId], roster: Roster
    ) -> None:
        """They are invited to train."""
        rules = self.rules
        for client in clients:
            entry = roster.clients[client]
            hold(entry.online, f"{client} invited to train while away")
            hold(entry.presence.would(rules.purpose), f"{client} invited against its will")
            if rules.is_asynchronous:
                hold(not self._works(at, client), f"{client} invited while at work")
                self.at_work[client] = (number, at)
        if rules.is_asynchronous:
            count = sum(self._works(at, client) for client in self.at_work)
            hold(count <= rules.concurrency, f"{count} clients are at work")

    def _invites_more(self, at: Seconds, invite: rounds.Invite, roster: Roster) -> None:
        rules, number = self.rules, invite.round
        hold(rules.is_asynchronous, f"round {number} invites more, and is synchronous")
        hold(self.deaf_since is None, f"round {number} invites more without a link")
        is_open = number in self.offers and number == len(self.closed) + 1
        hold(is_open, f"round {number} invites more and is not open")
        offer, more = self.offers[number], set(invite.clients)
        hold(bool(offer.train), f"round {number} invites to train, and is the last evaluation")
        hold(bool(more), f"round {number} invites nobody more")
        twice = more & {*offer.train, *offer.evaluate}
        hold(not twice, f"round {number} invites {_some(twice)} twice")
        self._asks(at, number, sorted(more), roster)
        self.offers[number] = structs.replace(offer, train=(*offer.train, *sorted(more)))
        before = self.invited[number]
        self.invited[number] = replace(before, train=before.train | more)
        # The offer is said to all for that, and again to who is silent then.
        self.reminded = Counter(
            {key: its for key, its in self.reminded.items() if key[0] != number}
        )

    def _reminds(self, remind: rounds.Remind, roster: Roster) -> None:
        number, clients = remind.round, set(remind.clients)
        hold(self.deaf_since is None, f"round {number} is said again without a link")
        is_open = number in self.offers and number == len(self.closed) + 1
        hold(is_open, f"round {number} is said again and not open")
        hold(bool(clients), f"round {number} is said again to nobody")
        invited = self.invited[number]
        strangers = clients - invited.train - invited.evaluate
        if self.offers[number].sortition is None:
            hold(not strangers, f"round {number} is said again to {_some(strangers)}, uninvited")
        vain = clients & self.counted[number]
        hold(not vain, f"round {number} is said again to {_some(vain)}, who have answered")
        hold(not clients & self.barred, f"said again to {_some(clients & self.barred)}, barred")
        away = {one for one in clients if not roster.is_online(one)}
        hold(not away, f"round {number} is said again to {_some(away)}, who are away")
        for client in clients:
            count = self.reminded[number, client] = self.reminded[number, client] + 1
            # Again for each time that it came back, or that the coordinator did.
            comings = self.comings[client] + self.restarts
            hold(
                count <= rounds.REMINDERS * (1 + self.restarts) + comings,
                f"{client} is told {count} times of round {number}",
            )

    def _shuts(self, shut: rounds.Shut) -> None:
        number, inside = shut.round, shut.clients
        is_open = number in self.offers and number == len(self.closed) + 1
        hold(is_open, f"round {number} is shut and not open")
        hold(number not in self.shut, f"round {number} is shut twice")
        invited = self.invited[number].train
        hold(len(inside) == rounds.room(len(invited)), f"round {number} is shut with room")
        drawn = all(sortition.invites(self.offers[number], one, "train") for one in inside)
        hold(drawn, f"round {number} is shut with who was not drawn")
        outside = (invited | self.trained[number]) - inside
        hold(not outside, f"round {number} is shut, and {_some(outside)} outside")
        self.shut[number] = inside

    def _works(self, at: Seconds, client: ClientId) -> bool:
        """Whether it surely has a place: it may have one that was away meanwhile."""
        if client not in self.at_work:
            return False
        number, invited_at = self.at_work[client]
        is_too_old = len(self.closed) + 1 - number > self.rules.late_rounds_max
        # The deadline is a difference of two moments.
        return not is_too_old and at < invited_at + self._pace.deadline_s * (1 - 1e-6)

    def _is_done(self, event: _OfClient) -> None:
        if isinstance(event, rounds.ClientCame | rounds.ClientLeft):
            return
        number, _ = self.at_work.get(event.client, (math.inf, 0.0))
        if event.run == self.rules.run and event.round >= number:
            del self.at_work[event.client]

    def offered(self, offer: Offer) -> None:
        """An offer is said, for the first time or again."""
        first = self.offers.get(offer.round)
        if first is None or len(self.closed) >= offer.round:
            raise Broken(f"round {offer.round} is offered and not open")
        hold(offer.model == self.model, f"round {offer.round} is offered with another model")
        hold(offer.epoch == self.rules.epoch, f"offered by a coordinator of epoch {offer.epoch}")
        hold(
            offer.closes_in_s <= first.closes_in_s + 1e-6,
            f"round {offer.round} was given more time",
        )
        hold(offer.sortition == first.sortition, f"round {offer.round} is drawn anew")
        for said, before in ((offer.train, first.train), (offer.evaluate, first.evaluate)):
            invited = set(said)
            hold(invited <= set(before), f"round {offer.round} invites more when it is said again")
            vain = invited & self.counted[offer.round]
            hold(not vain, f"round {offer.round} invites {_some(vain)}, who have answered")

    @property
    def _has_evaluated(self) -> bool:
        return bool(self.closed) and self.closed[-1].outcome == "evaluated"

    @property
    def _pace(self) -> Pace:
        """What the last round taught, or what the first one begins with."""
        return self.closed[-1].pace if self.closed else pacing.begin(self.rules.pace)

    # Answers that count

    def _counts(self, event: rounds.Event, kind: type[_Answer], named: Named) -> None:
        what = _called(named)
        if not isinstance(event, _Answer):
            raise Broken(f"{what} counted though none came")
        hold(isinstance(event, kind), f"{what} counted as what it is not")
        offer = self.offers.get(named.round)
        if offer is None or len(self.closed) >= named.round:
            raise Broken(f"{what} counted though the round is not open")
        # Who is asked for both sends both in one update.
        is_update = isinstance(event, rounds.UpdateCame)
        purpose: Purpose = "train" if is_update else "evaluate"
        hold(sortition.invites(offer, named.client, purpose), f"{what} counted uninvited")
        trains = named.client in self.invited[named.round].train
        # By sortition, who was not known of does one thing.
        is_whole = trains == is_update or (is_update and offer.sortition is not None)
        hold(is_whole, f"{what} counted as half of it")
        self._is_good(event, offer, what)
        self._accepts(event, named, what)

    def _holds(self, event: rounds.Event, named: Named) -> None:
        what = f"{_called(named)}, late,"
        if not isinstance(event, rounds.UpdateCame):
            raise Broken(f"{what} counted though no update came")
        refusal = self._late_refusal(named)
        hold(not refusal, f"{what} counted though {refusal}")
        self._is_good(event, self.offers[named.round], what)
        self._accepts(event, named, what)
        self.held.append(named)

    def _late_refusal(self, named: Named, closed: int | None = None) -> str:
        """Why an answer cannot count late; nothing if it can. `closed`: after so many rounds,
        if not after all that have closed."""
        rules, current = self.rules, (len(self.closed) if closed is None else closed) + 1
        if rules.late == "discard":
            return _DISCARDED
        if named.round not in self.offers or named.round >= current:
            return "its round has not been closed"
        if current - named.round > min(rules.late_rounds_max, rules.remembered_rounds):
            return "its round closed too long ago"
        if rules.rounds and current > rules.rounds:
            return _NO_MORE
        if not sortition.invites(self.offers[named.round], named.client, "train"):
            return "it is uninvited"
        if named.client not in self.shut.get(named.round, {named.client}):
            return "its round had no room"
        if len(self.held) >= rules.held_max:
            return _CROWDED
        return ""

    def _is_good(self, event: _Answer, offer: Offer, what: str) -> None:
        hold(event.run == self.rules.run, f"{what} counted though it is of run {event.run}")
        hold(event.base == offer.model.digest, f"{what} counted with base {event.base}")
        hold(not event.fault, f"{what} counted with a fault")
        if isinstance(event, rounds.UpdateCame):
            hold(event.fingerprint == offer.model.fingerprint, f"{what} is of another task")

    def _accepts(self, event: _Answer, named: Named, what: str) -> None:
        hold((event.client, event.round) == (named.client, named.round), f"{what} is another's")
        hold(named.client not in self.counted[named.round], f"{what} counted twice")
        hold(named not in self.turned_away, f"{what} counted after it was turned away")
        self.counted[named.round].add(named.client)
        if isinstance(event, rounds.UpdateCame):
            self.trained[named.round].add(named.client)
        self.storing.add(named)

    def _take_stored(self, event: rounds.Stored) -> list[Named]:
        """Which answers must get their receipts now."""
        due = [named for named in event.answers if named in self.storing]
        self.storing.difference_update(due)
        return due

    def _has_counted(self, named: Named) -> bool:
        return named.client in self.counted.get(named.round, ())

    def _evaluators(self, number: RoundId) -> frozenset[ClientId]:
        """Who was asked, and who was not known of and did."""
        invited, trained = self.invited[number], self.trained[number]
        return (invited.evaluate - (trained - invited.train)) | (self.counted[number] - trained)

    # Receipts

    def _receipts(
        self, event: rounds.Event, effects: list[rounds.Effect], due: list[Named]
    ) -> None:
        told = [
            (effect.to.client, effect.message)
            for effect in effects
            if isinstance(effect, Publish)
            and isinstance(effect.to, Inbox)
            and isinstance(effect.message, Receipt)
        ]
        if isinstance(event, _Asking):
            self._replies(event, effects, told)
        else:
            if isinstance(event, rounds.ClientCame):
                due = self._due_to_who_came(event, told)
            if isinstance(event, rounds.ModelReady):
                self._says_what_was_held_back(told)
                told = []
            heard = sorted(f"{client} {receipt.round}" for client, receipt in told)
            wanted = sorted(f"{named.client} {named.round}" for named in due)
            hold(heard == wanted, f"receipts for {heard[:3]}, stored were {wanted[:3]}")
            hold(all(receipt.accepted for _, receipt in told), "stored, and then refused")
            hold(not _admitted(effects), "admitted without having been announced")
        for client, receipt in told:
            if receipt.accepted:
                self._confirms(Named(client, receipt.round), receipt)

    def _due_to_who_came(
        self, event: rounds.ClientCame, told: list[tuple[ClientId, Receipt]]
    ) -> list[Named]:
        """By sortition it sees that it is invited though it may have answered and forgotten."""
        number = RoundId(len(self.closed) + 1)
        named = Named(event.client, number)
        offer = self.offers.get(number)
        is_drawn = offer is not None and offer.sortition is not None
        return [named] if told and is_drawn and self._has_counted(named) else []

    def _replies(
        self, event: _Asking, effects: list[rounds.Effect], told: list[tuple[ClientId, Receipt]]
    ) -> None:
        named = Named(event.client, event.round)
        what = _called(named)
        admitted = _admitted(effects)
        if any(isinstance(effect, _Counting) for effect in effects) or (
            named in self.storing and event.run == self.rules.run
        ):
            # The receipt comes when it is stored.
            hold(not told and not admitted, f"{what} got a reply before it was stored")
            return
        if admitted:
            hold(isinstance(event, rounds.AnnounceCame), f"{what} admitted without an announcement")
            hold(len(admitted) == 1 and not told, f"{what} got two replies")
            hold(event.run == self.rules.run, f"{what} admitted though it is of run {event.run}")
            # What was so when it came: the same event may have closed the last round.
            closed = self._closed_before
            was_open = event.round == closed + 1 and event.round in self.offers
            is_hopeless = not was_open and self._late_refusal(named, closed)
            hold(not is_hopeless, f"{what} admitted though {is_hopeless}")
            return
        if self._may_count_later(event, named):
            hold(not told, f"{what} was refused, and may count when there is room")
            return
        counts = self._has_counted(named)
        if not counts and event.run == self.rules.run and self._is_late_for_unwritten(event):
            hold(not told, f"{what} was refused before it was written that its round has closed")
            if named in self.unsaid or len(self.unsaid) < rounds.UNSAID_MAX:
                could_count = self._could_count(event, effects)
                self.unsaid[named] = could_count or self.unsaid.get(named, False)
            return
        if self._is_full and not told and event.round == len(self.closed) + 1:
            return
        hold(len(told) == 1, f"{what} got {len(told)} receipts")
        client, receipt = told[0]
        of = (client, receipt.run, receipt.round)
        hold(of == (event.client, event.run, event.round), f"{what}: receipt of another")
        if event.run != self.rules.run:
            hold(not receipt.accepted, f"{what}, of run {event.run}: accepted")
            return
        remembered = event.round > len(self.closed) - self.rules.remembered_rounds
        if receipt.accepted or remembered:
            hold(receipt.accepted == counts, f"{what} counts: {counts}; told: {receipt.accepted}")
        if not receipt.accepted and self._could_count(event, effects):
            self.turned_away.add(named)

    def _says_what_was_held_back(self, told: list[tuple[ClientId, Receipt]]) -> None:
        heard = {Named(client, receipt.round) for client, receipt in told}
        wanted = set(self.unsaid)
        hold(heard == wanted, f"refused {_some(heard)}, held back were {_some(wanted)}")
        hold(len(told) == len(heard), "refused twice")
        hold(not any(receipt.accepted for _, receipt in told), "held back, and then accepted")
        hold(not any(self._is_unwritten(named.round) for named in heard), "refused too early")
        self.turned_away |= {named for named, for_good in self.unsaid.items() if for_good}
        self.unsaid.clear()

    def _is_late_for_unwritten(self, event: _Asking) -> bool:
        """Whether nothing but the closing of a round stands against it that would be open again
        after a kill."""
        never = isinstance(event, rounds.EvaluationCame)
        reason = self._late_refusal(Named(event.client, event.round))
        return self._is_unwritten(event.round) and (never or reason in (_DISCARDED, _NO_MORE))

    def _is_unwritten(self, number: RoundId) -> bool:
        """Whether the round had closed, and would be open again after a kill."""
        return self._closings_on_disk < number <= self._closed_before

    def _may_count_later(self, event: _Asking, named: Named) -> bool:
        if isinstance(event, rounds.EvaluationCame) or event.run != self.rules.run:
            return False
        if self._has_counted(named):
            return False
        refusal = self._late_refusal(named)
        return refusal == _CROWDED or (self._is_full and not refusal)

    def _could_count(self, event: _Asking, effects: list[rounds.Effect]) -> bool:
        """Whether who is invited to train sends a good update, or announces it."""
        offer = self.offers.get(event.round)
        if offer is None or event.round > self._opened_before:
            # Nobody could know of it: also where the same event opened it.
            return False
        if event.fault or isinstance(event, rounds.EvaluationCame):
            return False
        for effect in effects:
            if isinstance(effect, rounds.Invite) and event.client in effect.clients:
                # It answered uninvited; the same event made a place free, and it was given it.
                return False
        if not sortition.invites(offer, event.client, "train"):
            return False
        if isinstance(event, rounds.AnnounceCame):
            return True
        model = offer.model
        return (event.base, event.fingerprint) == (model.digest, model.fingerprint)

    def _confirms(self, named: Named, receipt: Receipt) -> None:
        what = _called(named)
        hold(receipt.run == self.rules.run, f"{what}: a receipt of run {receipt.run}")
        hold(self._has_counted(named), f"{what} has a receipt and does not count")
        hold(named not in self.storing, f"{what} has a receipt and a crash would lose it")
        self.receipted.add(named)

    # Closing

    def _closes(self, at: Seconds, close: rounds.Close, roster: Roster) -> None:
        rules, number = self.rules, len(self.closed) + 1
        hold(close.round == number, f"round {close.round} closed after {number - 1}")
        hold(self.deaf_since is None, f"round {number} closed while nobody could be heard")
        hold(close.round in self.offers, f"round {close.round} closed unopened")
        hold(not self.storing, f"round {number} closed while {_some(self.storing)} were stored")
        offer, counted = self.offers[close.round], self.counted[close.round]
        answered = counted & self.trained[close.round]
        evaluated = counted & self._evaluators(close.round)
        hold(answered == close.answered, f"round {number} closed with what did not count")
        hold(evaluated == close.evaluated, f"round {number} closed with other evaluations")
        hold(not close.answered & close.declined.keys(), "answered and declined")
        hold(not close.answered & close.rejected.keys(), "answered and rejected")
        # Where rounds are asynchronous, what is late counts as what is in time.
        count = len(answered) + (len(self.held) if rules.is_asynchronous else 0)
        if close.outcome == "averaged":
            enough = count >= max(1, rules.quorum)
            hold(enough, f"round {number} averaged {count} answers")
        if close.outcome == "kept":
            few = count < max(1, rules.quorum)
            hold(few, f"round {number} kept its model despite {count} answers")
        if rules.is_asynchronous and _trains(offer):
            complete = count >= rules.cohort
            hold(complete == (close.reason == rounds.COMPLETE), f"{count} made it {close.reason}")
        hold(
            (close.outcome == "evaluated") == (not _trains(offer)), f"round {number} came out wrong"
        )
        taken = self._due_late(close)
        hold(list(close.held) == taken, f"round {number} took up {close.held}, not {taken}")
        del self.held[: len(taken)]
        for named in (*(Named(client, close.round) for client in counted), *taken):
            hold(named not in self.used, f"{_called(named)} counted in two rounds")
            self.used[named] = close.round
        bounds, pace = rules.pace, close.pace
        fits = bounds.deadline_min_s <= pace.deadline_s <= bounds.deadline_max_s
        fits &= bounds.over_selection_min <= pace.over_selection <= bounds.over_selection_max
        hold(fits, f"round {number} taught a pace out of bounds: {pace}")
        self.closed.append(close)
        if self.recounts:
            recount(roster)
        if rules.participations_max:
            self._is_within_budget(roster)

    def _taken(self) -> "Counter[ClientId]":
        """How often each took part: two answers in one sum are worth four."""
        taken: Counter[ClientId] = Counter()
        for close in self.closed:
            if close.outcome == "averaged":
                answers = Counter(client for client, _ in close.counted)
                taken.update({client: count**2 for client, count in answers.items()})
        return taken

    def _waits_for_budget(self, client: ClientId) -> bool:
        """Whether another answer may be too much, with those that wait, and is not by itself."""
        most = self.rules.participations_max
        waiting = sum(named.client == client for named in self.held)
        waiting += client in self.trained.get(RoundId(len(self.closed) + 1), ())
        if not most or not waiting:
            return False
        taken = self._taken()[client]
        return taken + 1 <= most < taken + (waiting + 1) ** 2

    def _is_within_budget(self, roster: Roster) -> None:
        taken = self._taken()
        most, largest = self.rules.participations_max, max(taken.values(), default=0)
        hold(largest <= most, f"a client took part {largest} times, and {most} are allowed")
        hold(dict(taken) == roster.participations.counts, "participations were miscounted")

    def _due_late(self, close: rounds.Close) -> list[Named]:
        if close.outcome != "averaged":
            return []
        is_last = close.round == self.rules.rounds
        gathers = self.rules.late == "buffer" and not is_last
        batch = min(self.rules.late_batch, self.rules.held_max) if gathers else 1
        return list(self.held) if len(self.held) >= batch else []

    def ended(self) -> None:
        """At the end of the run: whoever was told that its answer counts, counts."""
        waiting = set(self.held)
        lost = [named for named in self.receipted if named not in self.used.keys() | waiting]
        hold(not lost, f"{_some(lost)} had receipts, and count nowhere")
        last = next((one for one in self.closed if one.round == self.rules.rounds), None)
        taken_up = not waiting or last is None or last.outcome != "averaged"
        hold(taken_up, f"{_some(waiting)} are left over though the last round made a model")

    # Time

    def _on_time(
        self, event: rounds.Event, after: rounds.State, roster: Roster, alarm_at: Seconds | None
    ) -> None:
        match after:
            case rounds.Collecting(closes_at=closes_at, round=number):
                if event.at >= closes_at:
                    # It closes when the last of what counts is stored, which tells by an event.
                    hold(bool(self.storing), f"round {number} is open after its deadline")
                    return
                hold(alarm_at is not None and alarm_at <= closes_at, f"no alarm for round {number}")
                if self.rules.is_asynchronous and after.train and self.recounts:
                    self._has_filled_places(after, roster)
            case rounds.Waiting(model=model, not_before=not_before, round=number) if model:
                opens_from = max(not_before, self.greeted_at)
                if event.at < opens_from:
                    soon = alarm_at is not None and alarm_at <= opens_from
                    hold(soon, f"no alarm for round {number}")
                    return
                if after.past.control.paused_by:
                    return
                enough = roster.willing_count("train") >= max(1, self.rules.clients_min)
                if self.rules.is_asynchronous:
                    enough &= bool(self._free_places(after, roster))
                hold(not enough, f"round {number} could open and does not")
                rest = roster.rest_ends_at()
                again = rest is None or (alarm_at is not None and alarm_at <= max(rest, event.at))
                hold(again, f"no alarm for those who rest before round {number}")
            case _:
                pass

    def _has_filled_places(self, after: rounds.Collecting, roster: Roster) -> None:
        rules, answers = self.rules, len(after.answered) + len(after.past.held)
        room = after.terms_max - rules.held_max - len(after.train)
        if answers < rules.cohort and room > 0:
            asked = after.train | after.evaluate
            idle = [one for one in self._free_places(after, roster) if one not in asked]
            hold(not idle, f"{_some(idle)} could be at work and is not asked")

    def _free_places(
        self, after: rounds.Waiting | rounds.Collecting, roster: Roster
    ) -> list[ClientId]:
        """Who could be given one, if there are any."""
        places = after.past.at_work
        if len(places) >= self.rules.concurrency:
            return []
        return [one for one in roster.willing("train") if one not in places]

    # Crashes

    def opening_is_on_disk(self, number: RoundId) -> None:
        hold(number in self.offers, f"round {number} was written down unopened")
        self._openings_on_disk = number
        self._train_on_disk[number] = self.offers[number].train

    def inviting_is_on_disk(self, invite: rounds.Invite) -> None:
        self._train_on_disk[invite.round] += tuple(sorted(invite.clients))

    def shutting_is_on_disk(self, number: RoundId) -> None:
        self._shut_on_disk.add(number)

    def closing_is_on_disk(self, number: RoundId) -> None:
        hold(number == self._closings_on_disk + 1, f"round {number} was written down out of order")
        self._closings_on_disk = number

    def restarted(
        self,
        at: Seconds,
        rules: rounds.Rules,
        state: rounds.State,
        on_disk: Collection[Named],
    ) -> None:
        """A coordinator was killed; the next one has this state. `on_disk` are all the answers
        that this run has ever written down."""
        hold(rules.epoch > self.rules.epoch, f"epoch {rules.epoch} after {self.rules.epoch}")
        self.rules = rules
        self.restarts += 1
        self._forget_unwritten(at, set(on_disk))
        number = RoundId(len(self.closed) + 1)
        past = state.past
        hold(not past.storing, "back, and waits for what an earlier life was storing")
        hold(list(past.held) == self.held, f"back with {past.held} held, not {self.held}")
        hold(past.pace == self._pace, f"back with pace {past.pace}, not {self._pace}")
        self._remembers_closed(past.settled)
        match state:
            case rounds.Waiting(round=following):
                hold(following == number, f"back before round {following}, not {number}")
                hold(number not in self.offers, f"back, and round {number} is open no more")
            case rounds.Collecting():
                hold(state.round == number, f"back in round {state.round}, not {number}")
                self._is_as_before(at, state)
            case _:
                raise Broken(f"back in {type(state).__name__}")

    def _forget_unwritten(self, at: Seconds, on_disk: set[Named]) -> None:
        lost = self.receipted - on_disk
        hold(not lost, f"{_some(lost)} had receipts, and were lost")
        strange = [named for named in on_disk if not self._has_counted(named)]
        hold(not strange, f"{_some(strange)} were written down and never accepted")
        unwritten = self.closed[self._closings_on_disk :]
        hold(len(unwritten) <= 1, f"{len(unwritten)} closed rounds were not written down")
        for close in unwritten:
            self.closed.remove(close)
            self.held[:0] = close.held
            for named in [
                one for one, counted_in in self.used.items() if counted_in == close.round
            ]:
                del self.used[named]
        # What came for a round after its closing, which was not written, is in time again.
        closed = len(self.closed)
        self.held = [one for one in self.held if one in on_disk and one.round <= closed]
        self.offers = {
            n: structs.replace(one, train=self._train_on_disk[n])
            for n, one in self.offers.items()
            if n <= self._openings_on_disk
        }
        self.invited = {
            # By sortition nobody is invited later by name.
            n: self.invited[n]
            if offer.sortition is not None
            else replace(self.invited[n], train=frozenset(offer.train))
            for n, offer in self.offers.items()
        }
        self.shut = {n: one for n, one in self.shut.items() if n in self._shut_on_disk}
        self.counted = {
            number: {client for client in self.counted[number] if Named(client, number) in on_disk}
            for number in self.offers
        }
        self.trained = {
            number: self.trained[number] & clients for number, clients in self.counted.items()
        }
        for of_one_life in (self.storing, self.births, self.there, self.at_work, self.barred):
            of_one_life.clear()
        self.unsaid.clear()
        self.finished = False
        self.deaf_since, self.greeted_at = at, math.inf

    def _remembers_closed(self, settled: tuple[rounds.Settled, ...]) -> None:
        numbers = [close.round for close in self.closed[-self.rules.remembered_rounds :]]
        hold([one.round for one in settled] == numbers, f"back, and remembers not {numbers}")
        for one in settled:
            offer = self.offers[one.round]
            hold(one.answered == self.counted[one.round], f"who answered round {one.round}?")
            hold(one.model.digest == offer.model.digest, f"which model had round {one.round}?")
            invited = self.invited[one.round].train | self.shut.get(one.round, frozenset())
            hold(one.train == invited, f"who was invited to round {one.round}?")
            hold(one.sortition == offer.sortition, f"who was drawn for round {one.round}?")

    def _is_as_before(self, at: Seconds, state: rounds.Collecting) -> None:
        number, offer = state.round, self.offers.get(state.round)
        if offer is None:
            raise Broken(f"back in round {number}, which nobody opened")
        train, evaluate = (
            self.invited[number].train | self.trained[number] | self.shut.get(number, frozenset()),
            self._evaluators(number),
        )
        hold(state.train == train, f"round {number} is back with others to train")
        hold(state.evaluate == evaluate, f"round {number} is back with others to ask")
        hold(state.sortition == offer.sortition, f"round {number} is back, and drawn otherwise")
        hold(state.model.digest == offer.model.digest, f"round {number} is back with another base")
        counted = self.counted[number]
        answered, evaluated = counted & state.train, counted & state.evaluate
        hold(state.answered == answered, f"round {number} is back with other answers")
        hold(state.evaluated == evaluated, f"round {number} is back with other evaluations")
        refused = state.declined.keys() | state.rejected.keys()
        hold(not refused & counted, f"round {number} is back with who answered and did not")
        left_s = state.closes_at - at
        in_time = 0 <= left_s <= offer.closes_in_s + 1e-6
        hold(in_time, f"round {number} is back for {left_s} s of {offer.closes_in_s}")


def _trains(offer: Offer) -> bool:
    """False of the last evaluation."""
    return bool(offer.train) or (offer.sortition is not None and offer.sortition.train > 0)


def _invited(offer: Offer, roster: Roster) -> Invited:
    """By name; by sortition of those that are known."""
    if offer.sortition is None:
        return Invited(frozenset(offer.train), frozenset(offer.evaluate))
    asked = roster.willing("evaluate") if _trains(offer) else roster.able("evaluate")
    return Invited(
        frozenset(c for c in roster.willing("train") if sortition.invites(offer, c, "train")),
        frozenset(c for c in asked if sortition.invites(offer, c, "evaluate")),
    )


def _admitted(effects: list[rounds.Effect]) -> list[rounds.Admit]:
    return [effect for effect in effects if isinstance(effect, rounds.Admit)]


def _called(named: Named) -> str:
    return f"{named.client}'s answer to round {named.round}"


def _some(what: Collection[object]) -> str:
    """A few of them, in an order that a seed repeats."""
    return ", ".join(sorted(map(str, what))[:3])


def recount(roster: Roster) -> None:
    """The roster's running counts are what a count of its entries gives."""
    online = [client for client, entry in roster.clients.items() if entry.online]
    hold(roster.online_count == len(online), f"{roster.online_count} online, not {len(online)}")
    usable = [
        client
        for client in online
        if not roster.clients[client].hindrance and not roster.is_resting(client)
    ]
    for purpose in ALL_PURPOSES:
        willing = sorted(
            c
            for c in usable
            if roster.clients[c].presence.would(purpose)
            and not (purpose == "train" and roster.participations.is_spent(c))
        )
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
    if isinstance(event, session.Started):
        owed = [one.answer for one in after.owed]
        hold(owed == list(event.answers), f"{client} does not owe what its outbox holds")
    if isinstance(event, session.Offered) and event.offer.epoch < before.epoch:
        told = [effect for effect in effects if not isinstance(effect, Note)]
        hold(after == before and not told, f"{client} listens to a coordinator that was replaced")
    if after.job is not None and not _is_same_work(before.job, after.job):
        invited = _invites(event, client, after.job) or _invites(
            before.invitation, client, after.job
        )
        hold(invited, f"{client} takes up work uninvited")
        trains, run = after.job.purpose == "train", after.job.offer.run
        is_open = trains and session.owes_memory(after, run)
        hold(not is_open, f"{client} takes up work, and it is open what it remembers")
    if isinstance(event, session.Finished) and _is_awaited(before.job, event.answer):
        owed_now = any(one.answer == event.answer for one in after.owed)
        hold(owed_now, f"{client} does not owe what it has just finished")
    for effect in effects:
        match effect:
            case Publish() | session.Send() | session.SendChunks():
                hold(after.online, f"{client} speaks without a link")
            case session.Forget(answer):
                _may_forget(client, before, event, answer)
            case session.Leave():
                hold(not after.owed, f"{client} leaves and owes an answer")
                hold(before.job is None and after.job is None, f"{client} leaves its work")
                hold(before.online and not after.online, f"{client} leaves and is not gone")
                hold(
                    effect is effects[-1] or isinstance(effects[-1], WakeAt), "words after a leave"
                )
            case session.Work(offer, purpose):
                hold(not after.hindrance, f"{client} works against its owner's conditions")
                job = after.job
                working = isinstance(job, session.Working) and job.offer is offer
                hold(working, f"{client} works on what it does not know of")
                fetched = isinstance(before.job, session.Fetching) and before.job.purpose == purpose
                hold(fetched, f"{client} works without a model")
            case _:
                pass
    if isinstance(event, session.Woke) and before.online:
        _what_is_due_is_sent(client, before, event.at, effects)
    due = [one.send_at for one in after.owed] if after.online else []
    if after.job is not None and after.job.closes_at < math.inf:
        due.append(after.job.closes_at)
    if due:
        hold(alarm_at is not None and alarm_at <= min(due), f"{client} has no alarm")


def _is_same_work(one: session.Job | None, other: session.Job) -> bool:
    # A coordinator that is back says its offer again, for this round to whoever has not answered.
    return one is not None and (
        (one.purpose, one.offer.run, one.offer.round)
        == (other.purpose, other.offer.run, other.offer.round)
    )


def _invites(event: session.Event | None, client: ClientId, job: session.Job) -> bool:
    if not isinstance(event, session.Offered):
        return False
    offer = event.offer
    purpose: Purpose = "evaluate" if job.purpose == "evaluate" else "train"
    invited = sortition.invites(offer, client, purpose)
    return invited and (job.offer.run, job.offer.round) == (offer.run, offer.round)


def _is_awaited(job: session.Job | None, answer: session.Answer) -> bool:
    return isinstance(job, session.Working) and answer.is_for(job.offer.run, job.offer.round)


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
            and one.answer.is_for(event.message.run, event.message.round)
        )
        is_gone = isinstance(event, session.AnswerGone) and event.answer == one.answer
        hold(receipted or is_gone, f"{client} lost its answer to round {one.answer.round}: {event}")


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
        case session.Received(_, Receipt(run=run, round=round_id)):
            settled = answer.is_for(run, round_id)
            hold(settled, f"{client} forgot {answer.round}, not {round_id}")
        case session.Finished():
            owed = any(one.answer == answer for one in before.owed)
            hold(not owed, f"{client} forgot what it owes for round {answer.round}")
        case _:
            raise Broken(f"{client} forgot its answer to round {answer.round} at {event}")
