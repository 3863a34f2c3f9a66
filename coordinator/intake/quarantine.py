"""Who sends nonsense again and again is left out for a time, which doubles. Decides, and no more.

    strike, strike, ... ──as many as Rules.strikes within Rules.within_s──▶ in quarantine
         ▲                                                                   │ its time is over,
         └───────────────────────────────────────────────────────────────────┘ or a person lifts it

A strike is what a client could have done otherwise: a message that nobody can read, an answer that
was refused for what is in it, a flood. To be late, surplus or not invited is none.

Moments are seconds since 1970 on the machine's clock, since a quarantine outlives the program; a
clock that is set back, or is wrong for a while, makes none longer than it was meant to be. Knows no
clock and no disk: `quarantine_file.py` keeps what is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

from msgspec import Meta, Struct, structs

from fedmqtt.effects import Seconds
from fedmqtt.topics import NAME_PATTERN, ClientId, Digest

CLIENTS_MAX = 10_000
"""Of more clients with strikes, those are forgotten that were struck longest ago; who is in
quarantine last of all, and by a person's word never. A broker with accounts does not let one client
be so many."""

REASON_MAX = 300

MARKS_MAX = 32
"""Of so many messages of one client it is remembered that they were strikes. Whoever has had more
of them in one run has been in quarantine for it, or sends one nonsense after the other."""

_MARK_DIGITS = 16

Moment = float
Name = Annotated[ClientId, Meta(pattern=NAME_PATTERN)]
Reason = Annotated[str, Meta(max_length=REASON_MAX)]
Mark = Annotated[str, Meta(max_length=_MARK_DIGITS)]
"""The first digits of a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    strikes: int
    """So many lead into quarantine; 0: none do."""
    within_s: Seconds
    first_s: Seconds
    """How long the first quarantine lasts; each further one twice as long."""
    longest_s: Seconds
    """At most. Who stays out of quarantine for so long begins with the first again."""


class Term(Struct, frozen=True, kw_only=True):
    """One quarantine."""

    began: Moment
    until: Moment | None
    """None: until it is lifted."""
    why: Reason


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is held against one client."""

    strikes: tuple[Moment, ...] = ()
    """Oldest first; none that led to a quarantine."""
    last: Reason = ""
    """Why the newest of them."""
    terms: int = 0
    """Quarantines in a row that strikes led to."""
    term: Term | None = None
    """The one it is in."""
    by_hand: bool = False
    """Whether a person wanted that."""
    back_since: Moment | None = None
    """From when on, by the clock, it has been earlier than the quarantine's beginning: it was set
    back. From then on the quarantine lasts its whole time, should the clock stay like that."""
    out_since: Moment = 0.0
    """When it came out of the last one."""
    marks: tuple[Mark, ...] = ()
    """Of what it signed that was a strike, oldest first: for as long as the run goes on."""


CLEAN = Standing()


class Lift(Struct, frozen=True, kw_only=True, tag="lift"):
    """A person lets it in again; nothing is held against it any more."""

    client: Name


class Add(Struct, frozen=True, kw_only=True, tag="add"):
    """A person wants it left out."""

    client: Name
    term: Term


Order = Lift | Add


class Quarantine:
    """All clients of one coordinator that something is held against."""

    def __init__(self, standings: Mapping[ClientId, Standing], rules: Rules) -> None:
        self._rules = rules
        self.standings = dict(standings)
        """Who was struck last is last."""
        self.has_changed = False
        """Since somebody set it to False."""
        self._evicted: list[ClientId] = []

    def take_evicted(self) -> list[ClientId]:
        """Whose quarantine was forgotten for want of room, since this was asked last."""
        evicted, self._evicted = self._evicted, []
        return evicted

    def term(self, client: ClientId) -> Term | None:
        """The quarantine that the client is in, as of the last `pass_time`."""
        standing = self.standings.get(client)
        return None if standing is None else standing.term

    @property
    def terms(self) -> dict[ClientId, Term]:
        """Of all that are in quarantine, by name."""
        return {
            client: standing.term
            for client, standing in sorted(self.standings.items())
            if standing.term is not None
        }

    @property
    def struck(self) -> dict[ClientId, Standing]:
        """Those that something is held against, and that are not in quarantine, by name."""
        return {
            client: standing
            for client, standing in sorted(self.standings.items())
            if standing.term is None and standing.strikes
        }

    def strike(
        self, at: Moment, client: ClientId, why: str, digest: Digest | None = None
    ) -> Term | None:
        """The quarantine that begins by it, if one does. In quarantine nothing is held against a
        client: it is not heard.

        With the digest of what it signed, no copy of that is another strike: whoever carries
        messages can say them again.
        """
        mark = () if digest is None else (digest[:_MARK_DIGITS],)
        standing = self.standings.get(client, CLEAN)
        if mark and mark[0] in standing.marks:
            return standing.term
        self.standings.pop(client, None)
        if standing.term is None:
            why = why[:REASON_MAX]
            standing = structs.replace(
                standing,
                strikes=(*self._recent(standing, at), at),
                last=why,
                marks=(*standing.marks, *mark)[-MARKS_MAX:],
            )
            if 0 < self._rules.strikes <= len(standing.strikes):
                standing = self._shut_out(standing, at)
        self._put(client, standing)
        return standing.term

    def obey(self, at: Moment, order: Order) -> Term | None:
        """What a person wants: the quarantine that is in force then."""
        standing = self.standings.pop(order.client, CLEAN)
        self.has_changed = True
        match order:
            case Add(term=term) if term.until is None or term.until > at:
                standing = structs.replace(
                    standing, term=term, strikes=(), by_hand=True, back_since=None
                )
            case _:
                standing = _cleared(standing)
        if standing != CLEAN:
            self._put(order.client, standing)
        return standing.term

    def pass_time(self, at: Moment) -> list[ClientId]:
        """Those whose quarantine is over."""
        over: list[ClientId] = []
        for client, standing in list(self.standings.items()):
            following = self._of(at, standing)
            if following.term is None and standing.term is not None:
                over.append(client)
            if following == CLEAN:
                del self.standings[client]
            else:
                self.standings[client] = following
            self.has_changed |= following != standing
        return over

    def _of(self, at: Moment, standing: Standing) -> Standing:
        term = standing.term
        if term is not None:
            if term.until is None:
                return standing
            back_since = None
            if at < term.began:
                since = standing.back_since
                back_since = at if since is None else min(since, at)
            if at < (term.until if back_since is None else back_since + term.until - term.began):
                return structs.replace(standing, back_since=back_since)
            standing = structs.replace(
                standing, term=None, by_hand=False, back_since=None, out_since=at
            )
        # As they are, while the clock is earlier: it may be right again in a moment.
        recent = tuple(one for one in standing.strikes if at - one < self._rules.within_s)
        standing = structs.replace(standing, strikes=recent)
        is_forgotten = standing.terms == 0 or at - standing.out_since >= self._rules.longest_s
        return _cleared(standing) if not recent and is_forgotten else standing

    def _recent(self, standing: Standing, at: Moment) -> tuple[Moment, ...]:
        # Of a clock that was set back it is only known that it was not later than now.
        moments = (min(moment, at) for moment in standing.strikes)
        kept = tuple(moment for moment in moments if at - moment < self._rules.within_s)
        return kept[1 - self._rules.strikes :] if self._rules.strikes > 1 else ()

    def _is_remembered(self, standing: Standing, at: Moment) -> bool:
        return standing.terms > 0 and 0 <= at - standing.out_since < self._rules.longest_s

    def _shut_out(self, standing: Standing, at: Moment) -> Standing:
        terms = standing.terms if self._is_remembered(standing, at) else 0
        # No larger power than is ever needed: a float has an end.
        lasts_s = min(self._rules.first_s * 2.0 ** min(terms, 60), self._rules.longest_s)
        count, since_s = len(standing.strikes), at - standing.strikes[0]
        what = "message" if count == 1 else "messages"
        why = f"{count} {what} refused in {in_words(since_s)}, the last: {standing.last}"
        term = Term(began=at, until=at + lasts_s, why=why[:REASON_MAX])
        return structs.replace(standing, strikes=(), terms=terms + 1, term=term)

    def _put(self, client: ClientId, standing: Standing) -> None:
        self.standings[client] = standing
        self.has_changed = True
        if len(self.standings) > CLIENTS_MAX:
            self._forget_one()

    def _forget_one(self) -> None:
        """The longest ago of those that are not in quarantine, if there are."""
        free = (client for client, one in self.standings.items() if one.term is None)
        shut_out = (client for client, one in self.standings.items() if not one.by_hand)
        client = next(chain(free, shut_out), None)
        if client is not None and self.standings.pop(client).term is not None:
            self._evicted.append(client)


def _cleared(standing: Standing) -> Standing:
    """Nothing is held against it any more; what was is not held against it again."""
    return Standing(marks=standing.marks)


def until(term: Term, at: Moment) -> str:
    """As people say it. In UTC, since a device and its coordinator may be far apart."""
    if term.until is None:
        return "until it is lifted"
    day, time_of_day = divmod(int(term.until), 86400)
    clock = f"{time_of_day // 3600:02}:{time_of_day // 60 % 60:02} UTC"
    days = day - int(at) // 86400
    return f"until {clock}" if days <= 0 else f"until {clock} in {days} day{'s' * (days > 1)}"


def in_words(span_s: Seconds) -> str:
    """A span of time as people say it, rounded: 20 minutes."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        # From one and a half on: "90 minutes" says more than "1 hour".
        if span_s >= 1.5 * unit:
            return f"{round(span_s / unit)} {name}s"
    seconds = max(1, round(span_s))
    return f"{seconds} second" + ("s" if seconds > 1 else "")
