"""The benchmark's table in Markdown, as it stands in docs/faults.md."""

from collections.abc import Sequence

from tests.faults.stage import Row

_HEAD = ("fault", "ended by itself", "longest stall", "lost", "twice", "final model", "note")

_ABOUT = """\
# What goes wrong, and what becomes of the run

`make faults` wrote this page: real programs, a real Mosquitto, and every fault done to them from
outside, without root. Each row is a federation of its own, of four clients unless it says more,
compared with the same federation in which nothing happened.

- **ended by itself**: the rounds came to their end, and the coordinator ended with exit code 0.
  Where its program was killed, or had to end because of the fault, the benchmark started it again,
  as a service manager does; the note says so.
- **longest stall**: the longest time without a round that closed; in brackets, undisturbed.
- **lost**: answers with a receipt that are in no round, and answers that a client owes for ever.
- **twice**: answers that are in a model more than once.
- **final model**: *identical*: the same answers counted as undisturbed, and every bit is the same.
  *exact*: other answers counted, since somebody was gone; the model is, to the bit, what just those
  answers make. For that, all trainings and averages of the run are done again, apart from it. The
  number beside it is the largest difference of any of the model's numbers from the undisturbed
  run's: what the missing answers would have made of it.

Required of every row: it ends, nothing is lost, nothing counts twice, and the model is identical
where the same answers counted. What is required of one fault beyond that is in
`tests/faults/scenes/`.
"""


def page(rows: Sequence[Row], command: str, versions: str) -> str:
    """docs/faults.md, without a date: it changes when something has changed."""
    failed = "\n".join(f"- {row.fault}: {fault}" for row in rows for fault in row.faults)
    return "\n".join(
        [
            _ABOUT,
            f"`{command}`, {versions}:",
            "",
            markdown(rows),
            *(["", "**Failed:**", "", failed] if failed else []),
            "",
        ]
    )


def markdown(rows: Sequence[Row]) -> str:
    lines = [_HEAD, tuple("---" for _ in _HEAD), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    stall = "" if row.stall_s is None else f"{row.stall_s:.1f} s"
    usual = "" if row.usual_s is None else f" ({row.usual_s:.1f} s)"
    return (
        row.fault,
        "yes" if row.ended else "NO",
        f"{stall}{usual}",
        str(row.lost),
        str(row.twice),
        row.model if row.difference is None else f"{row.model}, {row.difference:.2g} off",
        "FAILED, see below" if row.faults else row.note,
    )
