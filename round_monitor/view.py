"""What a person sees: one screen, from title to last events, that reads without colour too.

    fedmqtt · demo · run 20260301-101500            Mosquitto 2.0.11 (started here, port 41234)
    ───────────────────────────────────────────────────────────────────────────────────────────
     Health   Healthy: collecting updates: 4 of 8 so far
     Missing  2 away (cat, eve); 44 of 46 clients online
     Better   Yes: accuracy 0.812; the best of the last 5 measured rounds is +0.011 on all before

     Round    3 of 10  █████████████░░░░░░░░░░░░░  4 of 8 answers   closes in 12 s
              ...

It is a list of sections, each with a label and some lines. Panels of `terminal` show some of them,
and more on each the higher the panel is.
"""

import io
from collections.abc import Iterable
from textwrap import wrap
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from fedmqtt import improvement
from fedmqtt.status_pages import LISTED_CLIENTS, Figures, Health, ModelPage, Quarantined, RoundPage
from round_monitor import client_rows, units, verdict
from round_monitor.board import Board
from round_monitor.client_rows import MARKS, Mark
from round_monitor.events import Event, Kind, count, merged

CELLS_MAX = 100
"""Of more clients only counts are shown."""

_WIDTH_MAX = 120
_LABEL_WIDTH = 9
_REASONS_FROM_HEIGHT = 30
"""In lower panels, what the pace is must do without why."""

_EVENTS = 10
"""The last ones, where all is printed once."""

_FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}

HEALTH_STYLES: dict[Health, str] = {
    "ok": "bold green",
    "waiting": "bold yellow",
    "trouble": "bold red",
}

_GROUPS_MAX = 6

_MEASURING = Console(file=io.StringIO(), color_system=None)
"""Rich asks for one where it wraps; nothing is written to it."""

_MISBEHAVING_MAX = 4

_REASONS_MAX = 4
_NAMED = 3
"""Of those that cannot take part for the same reason."""


def render(
    board: Board,
    heading: str,
    now: str,
    trouble: str = "",
    *,
    cuts: bool = True,
) -> RenderableType:
    """All of it, in as many lines as there are. `heading` names the broker, `now` is ISO 8601,
    `trouble` is shown above all else. `cuts`: lines that are longer than the screen is wide end
    with an ellipsis there."""
    return _Screen(board, heading, now, trouble, cuts)


# In the order in which the legend names them: as it goes in a round.
_LEGEND: tuple[client_rows.State, ...] = (
    "answered",
    "evaluated",
    "working",
    "ready",
    "unable",
    "away",
    "rejected",
    "in quarantine",
    "revoked",
)

_EVENT_MARKS: dict[Kind, Mark] = {
    "says": Mark("·", ".", ""),
    "opened": Mark("▶", ">", "bold"),
    "answered": MARKS["answered"],
    "declined": MARKS["unable"],
    "rejected": MARKS["rejected"],
    "shut out": MARKS["in quarantine"],
    "let in": Mark("+", "+", "green"),
    "came": Mark("+", "+", ""),
    "left": MARKS["away"],
    "closed": Mark("■", "=", "bold"),
    "figures": Mark("◆", "%", "cyan"),
    "ordered": Mark("»", "&", "bold"),
    "not done": MARKS["rejected"],
}


class _Section(NamedTuple):
    label: str
    lines: list[Text]


class _Screen:
    def __init__(
        self,
        board: Board,
        heading: str,
        now: str,
        trouble: str,
        cuts: bool,
    ) -> None:
        self._board = board
        self._heading = heading
        self._now = now
        self._trouble = trouble
        self._cuts = cuts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDTH_MAX)
        layout = _Layout(width - _LABEL_WIDTH - 2, None, options.ascii_only)
        for line in [*self._title(width, layout), *self._body(layout)]:
            line.no_wrap = True
            line.rstrip()
            if self._cuts:
                line.truncate(width, overflow="ellipsis")
            if options.ascii_only:
                line.plain = line.plain.encode("ascii", "replace").decode()
            yield line

    def _title(self, width: int, layout: "_Layout") -> list[Text]:
        page = self._board.coordinator
        where = [] if page is None else [page.federation, f"run {page.run}"]
        dot = " - " if layout.ascii_only else " · "
        left = Text(" " + dot.join(["fedmqtt", *where]), style="bold")
        right = Text(self._heading + " ", style="dim")
        space = width - left.cell_len - right.cell_len
        rule = Text(("-" if layout.ascii_only else "─") * width, style="dim")
        if space >= 2:
            return [Text.assemble(left, " " * space, right), rule]
        return [left, Text.assemble(" ", right), rule]

    def _body(self, layout: "_Layout") -> list[Text]:
        sections = [
            *_answers(self._board, self._now, self._trouble),
            _says(self._board, self._now, self._trouble),
            *_state(self._board, self._now, layout),
            _who_reads(self._board, layout),
        ]
        sections = [section for section in sections if section.lines]
        body = _set(sections, gaps=True)
        shown = merged(self._board.events)[-_EVENTS:]
        events = _Section("Events", [_event(event, layout) for event in shown])
        return [*body, Text(), *_set([events], gaps=False)] if shown else body


def answer_lines(board: Board, now: str, trouble: str, width: int, most: int = 2) -> list[Text]:
    """The three answers, each on `most` lines at most."""
    sections = []
    for label, (line,) in _answers(board, now, trouble):
        wrapped = list(line.wrap(_MEASURING, max(20, width - _LABEL_WIDTH - 2)))
        if len(wrapped) > most:
            rest = Text(" ").join(_stripped(part) for part in wrapped[most - 1 :])
            rest.truncate(max(20, width - _LABEL_WIDTH - 2), overflow="ellipsis")
            wrapped[most - 1 :] = [rest]
        sections.append(_Section(label, wrapped))
    return _set(sections, gaps=False)


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line


def state_lines(
    board: Board, now: str, trouble: str, width: int, height: int, ascii_only: bool = False
) -> list[Text]:
    """All but the answers, the curves and the events. As many lines as there are to say; with more
    `height`, more is said."""
    layout = _Layout(width - _LABEL_WIDTH - 2, height, ascii_only)
    sections = _state(board, now, layout)
    shown = [section for section in (_says(board, now, trouble), *sections) if section.lines]
    lines = _set(shown, gaps=True)
    return lines if len(lines) <= height else _set(shown, gaps=False)


def event_line(event: Event, ascii_only: bool = False) -> Text:
    return _event(event, _Layout(0, None, ascii_only))


def curves(board: Board) -> dict[str, list[tuple[int, float]]]:
    """What was measured, and the loss of training: round and value, by metric; the leading one
    first."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in board.history.rounds if board.history is not None else []:
        measured = line.figures.metrics if line.figures is not None else {}
        trained = {f"training {name}": value for name, value in line.train_metrics.items()}
        for name, value in {**measured, **trained}.items():
            found.setdefault(name, []).append((line.round, value))
    order = [*improvement.LEADING, *sorted(found)]
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


def _answers(board: Board, now: str, trouble: str) -> list[_Section]:
    told = verdict.answers(board, now, trouble)
    word = verdict.WORDS[told.health.state]
    style = HEALTH_STYLES[told.health.state]
    lacks = "" if told.missing.state == "ok" else HEALTH_STYLES[told.missing.state]
    return [
        _Section("Health", [Text.assemble((word, style), ": ", told.health.sentence)]),
        _Section("Missing", [Text(told.missing.sentence, style=lacks)]),
        _Section("Better", [Text(told.trend.sentence)]),
    ]


def _says(board: Board, now: str, trouble: str) -> _Section:
    """What it does, unless the answer on its health tells that, and what comes next."""
    page = board.coordinator
    if page is None:
        return _Section("Now", [])
    is_told = page.says in verdict.health(board, now, trouble).sentence
    told = [] if is_told else [Text(page.says, style="bold")]
    following = [Text(page.next_step)] if page.next_step else []
    return _Section("Next" if is_told else "Now", told + following)


def _state(board: Board, now: str, layout: "_Layout") -> list[_Section]:
    return [
        _round(board, layout, now),
        _clients(board, layout),
        _model(board, layout),
        _traffic(board),
        _oddities(board, layout),
    ]


class _Layout(NamedTuple):
    width: int
    """Of what stands beside the labels."""
    height: int | None
    """Of the panel; None: as many lines as there are."""
    ascii_only: bool

    def mark(self, mark: Mark) -> str:
        return mark.plain if self.ascii_only else mark.symbol


def _set(sections: Iterable[_Section], gaps: bool) -> list[Text]:
    """Labels to the left of their lines."""
    lines: list[Text] = []
    for section in sections:
        if gaps and lines:
            lines.append(Text())
        for i, line in enumerate(section.lines):
            label = section.label if i == 0 else ""
            lines.append(Text.assemble((f" {label:{_LABEL_WIDTH}}", "dim"), line))
    return lines


# Round


def _round(board: Board, layout: _Layout, now: str) -> _Section:
    page = board.round
    if page is None:
        return _Section("Round", [Text("none so far")])
    if not page.wanted and page.evaluators:
        return _Section("Round", [_evaluation_progress(page, layout, now)])
    wanted = board.coordinator.rounds_wanted if board.coordinator else 0
    number = f"{page.round} of {wanted}" if wanted else f"{page.round}"
    text = f"{len(page.answered)} of {page.wanted} answers"
    progress = _progress(number, len(page.answered), page.wanted, text, _ending(page, now), layout)
    return _Section("Round", [progress, _participation(page), *_pace(board, page, layout)])


def _evaluation_progress(page: RoundPage, layout: _Layout, now: str) -> Text:
    done, asked = len(page.evaluated), len(page.evaluators)
    text = f"{done} of {asked} answers"
    return _progress("last evaluation", done, asked, text, _ending(page, now), layout)


def _progress(number: str, done: int, wanted: int, text: str, ending: str, layout: _Layout) -> Text:
    # Space for the longest ending, so that the bar keeps its length while time passes.
    room = layout.width - len(number) - len(text) - 2 - 3 - 25
    full, empty = units.bar(done, wanted, max(8, min(40, room)), layout.ascii_only)
    return Text.assemble(
        (number, "bold"), "  ", (full, "green"), (empty, "dim"), "  ", text, "   ", ending
    )


def _ending(page: RoundPage, now: str) -> str:
    if not page.open:
        return page.outcome or "closed"
    left_s = units.seconds_between(now, page.closes)
    if left_s is None:
        return ""
    if left_s < -verdict.OVERDUE_S:
        return f"overdue by {units.duration(-left_s)}"
    return f"closes in {units.duration(left_s)}"


def _participation(page: RoundPage) -> Text:
    if page.open:
        missing = ("away", len(page.away))
    else:
        heard = {*page.answered, *page.rejected, *page.surplus}
        missing = ("dropped", sum(client not in heard for client in page.invited))
    counts = [
        ("invited", len(page.invited), ""),
        ("answered", len(page.answered), "green"),
        (*missing, "yellow"),
        ("declined", len(page.declined), "yellow"),
        ("rejected", len(page.rejected), "bold red"),
    ]
    parts = [(f"{n:,} {word}", style if n else "dim") for word, n, style in counts]
    return Text("  ").join(
        [*(Text(*part) for part in parts), Text(f"quorum {page.quorum}", style="dim")]
    )


def _pace(board: Board, page: RoundPage, layout: _Layout) -> list[Text]:
    """What this round goes by or, when it has closed, the next."""
    pace = board.pace
    if pace is None:
        return []
    whose = "" if pace.round == page.round else "next: "
    invites = f"{whose}over-selection {pace.over_selection:.3g}"
    closes = f"{whose}deadline {units.duration(pace.deadline_s)}"
    if layout.height is not None and layout.height < _REASONS_FROM_HEIGHT:
        return [Text(f"{invites}  deadline {units.duration(pace.deadline_s)}", style="dim")]
    return [
        Text(f"{invites}: {pace.over_selection_reason}", style="dim"),
        Text(f"{closes}: {pace.deadline_reason}", style="dim"),
    ]


# Clients


def _clients(board: Board, layout: _Layout) -> _Section:
    states = _client_states(board)
    lines = [_online(board, states), *_kinds(board)]
    if states:
        if len(states) <= CELLS_MAX:
            lines += _grid(states, layout)
        lines += _legend(states, layout)
    if layout.height is None:
        # The panels of `terminal` have a table for it.
        lines += _hindered(board, max(20, layout.width))
    return _Section("Clients", lines)


def _hindered(board: Board, width: int) -> list[Text]:
    """Why who cannot take part does not, each reason once, as long as there is room."""
    by_reason: dict[str, list[str]] = {}
    for row in client_rows.rows(board):
        if row.state == "unable" and row.note:
            by_reason.setdefault(row.note, []).append(row.client)
    told = [f"{_first(clients)}: {why}" for why, clients in by_reason.items()]
    lines = [Text(line, style="yellow") for one in told[:_REASONS_MAX] for line in wrap(one, width)]
    if len(told) > _REASONS_MAX:
        more = count(len(told) - _REASONS_MAX, "more reason")
        lines.append(Text(f"and {more}", style="dim"))
    return lines


def _first(clients: list[str]) -> str:
    more = len(clients) - _NAMED
    return ", ".join(clients[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _online(board: Board, states: dict[str, client_rows.State]) -> Text:
    page = board.coordinator
    if page is None:
        return Text("none known so far")
    if (fleet := page.fleet) is not None:
        told = f" would answer, by an estimate: {fleet.low:,} to {fleet.high:,}"
        return Text.assemble((f"about {fleet.estimate:,}", "bold"), told)
    text = Text.assemble(
        (f"{page.clients_online:,}", "bold"), f" online of {page.clients_known:,} known"
    )
    if page.clients_known > len(states) >= LISTED_CLIENTS:
        text.append(f"; the counts below are of {len(states):,} that the pages list")
    return text


def _kinds(board: Board) -> list[Text]:
    """Of devices, as their owners label them."""
    page = board.coordinator
    counts = board.clients.label_counts if board.clients is not None else {}
    what = "labelled"
    if page is not None and page.fleet is not None:
        counts, what = page.fleet.labels, "of those who answered, labelled"
    if not counts:
        return []
    kinds = (f"{n:,} {label}" for label, n in counts.items())
    return [Text(f"{what} " + ", ".join(kinds), style="dim")]


def _client_states(board: Board) -> dict[str, client_rows.State]:
    """Client to what it does, in the order of their names."""
    return dict(sorted((row.client, row.state) for row in client_rows.rows(board)))


def _grid(states: dict[str, client_rows.State], layout: _Layout) -> list[Text]:
    """A cell for each client: with its name where there is room, else its mark alone."""
    cell = max(len(client) for client in states) + 4
    columns = max(1, layout.width // cell)
    rows_max = 12 if layout.height is None else max(3, layout.height // 3 - 5)
    if -(-len(states) // columns) <= rows_max:
        cells = [
            Text.assemble(
                (f"{layout.mark(mark)} {client}", mark.style), " " * (cell - len(client) - 2)
            )
            for client, mark in ((c, MARKS[state]) for c, state in states.items())
        ]
        return _rows(cells, columns)
    marks = [MARKS[state] for state in states.values()]
    # Tens with a gap between them can be counted.
    cells = [
        Text.assemble((layout.mark(mark), mark.style), "   " if i % 10 == 9 else " ")
        for i, mark in enumerate(marks)
    ]
    return _rows(cells, max(10, layout.width // 22 * 10))


def _rows(cells: list[Text], columns: int) -> list[Text]:
    return [Text.assemble(*cells[i : i + columns]) for i in range(0, len(cells), columns)]


def _legend(states: dict[str, client_rows.State], layout: _Layout) -> list[Text]:
    """What the marks mean, and of how many clients it is true."""
    counts = {state: list(states.values()).count(state) for state in _LEGEND}
    present = {state: n for state, n in counts.items() if n}
    with_counts = {state: f"{n:,} {state}" for state, n in present.items()}
    one_line = _legend_line(with_counts, 3, layout)
    if one_line.cell_len <= layout.width:
        return [one_line]
    if len(states) <= CELLS_MAX:
        return [_legend_line({state: str(state) for state in present}, 1, layout)]
    # Without cells the counts are all there is.
    first = dict(list(with_counts.items())[:4])
    second = {state: words for state, words in with_counts.items() if state not in first}
    return [_legend_line(first, 3, layout), _legend_line(second, 3, layout)]


def _legend_line(words: dict[client_rows.State, str], gap: int, layout: _Layout) -> Text:
    parts = [
        Text.assemble((layout.mark(mark), mark.style), " ", words[state])
        for state, mark in ((state, MARKS[state]) for state in _LEGEND)
        if state in words
    ]
    return Text(" " * gap).join(parts)


# Model and traffic


def _model(board: Board, layout: _Layout) -> _Section:
    page = board.model
    if page is None or page.figures is None:
        return _Section("Model", [Text("not evaluated so far"), *_privacy(page)])
    figures = page.figures
    known = [name for name in _FIGURES if name in figures.metrics]
    lines = [
        _metric(board, name, figures.metrics[name], layout)
        for name in known or sorted(figures.metrics)[:2]
    ]
    text = f"on {count(figures.samples, 'sample')} of {count(figures.clients, 'client')}"
    when = "" if page.figures_round is None else f", at the start of round {page.figures_round}"
    groups = _groups(figures, layout)
    return _Section("Model", [*lines, Text(text + when, style="dim"), *groups, *_privacy(page)])


def _privacy(page: ModelPage | None) -> list[Text]:
    if page is None or (spent := page.privacy) is None:
        return []
    told = f"epsilon {spent.epsilon:.3g} of {spent.epsilon_max:.3g} at delta {spent.delta:g}"
    if spent.epsilon_of_models is not None:
        told += f", of the models alone {spent.epsilon_of_models:.3g}"
    return [Text(told, style="dim")]


def _groups(figures: Figures, layout: _Layout) -> list[Text]:
    """A line for each kind of device, as long as there is room for them."""
    room = _GROUPS_MAX if layout.height is None or layout.height >= _REASONS_FROM_HEIGHT else 2
    lines = []
    for label, group in list(figures.groups.items())[:room]:
        known = [name for name in _FIGURES if name in group.metrics]
        told = "  ".join(
            f"{_FIGURES.get(name, name)} {group.metrics[name]:.3f}"
            for name in known or sorted(group.metrics)[:2]
        )
        lines.append(
            Text.assemble(f"{label:12.12}  ", told, (f"  {count(group.clients, 'client')}", "dim"))
        )
    if missing := len(figures.groups) - len(lines):
        lines.append(Text(f"and {count(missing, 'more group')}", style="dim"))
    return lines


def _metric(board: Board, name: str, value: float, layout: _Layout) -> Text:
    rounds = board.history.rounds if board.history is not None else []
    values = [
        line.figures.metrics[name]
        for line in rounds
        if line.figures and name in line.figures.metrics
    ]
    label = f"{_FIGURES.get(name, name):8.12}  "
    text = Text.assemble(label, (f"{value:.3f}", "bold"))
    if len(values) > 1:
        width = max(10, layout.width - len(label) - 5 - 2 - 32)
        line = units.sparkline(values, width, layout.ascii_only)
        shown = values[-width:]
        text.append("  ").append(line, "cyan")
        best = min(shown) if _falls(name) else max(shown)
        text.append(f"  from {shown[0]:.3f}, best {best:.3f}", "dim")
    return text


def _falls(metric: str) -> bool:
    """Whether less of it is better, as far as its name tells."""
    return "loss" in metric or "error" in metric


def _traffic(board: Board) -> _Section:
    page, model = board.traffic, board.model
    if page is None:
        return _Section("Bytes", [])
    text = Text.assemble(
        ("received ", "dim"),
        units.size(page.bytes_received),
        ("   published ", "dim"),
        units.size(page.bytes_published),
        (", once for all", "dim"),
    )
    if model is not None:
        text.append("   model ", "dim").append(units.size(model.size_bytes))
        if model.delta_bytes:
            text.append(", delta ", "dim").append(units.size(model.delta_bytes))
    return _Section("Bytes", [text])


def _who_reads(board: Board, layout: _Layout) -> _Section:
    said = "" if board.coordinator is None else board.coordinator.aggregation
    return _Section("Privacy", [Text(line) for line in wrap(said, max(20, layout.width))])


def _oddities(board: Board, layout: _Layout) -> _Section:
    parts = []
    if (page := board.coordinator) is not None:
        if page.late_updates:
            held = f", {page.late_held:,} of them held" if page.late_held else ""
            parts.append(count(page.late_updates, "late update") + held)
        if page.unreadable_messages:
            parts.append(count(page.unreadable_messages, "unreadable message"))
    if board.unreadable_count:
        parts.append(f"{count(board.unreadable_count, 'unreadable page')}: {board.unreadable_last}")
    lines = [Text(", ".join(parts), style="yellow")] if parts else []
    lines += _misbehaving(board)
    if page is not None and page.skew:
        lines += [
            Text(line, style="bold yellow") for line in wrap(page.skew, max(20, layout.width))
        ]
    return _Section("Also", lines)


def _misbehaving(board: Board) -> list[Text]:
    """Who is in quarantine, and who is on the way there: a line each, as long as there is room."""
    page = board.clients
    if page is None:
        return []
    told = [
        Text(f"{client} is in quarantine {_until(one)}: {one.why}", style="red")
        for client, one in page.quarantined.items()
    ]
    told += [Text(f"{client}: {why}", style="yellow") for client, why in page.refused.items()]
    if len(told) > _MISBEHAVING_MAX:
        more = count(len(told) - _MISBEHAVING_MAX, "more client")
        return [*told[:_MISBEHAVING_MAX], Text(f"and {more}", style="dim")]
    return told


def _until(quarantined: Quarantined) -> str:
    if not quarantined.until:
        return "until it is lifted"
    day, _, clock = quarantined.until.partition("T")
    return f"until {day} {clock[:5]} UTC"


def _event(event: Event, layout: _Layout) -> Text:
    mark = _EVENT_MARKS[event.kind]
    at = f"{event.at}  " if event.at else ""
    return Text.assemble((at, "dim"), (layout.mark(mark), mark.style), " ", event.text)
