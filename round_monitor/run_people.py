"""The report's charts of clients: who was heard how often, how fair it was, who holds what."""

import statistics
from collections.abc import Callable, Sequence

from round_monitor import markup, run_figures, svg
from round_monitor.markup import Html, element, join
from round_monitor.run_charts import TABLE_ROWS, Shown, every, figure, run_heading, stretches
from round_monitor.run_figures import Client, Label

_NAMED_CLIENTS = 300
"""Up to so many clients have a row or a dot each; of more, some and groups are told."""
_ENDS = 25
"""Of more, so many of the most and of the least often heard have a row."""
_GROUPS = 20
_COLUMNS = 100
_ROWS = 60
_LINE_POINTS = 300

_People = dict[int, list[Client]]
"""By the place of the run."""


def participation(shown: Sequence[Shown]) -> Html:
    people = {one.place: run_figures.clients(one.run) for one in shown}
    classes = {place: run_figures.labels(group) for place, group in people.items()}
    panels = [_sorted(shown, people), _lorenz(shown, people)]
    if any(_online(group) for group in people.values()):
        panels.append(_against_online(shown, people))
    if any(classes.values()):
        panels.append(_heard_labels(shown, classes))
    return join(
        _fairness(shown, people),
        element("div", *panels, class_="panels"),
        *(_client_table(one, people[one.place], len(shown)) for one in shown),
    )


def data_split(shown: Sequence[Shown]) -> Html:
    """One picture for each way in which the data is split; runs with the same share it."""
    groups: dict[object, list[Shown]] = {}
    for one in shown:
        held = run_figures.held_by_lab(one.run.lab)
        if any(samples for _, samples, _ in held):
            groups.setdefault(held, []).append(one)
    splits = [_split(sharing) for sharing in groups.values()]
    if len(splits) < 2:
        return join(*splits)
    titles = [join(*(element("span", run_heading(o), " ") for o in one)) for one in groups.values()]
    return join(
        *(
            markup.folded(title, one, is_open=place == 0)
            for place, (title, one) in enumerate(zip(titles, splits, strict=True))
        )
    )


def _answers(people: Sequence[Client]) -> list[int]:
    return [one.answered for one in people]


def _online(people: Sequence[Client]) -> list[tuple[float, Client]]:
    return [(one.online_share, one) for one in people if one.online_share is not None]


# How even it was


def _fairness(shown: Sequence[Shown], people: _People) -> Html:
    rows: list[tuple[str, Callable[[Shown, list[Client]], str]]] = [
        ("clients", lambda one, group: f"{len(group):,}"),
        ("answers per client: mean", lambda one, group: f"{_mean(_answers(group)):.3g}"),
        ("the least and the most", lambda one, group: _range(_answers(group))),
        (
            "Jain’s index (1: all alike)",
            lambda one, group: number(run_figures.jain(_answers(group))),
        ),
        ("Gini (0: all alike)", lambda one, group: number(run_figures.gini(_answers(group)))),
        ("never invited", lambda one, group: _never_invited(one, group)),
        ("never heard", lambda one, group: _share(sum(c.answered == 0 for c in group), len(group))),
    ]
    if any(_online(group) for group in people.values()):
        title = "rank correlation of answers with online share"
        rows.append((title, lambda one, group: _with_online(group)))
    head = ["", *(run_heading(one) for one in shown)]
    cells = [[title, *(cell(one, people[one.place]) for one in shown)] for title, cell in rows]
    return markup.table(head, cells)


def _mean(counts: Sequence[float]) -> float:
    return statistics.fmean(counts) if counts else 0.0


def _range(counts: Sequence[int]) -> str:
    return f"{min(counts):,} to {max(counts):,}" if counts else "–"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _never_invited(one: Shown, people: Sequence[Client]) -> str:
    if one.run.lab is None:
        # Its history names only those who were.
        return "not known"
    return _share(sum(client.invited == 0 for client in people), len(people))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}% ({part:,})" if whole else "–"


def _with_online(people: Sequence[Client]) -> str:
    pairs = _online(people)
    shares, answers = [share for share, _ in pairs], [float(one.answered) for _, one in pairs]
    return number(run_figures.rank_correlation(shares, answers))


def _sorted(shown: Sequence[Shown], people: _People) -> Html:
    lines, tables = [], []
    for one in shown:
        counts = sorted(_answers(people[one.place]))
        if not counts:
            continue
        points = [(100 * (rank + 0.5) / len(counts), float(n)) for rank, n in enumerate(counts)]
        # A single client is a line too.
        points = [(0.0, points[0][1]), *points, (100.0, points[-1][1])]
        lines.append(svg.Line(one.place, every(points, _LINE_POINTS)))
        rows = [[f"{x:.3g}%", f"{y:.0f}"] for x, y in every(points, 11)]
        tables.append(markup.table(["of clients", "answers or fewer"], rows, caption=one.name))
    x = svg.Axis(0, 100, (0, 25, 50, 75, 100), 1, "percent of clients, the least heard first")
    y = svg.axis(
        (y for line in lines for _, y in line.points), "answers that counted", from_zero=True
    )
    chart = svg.line_chart(lines, x, y, "Answers per client, from the least to the most heard")
    return figure("Answers per client, from the least to the most heard", [chart], join(*tables))


def _lorenz(shown: Sequence[Shown], people: _People) -> Html:
    lines, tables = [], []
    for one in shown:
        points = run_figures.lorenz(_answers(people[one.place]))
        if not points:
            continue
        percent = [(100 * x, 100 * y) for x, y in points]
        lines.append(svg.Line(one.place, every(percent, _LINE_POINTS)))
        rows = [[f"{x:.3g}%", f"{y:.1f}%"] for x, y in every(percent, 11)]
        heads = ["the least heard", "gave of all answers"]
        tables.append(markup.table(heads, rows, caption=one.name))
    ticks = (0, 25, 50, 75, 100)
    x = svg.Axis(0, 100, ticks, 1, "percent of clients, the least heard first")
    y = svg.Axis(0, 100, ticks, 1, "percent of all answers")
    chart = svg.line_chart(
        lines,
        x,
        y,
        "Lorenz curve of answers; the diagonal is equality",
        reference=[(0, 0), (100, 100)],
    )
    title = "Share of the answers (Lorenz curve; the diagonal: all heard alike)"
    return figure(title, [chart], join(*tables))


# Whether who is seldom online is seldom heard, and which data that is


def _against_online(shown: Sequence[Shown], people: _People) -> Html:
    dots, tables = [], []
    grouped = False
    for one in shown:
        pairs = sorted(_online(people[one.place]), key=lambda pair: (pair[0], pair[1].name))
        if not pairs:
            continue
        grouped |= len(pairs) > _NAMED_CLIENTS
        if len(pairs) <= _NAMED_CLIENTS:
            dots += [
                svg.Dot(one.place, 100 * share, client.answered, _told(client))
                for share, client in pairs
            ]
        rows = []
        for part in stretches(pairs, _GROUPS):
            share, answers = _mean([s for s, _ in part]), _mean([c.answered for _, c in part])
            if len(pairs) > _NAMED_CLIENTS:
                told = (
                    f"{len(part):,} clients, online {100 * share:.1f}%: {answers:.3g} answers each"
                )
                dots.append(svg.Dot(one.place, 100 * share, answers, told))
            rows.append([f"{100 * share:.1f}%", f"{len(part):,}", f"{answers:.3g}"])
        heads = ["online", "clients", "answers each"]
        tables.append(markup.table(heads, rows, caption=one.name))
    x = svg.axis(
        (dot.x for dot in dots), "percent of the time online", from_zero=True, within=(0, 100)
    )
    y = svg.axis((dot.y for dot in dots), "answers that counted", from_zero=True)
    note = ": means of clients alike in it" if grouped else ", a dot for each client"
    chart = svg.dot_chart(dots, x, y, "Answers by share of the time online")
    return figure(f"Answers by how often a client is online{note}", [chart], join(*tables))


def _told(client: Client) -> str:
    share = 100 * (client.online_share or 0)
    told = f"{client.name}: online {share:.1f}%, {client.answered} answers"
    return (
        told if client.dominant_label is None else f"{told}, mostly class {client.dominant_label}"
    )


def _heard_labels(shown: Sequence[Shown], classes: dict[int, list[Label]]) -> Html:
    dots, tables = [], []
    for one in shown:
        rows = []
        for line in classes[one.place]:
            if line.ratio is not None:
                told = f"class {line.label}: heard {line.ratio:.2f} times as much as is its due"
                # Side by side, or equal ones hide each other.
                aside = (one.place - (len(shown) - 1) / 2) * min(0.12, 0.7 / len(shown))
                dots.append(svg.Dot(one.place, line.label + aside, line.ratio, told))
            rows.append(_label_row(line))
        if rows:
            heads = [
                "class",
                "clients*",
                "online*",
                "answers*",
                "of all data",
                "of heard data",
                "ratio",
            ]
            tables.append(markup.table(heads, rows, caption=one.name))
    most = max(len(lines) for lines in classes.values())
    every_label = -(-most // 12)
    x = svg.Axis(-0.5, most - 0.5, tuple(range(0, most, every_label)), every_label, "class")
    y = svg.axis(
        [0.0, 2.0, *(dot.y for dot in dots)], "heard, as a multiple of held", from_zero=True
    )
    chart = svg.dot_chart(
        dots, x, y, "How much of each class the model heard; 1 is its due", level=1
    )
    tables.append(
        element("p", "* of clients who hold more of this class than of any other.", class_="quiet")
    )
    return figure("How much of each class was heard (1: its due)", [chart], join(*tables))


def _label_row(line: Label) -> list[str]:
    return [
        f"{line.label}",
        f"{line.clients:,}",
        "–" if line.online_share is None else f"{100 * line.online_share:.1f}%",
        "–" if line.answers is None else f"{line.answers:.3g}",
        f"{100 * line.held:.1f}%",
        f"{100 * line.heard:.1f}%",
        "–" if line.ratio is None else f"{line.ratio:.2f}",
    ]


# Client by client


def _client_table(one: Shown, people: Sequence[Client], runs: int) -> Html:
    ranked = sorted(people, key=lambda client: (client.answered, client.name))
    listed = ranked
    summary = f"All {len(people):,} clients"
    if len(people) > max(_NAMED_CLIENTS // runs, 2 * _ENDS):
        listed = ranked[:_ENDS] + ranked[-_ENDS:]
        summary = f"The {_ENDS} least and the {_ENDS} most heard of {len(people):,} clients"
    has_lab = one.run.lab is not None
    heads = ["client", "invited", "answered", "dropped", "rejected", "surplus"]
    rows = []
    for client in listed:
        counts = (client.invited, client.answered, client.dropped, client.rejected, client.surplus)
        row = [markup.name(client.name), *(f"{count:,}" for count in counts)]
        if has_lab:
            share, label = client.online_share, client.dominant_label
            row.append("–" if client.samples is None else f"{client.samples:,}")
            row.append("–" if share is None else f"{100 * share:.1f}%")
            row.append("–" if label is None else f"{label}")
        rows.append(row)
    if has_lab:
        heads += ["samples", "online", "most of class"]
    title = join(summary, " of ", markup.name(one.name))
    return markup.folded(title, markup.table(heads, rows))


# Who holds what


def _split(sharing: Sequence[Shown]) -> Html:
    people = [one for one in run_figures.clients(sharing[0].run) if one.samples is not None]
    people.sort(key=lambda one: (run_figures.mean_label(one.label_counts), one.name))
    columns = stretches(people, _COLUMNS)
    panels = [_sizes(columns), *([_mixtures(columns)] if people[0].label_counts else [])]
    sizes = [one.samples or 0 for one in people]
    says = (
        f"{len(people):,} clients, {sum(sizes):,} samples: {min(sizes):,} to {max(sizes):,} each,"
        f" median {statistics.median(sizes):,.0f}."
    )
    each = max(map(len, columns))
    if each > 1:
        says += f" A column stands for the mean of up to {each:,} clients."
    rows = []
    for column in every(columns, TABLE_ROWS):
        first = markup.name(column[0].name)
        cell = first if len(column) == 1 else join(first, f" and {len(column) - 1} more")
        counts = _summed(column)
        shares = ", ".join(
            f"{label}: {100 * n / sum(counts):.0f}%" for label, n in enumerate(counts) if n
        )
        rows.append([cell, shares, f"{_mean([c.samples or 0 for c in column]):,.0f}"])
    table = markup.table(["client", "of class", "samples"], rows, text_columns=2)
    return join(
        element("p", says),
        figure("Who holds what: clients sorted by their mean class", panels, table),
    )


def _sizes(columns: Sequence[Sequence[Client]]) -> Html:
    bars = []
    for place, column in enumerate(columns):
        mean = _mean([one.samples or 0 for one in column])
        bars.append(svg.Bar(place, place + 1, (mean,), (f"{_who(column)}: {mean:,.0f} samples",)))
    x = svg.Axis(0, len(columns), (), 1, "clients")
    y = svg.axis((bar.heights[0] for bar in bars), "samples", from_zero=True)
    return svg.stack_chart(bars, ("held",), x, y, "Samples per client")


def _mixtures(columns: Sequence[Sequence[Client]]) -> Html:
    counts = [_summed(column) for column in columns]
    count = max(map(len, counts))
    # Of very many classes, neighbours share a row.
    size = -(-count // _ROWS)
    shares = []
    for column in counts:
        parts = [sum(column[start : start + size]) for start in range(0, count, size)]
        shares.append([part / max(1, sum(parts)) for part in parts])
    names = [
        f"{start}" if size == 1 else f"{start}–{min(start + size, count) - 1}"
        for start in range(0, count, size)
    ]

    def told(place: int, row: int) -> str:
        return f"{_who(columns[place])}: {100 * shares[place][row]:.0f}% of class {names[row]}"

    return svg.tile_chart(shares, names, "clients", "Share of each class per client", told)


def _summed(column: Sequence[Client]) -> list[int]:
    count = max(len(one.label_counts) for one in column)
    return [
        sum(one.label_counts[label] for one in column if label < len(one.label_counts))
        for label in range(count)
    ]


def _who(column: Sequence[Client]) -> str:
    first = column[0].name[:80]
    return first if len(column) == 1 else f"{first} and {len(column) - 1:,} more"
