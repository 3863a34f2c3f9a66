"""`lab.json` in a run's folder: what the lab knows of a run beside its `history.jsonl`."""

from collections.abc import Mapping

from msgspec import Struct


class ClientLine(Struct, frozen=True, kw_only=True):
    client: str
    samples: int | None = None
    """What it holds, held out or not; None where nothing was learned."""
    label_counts: list[int] = []
    """By class; empty where targets are no classes."""
    dominant_label: int | None = None
    rank: float
    online_share: float | None
    """Of the run's time, by its plan. Of a large fleet it is told of some."""


class RoundMark(Struct, frozen=True, kw_only=True):
    round: int
    closed_s: float
    """Seconds of the run's own time since it began."""
    bytes_up: int
    bytes_down: int
    """By all clients since the run began."""


class LabPage(Struct, frozen=True, kw_only=True):
    mode: str
    """ "virtual" or "live"."""
    title: str
    seed: int
    clients: list[ClientLine]
    rounds: list[RoundMark]
    speed: float = 1.0
    """Seconds of the run's own time in each second that the history tells of."""
    trace: str
    """The same for the same run of the virtual mode, whatever machine it ran on."""
    weather: Mapping[str, str]
    """Every option of the fleet's file, with defaults."""
    repeat: str
    """The command that repeats it."""
