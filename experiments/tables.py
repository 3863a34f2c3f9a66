"""Results as text for people."""

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well on a terminal and in a page; columns but the first to the right."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


def plus_minus(spread: float | None) -> str:
    """In percent; nothing where there is none, as of one seed."""
    return "" if spread is None else f" ± {100 * spread:.1f}"
