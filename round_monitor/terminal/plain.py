"""What is taken out of each line before it goes to a terminal that cannot show it."""

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from round_monitor.client_rows import MARKS

_LIKE = str.maketrans(
    {
        **{mark.symbol: mark.plain for mark in MARKS.values()},
        # All that boxes are drawn with; then those of them that are straight.
        **{chr(code): "+" for code in range(0x2500, 0x2580)},
        **dict.fromkeys("│┃▏▕▎▊▌▐", "|"),
        **dict.fromkeys("─━▔▁", "-"),
        **dict.fromkeys("█▉▇▆▅▄▃▂", "#"),
        **dict.fromkeys("…·•", "."),
        "▲": "^",
        "▼": "v",
        "−": "-",
        "↑": "^",
        "↓": "v",
        "▶": ">",
        "■": "=",
    }
)


class Ascii(LineFilter):
    """Each character that is not ASCII as one that is, so that all stays in its column."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isascii()
            else Segment(_ascii(segment.text), segment.style)
            for segment in segments
        ]


def _ascii(text: str) -> str:
    return text.translate(_LIKE).encode("ascii", "replace").decode()
