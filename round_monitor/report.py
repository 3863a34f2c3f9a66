"""The end of a run: how good the model is, what it cost, and where everything lies."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedmqtt.metrics import Confusion
from round_monitor import units


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to. Counts of clients are sums over its rounds."""

    accuracy: float | None
    """Of the last model that was evaluated, 0 to 1; None if none was."""
    macro_f1: float | None
    rounds: int
    wall_s: float
    bytes_up: int
    """What all clients sent: topics and payloads."""
    bytes_down: int
    """What all clients received."""
    invited: int
    answered: int
    dropped: int
    """Lost: gone, too slow for the deadline, or declined."""
    surplus: int
    """Still at work when their round was complete without them."""
    rejected: int
    late: int
    broker: str
    seed: int
    run: str

    def to_json(self) -> str:
        """One line, for programs."""
        return msgspec.json.encode(asdict(self)).decode()


def render_result(
    result: RunResult,
    measured_on: str,
    confusion: Confusion | None,
    class_names: Sequence[str],
    files: Mapping[str, Path],
    repeat: str,
) -> RenderableType:
    """`files` is what they are called to where they lie; `repeat` the command that runs it again.

    `measured_on` tells whose data the figures are of. `confusion` counts samples: row = true class,
    column = predicted.
    """
    parts: list[RenderableType] = [_headline(result), Text(measured_on), Text()]
    if confusion is not None:
        parts += [_ConfusionTable(confusion, class_names), Text()]
    parts += [_totals(result), Text(), _places(files, repeat)]
    return Padding(Group(*parts), (1, 0, 0, 1))


def _headline(result: RunResult) -> Text:
    if result.accuracy is None or result.macro_f1 is None:
        return Text("No model was evaluated.", style="bold yellow")
    return Text.assemble(
        "Accuracy ",
        (f"{result.accuracy:.3f}", "bold green"),
        "   macro-F1 ",
        (f"{result.macro_f1:.3f}", "bold green"),
        (f"   after {result.rounds:,} rounds in {units.duration(result.wall_s)}", "dim"),
    )


class _ConfusionTable:
    """Counts and row percentages where they fit, else percentages."""

    def __init__(self, confusion: Confusion, class_names: Sequence[str]) -> None:
        self._confusion = confusion
        numbered = [f"class {i}" for i in range(len(confusion))]
        self._names = list(class_names) if len(class_names) == len(confusion) else numbered

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("Which class was taken for which: true class by row, predicted by column")
        full, short = self._table(with_counts=True), self._table(with_counts=False)
        fits = full.__rich_measure__(console, options.update(max_width=1000)).maximum
        yield full if fits <= options.max_width else short

    def _table(self, with_counts: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("true", max_width=24, no_wrap=True)
        for name in self._names:
            table.add_column(name, justify="right", overflow="ellipsis")
        for i, (name, row) in enumerate(zip(self._names, self._confusion, strict=True)):
            cells = [_cell(n, sum(row), i == j, with_counts) for j, n in enumerate(row)]
            table.add_row(name, *cells)
        return table


def _cell(number: int, of: int, right: bool, with_counts: bool) -> Text:
    share = f"{100 * number / of:.0f}%" if of else "–"
    text = f"{number:,} {share:>4}" if with_counts else share
    # What is right stands out, what never happens steps back.
    return Text(text, style="bold green" if right else "" if number else "dim")


def _totals(result: RunResult) -> Table:
    table = _pairs()
    table.add_row(
        "Invited",
        f"{result.invited:,}: {result.answered:,} answered, {result.dropped:,} dropped,"
        f" {result.rejected:,} rejected, {result.surplus:,} not needed any more",
    )
    table.add_row("Late", f"{result.late:,} updates came after their round had closed")
    bytes_up, bytes_down = units.size(result.bytes_up), units.size(result.bytes_down)
    table.add_row("Bytes", f"{bytes_up} sent by clients, {bytes_down} received by them")
    table.add_row("Broker", result.broker)
    table.add_row("Run", f"{result.run}, seed {result.seed}")
    return table


def _places(files: Mapping[str, Path], repeat: str) -> Table:
    table = _pairs()
    for name, path in files.items():
        table.add_row(name, str(path))
    table.add_row("Again", Text(repeat, style="bold"))
    return table


def _pairs() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=8)
    # A path or a command that is cut cannot be copied.
    table.add_column(overflow="fold")
    return table
