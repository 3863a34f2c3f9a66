"""Who was in quarantine in a run, from when until when, and why; and who had been refused something
when the run was looked at.

A history tells after each round who is in it; the run's folder, who is in it now, and for how long.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec import Struct

from round_monitor import markup, units
from round_monitor.markup import Html, element, join

_SPELLS_MAX = 1000
"""Of more, the first are kept and the others counted."""
_ROWS = 100


class Term(Struct, frozen=True):
    until: float | None = None
    """Seconds since 1970; None: until it is lifted."""
    why: str = ""


class Standing(Struct, frozen=True):
    """What is held against one client, in the run's `quarantine/standings.json`."""

    strikes: list[float] = []
    last: str = ""
    term: Term | None = None
    by_hand: bool = False


Standings = Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class Moment:
    """A round's close: which, and how long after the run's start."""

    round: int
    at_s: float

    def __str__(self) -> str:
        return f"round {self.round:,} ({units.duration(self.at_s)})"


@dataclass(frozen=True, slots=True)
class Spell:
    """One time in quarantine."""

    client: str
    why: str
    began: Moment
    """The first round that closed while it was in it."""
    ended: Moment | None = None
    """The first that closed when it was out again; None: it was in it to the last."""


class Spells:
    """Of one run, round by round."""

    def __init__(self) -> None:
        self._inside: Mapping[str, str] = {}
        """As the last round closed."""
        self._open: dict[str, Spell] = {}
        self._over: list[Spell] = []
        self.count = 0

    def add(self, at: Moment, inside: Mapping[str, str]) -> None:
        """Who is in quarantine as this round closes, and why."""
        for client, spell in list(self._open.items()):
            if inside.get(client) != spell.why:
                self._over.append(replace(self._open.pop(client), ended=at))
        before, self._inside = self._inside, inside
        for client, why in inside.items():
            if before.get(client) == why:
                continue
            self.count += 1
            if len(self._open) + len(self._over) < _SPELLS_MAX:
                self._open[client] = Spell(client, why, at)

    @property
    def found(self) -> list[Spell]:
        """As they began."""
        spells = [*self._over, *self._open.values()]
        return sorted(spells, key=lambda one: (one.began.round, one.client))


def tables(spells: Spells, standings: Standings | None) -> Html:
    """Nothing where there is nothing to tell. None: what is held against whom is not known here."""
    held = standings or {}
    struck = [
        [markup.name(client), f"{len(one.strikes):,}", markup.name(one.last)]
        for client, one in sorted(held.items())
        if one.term is None and one.strikes
    ]
    rows = [
        [
            markup.name(spell.client),
            str(spell.began),
            _until(spell, held.get(spell.client), is_known=standings is not None),
            markup.name(spell.why),
        ]
        for spell in spells.found
    ]
    return join(
        _table("In quarantine", ["client", "from", "until", "why"], rows, spells.count),
        _table(
            "Refused lately, and not in quarantine for it",
            ["client", "times", "why, the last time"],
            struck,
            len(struck),
        ),
    )


def _table(title: str, heads: list[str], rows: list[list[str]], count: int) -> Html:
    if not rows:
        return Html("")
    shown = markup.table(heads, rows[:_ROWS], caption=title, text_columns=len(heads))
    rest = count - len(rows[:_ROWS])
    more = element("p", f"And {rest:,} more.", class_="quiet") if rest else Html("")
    return join(shown, more)


def _until(spell: Spell, standing: Standing | None, *, is_known: bool) -> str:
    if spell.ended is not None:
        return f"out again by {spell.ended}"
    if not is_known:
        return "in it when the last round closed"
    if standing is None or standing.term is None:
        return "out again since the last round"
    by_whom = ", by a person’s word" if standing.by_hand else ""
    if standing.term.until is None:
        return f"until it is lifted{by_whom}"
    return f"until {_day(standing.term.until)}{by_whom}"


def _day(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "a day that no calendar has"
