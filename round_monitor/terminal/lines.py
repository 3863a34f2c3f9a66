"""Lines of text that are drawn anew only where they changed: little to send over a slow link."""

from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget


class Lines(Widget):
    """As high as its lines are many; those that are too long end with an ellipsis."""

    def __init__(self, lines: Sequence[Text] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = list(lines)

    def tell(self, lines: Sequence[Text]) -> None:
        old, self._lines = self._lines, list(lines)
        if len(old) != len(lines):
            self.refresh(layout=True)
            return
        places = [y for y, (was, line) in enumerate(zip(old, lines, strict=True)) if was != line]
        if places:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in places))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return max((line.cell_len for line in self._lines), default=0)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[y].copy()
        line.truncate(width, overflow="ellipsis")
        line.end = ""
        strip = Strip(line.render(self.app.console))
        return strip.adjust_cell_length(width).apply_style(self.rich_style)
