"""The two pictures of `dropout.py`, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import lost_answers, seldom_online
from experiments.lost_answers import TARGET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = {"none": "--", "learned": "-"}


def draw_lost_answers(outcomes: Sequence[lost_answers.Outcome], out: Path) -> None:
    """Accuracy, and hours to the target, over the dropout; a column for each task."""
    tasks = sorted({one.choice.task for one in outcomes})
    figure = _figure(5.0 * len(tasks), 7.0)
    axes = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for column, task in enumerate(tasks):
        mine = [one for one in outcomes if one.choice.task == task]
        _draw_lines(axes[0][column], mine, "accuracy")
        _draw_lines(axes[1][column], mine, "hours")
        axes[0][column].set_title(task)
        axes[1][column].set_xlabel("dropout that was asked for")
    axes[0][0].set_ylabel("accuracy on people who never train")
    axes[1][0].set_ylabel(f"hours of the fleet's time to {TARGET:.2f}")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        title="late answers, over-selection",
    )
    figure.savefig(out)


def _draw_lines(axes: "Axes", outcomes: Sequence[lost_answers.Outcome], field: str) -> None:
    policies = sorted({one.choice.late for one in outcomes})
    for over in sorted({one.choice.over_selection for one in outcomes}):
        mine = [one for one in outcomes if one.choice.over_selection == over]
        for n, late in enumerate(policies):
            line = [one for one in mine if one.choice.has_none_late or one.choice.late == late]
            points = [
                (one.choice.dropout, value)
                for one in sorted(line, key=lambda one: one.choice.dropout)
                if (value := getattr(one, field)) is not None
            ]
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=f"{late}, {over}",
                color=_COLOURS[n],
                marker=_MARKERS[n],
                linestyle=_LINES[over],
            )
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    axes.grid(alpha=0.3)


def draw_seldom_online(
    outcomes: Sequence[seldom_online.Outcome], classes: Sequence[str], out: Path
) -> None:
    """Recall of each class, weather by chance beside weather that follows the data."""
    panels = sorted({(one.choice.split, one.choice.weather) for one in outcomes})
    figure = _figure(4.5 * len(panels), 4.0)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for panel, (split, weather) in zip(axes, panels, strict=True):
        mine = [
            one for one in outcomes if (one.choice.split, one.choice.weather) == (split, weather)
        ]
        for n, one in enumerate(sorted(mine, key=lambda one: one.choice.follows_data)):
            places = [i + 0.4 * n - 0.2 for i in range(len(classes))]
            label = "follows the data" if one.choice.follows_data else "by chance"
            panel.bar(places, one.recall, width=0.38, label=label, color=_COLOURS[n])
        panel.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        panel.set_title(f"{weather}, {split}")
        panel.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("recall on people who never train")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(out)


def _figure(width: float, height: float) -> "Figure":
    # Here, because it takes half a second. A Figure of its own draws with Agg; pyplot would look
    # for a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")
