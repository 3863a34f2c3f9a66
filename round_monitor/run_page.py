"""One HTML file from one or several runs, laid over each other. It opens offline and loads nothing.

Its own script and style are allowed by their hashes, in a policy that forbids all else: should a
name from a run ever get past `markup`, the browser would still not run it.
"""

import base64
import errno
import hashlib
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from fedmqtt import __version__, unreadable
from round_monitor import (
    markup,
    run_charts,
    run_figures,
    run_groups,
    run_people,
    run_quarantines,
    svg,
    units,
)
from round_monitor.markup import Html, element, join
from round_monitor.run_charts import Shown, run_heading
from round_monitor.run_figures import ACCURACY, TARGETS, Point
from round_monitor.run_files import Run

_LONGEST_NAME = 48


def page(runs: Sequence[Run], title: str, repeat: str) -> str:
    """The file's text. The same runs give the same text. `repeat` is the command that made it."""
    shown = [
        Shown(place, name, run)
        for place, (name, run) in enumerate(zip(names(runs), runs, strict=True))
    ]
    style, script = _part("run_page.css"), _part("run_page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Without one, browsers ask for /favicon.ico.
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    body = element(
        "body",
        element("header", element("h1", title), element("p", _about(shown), class_="quiet")),
        _legend(shown),
        element("main", *_sections(shown)),
        element(
            "footer",
            element("p", "Made by fedmqtt ", __version__, ". Again:"),
            element("pre", repeat, tabindex="0"),
        ),
        element("div", id="readout", hidden=""),
        element("script", script),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def names(runs: Sequence[Run]) -> list[str]:
    """What each is called: its title in the lab or its folder, with as much as tells them apart."""
    called = [
        _clipped((run.lab.title if run.lab else "") or run.folder.resolve().name) for run in runs
    ]
    depth = 1
    while len(set(called)) < len(called) and depth <= max(
        len(run.folder.resolve().parts) for run in runs
    ):
        twice = {name for name in called if called.count(name) > 1}
        called = [
            "/".join(run.folder.resolve().parts[-depth:]) if name in twice else name
            for name, run in zip(called, runs, strict=True)
        ]
        depth += 1
    return called


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _part(name: str) -> Html:
    # Ours, and checked by its hash: escaping would break it.
    return Html(resources.files("round_monitor").joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _about(shown: Sequence[Shown]) -> str:
    kinds = {_kind(one.run) for one in shown}
    count = "One run" if len(shown) == 1 else f"{len(shown)} runs"
    clocks = (
        " Time is the simulation’s own." if any(one.run.lab is not None for one in shown) else ""
    )
    return (
        f"{count}: {', '.join(sorted(kinds))}.{clocks}"
        " A model’s figures stand where it was made: after so many rounds, so much time and so many"
        " bytes. Point at a line to read it."
    )


def _kind(run: Run) -> str:
    if run.lab is None:
        return "a real coordinator’s"
    return "simulated on a virtual clock" if run.is_virtual else "simulated clients, real broker"


def _legend(shown: Sequence[Shown]) -> Html:
    """Each run's line and name, to be switched on and off."""
    if len(shown) == 1:
        return Html("")
    items = [
        element(
            "label",
            element("input", type="checkbox", checked="", data_shows=one.place, autocomplete="off"),
            svg.swatch(one.place),
            " ",
            markup.name(one.name),
            class_=f"c{one.place % svg.COLOURS} d{one.place % svg.DASHES}",
            data_names=one.place,
        )
        for one in shown
    ]
    return element("nav", *items, aria_label="Which runs are shown")


def _sections(shown: Sequence[Shown]) -> list[Html]:
    sections = [
        _section("What came out", _summary(shown), _notes(shown)),
        _section("How good the model became", run_charts.model_charts(shown)),
        _section("Rounds", run_charts.round_charts(shown)),
        _section("Who took part", run_people.participation(shown)),
    ]
    if shut_out := _shut_out(shown):
        sections.append(_section("Who was shut out", shut_out))
    if served := run_groups.served(shown):
        sections.append(_section("Whom the last model serves how well", served))
    if split := run_people.data_split(shown):
        sections.append(_section("Who holds what", split))
    sections.append(_section("Settings, and how to run it again", _settings(shown)))
    return sections


def _section(title: str, *children: str) -> Html:
    return element("section", element("h2", title), *children)


# The summary


def _summary(shown: Sequence[Shown]) -> Html:
    curves = {one.place: run_figures.curve(one.run, ACCURACY) for one in shown}
    rows: list[tuple[str, Callable[[Shown], str]]] = [
        ("rounds closed", lambda one: f"{len(_trained(one.run)):,}"),
        ("… whose answers made a model", lambda one: f"{_averaged(one.run):,}"),
        ("time", lambda one: units.duration(one.run.rounds[-1].at_s)),
        ("bytes sent and received", lambda one: units.size(one.run.rounds[-1].bytes_moved)),
        ("final accuracy", lambda one: _last(curves[one.place])),
        ("best accuracy", lambda one: _best(curves[one.place])),
    ]
    for target in TARGETS:
        title = f"to {target:.2f} accuracy"
        rows.append((title, partial(_cost, curves, target)))
    rows += [
        ("invited", lambda one: f"{_sum(one, 'invited'):,}"),
        ("answered in time", lambda one: _of_invited(one, "answered")),
        ("dropped", lambda one: _of_invited(one, "dropped")),
        ("surplus", lambda one: _of_invited(one, "surplus")),
        ("rejected", lambda one: _of_invited(one, "rejected")),
        (
            "late: came, of which counted",
            lambda one: f"{_sum(one, 'late'):,}, {_sum(one, 'late_counted'):,}",
        ),
    ]
    if any(one.run.privacy is not None for one in shown):
        rows.append(("epsilon of one device", _spent))
    head = ["", *(run_heading(one) for one in shown)]
    return markup.table(head, [[title, *(cell(one) for one in shown)] for title, cell in rows])


def _spent(one: Shown) -> str:
    if (spent := one.run.privacy) is None:
        return "not bounded"
    lines = (f"{spent.epsilon:.3g} of {spent.epsilon_max:.3g}", f"at delta {spent.delta:g}")
    return join(*(element("div", line) for line in lines))


def _trained(run: Run) -> list[Any]:
    return [line for line in run.rounds if line.outcome != "evaluated"]


def _averaged(run: Run) -> int:
    return sum(line.outcome == "averaged" for line in run.rounds)


def _last(points: Sequence[Point]) -> str:
    return f"{points[-1].value:.3f}" if points else "–"


def _best(points: Sequence[Point]) -> str:
    if not points:
        return "–"
    best = max(points, key=lambda point: point.value)
    lines = (f"{best.value:.3f}", f"after {best.rounds:,} rounds")
    return join(*(element("div", line) for line in lines))


def _cost(curves: Mapping[int, Sequence[Point]], target: float, one: Shown) -> str:
    points = curves[one.place]
    found = run_figures.reached(points, target)
    if found is None:
        return "not reached" if points else "–"
    spent = (f"{found.rounds:,} rounds", units.duration(found.at_s), units.size(found.bytes_moved))
    return join(*(element("div", line) for line in spent))


def _sum(one: Shown, what: str) -> int:
    return sum(getattr(line, what) for line in one.run.rounds)


def _of_invited(one: Shown, what: str) -> str:
    part, whole = _sum(one, what), _sum(one, "invited")
    return f"{part:,} ({100 * part / whole:.1f}%)" if whole else f"{part:,}"


def _notes(shown: Sequence[Shown]) -> Html:
    told = []
    with_lab = [one.run.lab is not None for one in shown]
    if not all(with_lab):
        told.append(
            "A coordinator counts the bytes of its own connection: what the broker passes on to"
            " many clients counts once."
        )
    if any(with_lab):
        told.append("The lab counts the bytes of all clients’ connections.")
    if any(with_lab) and not all(with_lab):
        told.append("The two cannot be compared.")
    return element("p", " ".join(told), class_="quiet")


def _shut_out(shown: Sequence[Shown]) -> Html:
    """Nothing where nobody was."""
    parts = []
    for one in shown:
        told = run_quarantines.tables(one.run.quarantines, one.run.standings)
        if told and len(shown) > 1:
            parts.append(element("h3", run_heading(one)))
        parts.append(told)
    return join(*parts)


# Settings


def _settings(shown: Sequence[Shown]) -> Html:
    parts = [_differences(shown)] if len(shown) > 1 else []
    for one in shown:
        inside: list[str] = [element("p", "Folder: ", element("code", str(one.run.folder)))]
        lab = one.run.lab
        if lab is not None:
            drawn = {"mode": lab.mode, "seed": lab.seed, "trace": lab.trace, **lab.weather}
            rows = [[markup.name(key), str(value)] for key, value in drawn.items()]
            inside.append(markup.table(["drawn", "value"], rows, text_columns=2))
        for name, text in one.run.settings.items():
            inside += [element("h4", name), element("pre", text, tabindex="0")]
        parts.append(element("h3", run_heading(one)))
        if command := _repeat(one.run):
            parts.append(element("pre", command, tabindex="0"))
        parts.append(markup.folded("Its settings", *inside))
    return join(*parts)


def _repeat(run: Run) -> str:
    if run.lab is not None:
        return run.lab.repeat
    name = "federation.toml"
    if name not in run.settings:
        return ""
    return shlex.join(["fedmqtt", "coordinator", str(run.folder / name), "--new"])


def _differences(shown: Sequence[Shown]) -> Html:
    """Which settings are not the same in all runs: usually the question that the page answers."""
    flat = [_flat_settings(one.run) for one in shown]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    rows = [
        [markup.name(key), *(settings.get(key, "–") for settings in flat)]
        for key in keys
        if len({settings.get(key) for settings in flat}) > 1
    ]
    if not rows:
        return element("p", "All runs have the same settings.")
    head = ["what differs", *(run_heading(one) for one in shown)]
    return markup.table(head, rows, text_columns=len(shown) + 1)


def _flat_settings(run: Run) -> dict[str, str]:
    flat: dict[str, str] = {}
    if run.lab is not None:
        flat |= {"mode": run.lab.mode, "seed": str(run.lab.seed)}
    for name, text in run.settings.items():
        try:
            flat |= _flat(tomllib.loads(text), f"{name}: ")
        except unreadable.TOML:
            # It is shown as it is, below.
            flat[name] = "not TOML"
    return flat


def _flat(values: dict[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def default_title(runs: Sequence[Run]) -> str:
    return " · ".join(names(runs)) if len(runs) <= 3 else f"{len(runs)} runs"


def write(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError."""
    if path.exists() and not path.is_file():
        # A device, say: what is put in its place would be a file.
        raise OSError(errno.EINVAL, "is there, and is no file that can be replaced", str(path))
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
