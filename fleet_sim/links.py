"""One client's way to the broker: how long, how wide, how often it breaks.

Bandwidth is constant or a recorded trace that begins again at its end. How long a transfer takes is
integrated exactly over the trace's steps, however often the transfer goes round it.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from fedmqtt.effects import Seconds
from fedmqtt.settings import SettingsError
from fleet_sim.tables import read_csv, read_npz, under

BYTES_PER_KBIT = 125.0
_COLUMNS = {"seconds": ("s", "t", "time"), "kbps": ("kbit/s", "kbits")}
_ARRAYS = ("kind", "offset", "t", "kbps")


class BandwidthSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kbps: Annotated[
        float, Meta(ge=0, le=1e9, description="Kilobits per second in the median; 0: no limit.")
    ] = 0.0
    spread: Annotated[
        float,
        Meta(ge=0, le=5, description="How much clients differ: the sigma of a lognormal factor."),
    ] = 0.0
    file: Annotated[
        str,
        Meta(
            description="Recorded bandwidth instead: a CSV file with the columns seconds,kbps,\n"
            "or an npz archive of many traces; from the folder of this file."
        ),
    ] = ""
    kind: Annotated[
        str, Meta(description="Of an npz archive: only the traces of this kind; empty: all.")
    ] = ""
    choose: Annotated[
        Literal["chance", "rank"],
        Meta(
            description="Which of many traces a client has. rank: the slowest trace for the\n"
            "lowest rank, so that who is seldom online is slow as well."
        ),
    ] = "chance"


class LinkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    latency_s: Annotated[
        float, Meta(ge=0, le=600, description="Seconds that a message is on its way, at least.")
    ] = 0.02
    jitter_s: Annotated[
        float, Meta(ge=0, le=600, description="Up to so many seconds more, drawn each time.")
    ] = 0.0
    loss: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="Share of messages that are lost, and sent again a round trip later.",
        ),
    ] = 0.0
    duplicates: Annotated[
        float, Meta(ge=0, lt=1, description="Share of messages that are delivered twice.")
    ] = 0.0
    cut_every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e8,
            description="The link breaks in the middle of a transfer, on average after so many\n"
            "seconds of transferring; 0: never.",
        ),
    ] = 0.0
    up: Annotated[BandwidthSettings, Meta(description="From the client to the broker.")] = field(
        default_factory=BandwidthSettings
    )
    down: Annotated[BandwidthSettings, Meta(description="From the broker to the client.")] = field(
        default_factory=BandwidthSettings
    )


class BandwidthTrace:
    """Steps of constant bandwidth; `kbps[i]` holds from `seconds[i]` to `seconds[i + 1]`.

    The last moment only says when the trace ends and begins again. At least one step carries bytes.
    """

    __slots__ = ("_bytes", "_seconds", "length_s")

    def __init__(self, seconds: Sequence[float], kbps: Sequence[float]) -> None:
        steps = zip(pairwise(seconds), kbps, strict=False)
        carried = (rate * BYTES_PER_KBIT * (end - begin) for (begin, end), rate in steps)
        self._bytes = list(accumulate(carried, initial=0.0))
        self._seconds = [moment - seconds[0] for moment in seconds]
        self.length_s: Seconds = self._seconds[-1]

    @property
    def bytes_per_loop(self) -> float:
        return self._bytes[-1]

    @property
    def kbps_mean(self) -> float:
        return self.bytes_per_loop / BYTES_PER_KBIT / self.length_s

    def carried(self, until: Seconds) -> float:
        """Bytes from the trace's begin to a moment within it."""
        step = min(bisect_right(self._seconds, until), len(self._seconds) - 1) - 1
        return self._between(until, step, self._seconds, self._bytes)

    def moment(self, size: float) -> Seconds:
        """When it has carried so many bytes, more than 0: the first such moment."""
        step = min(bisect_left(self._bytes, size), len(self._bytes) - 1) - 1
        return self._between(size, step, self._bytes, self._seconds)

    @staticmethod
    def _between(x: float, step: int, xs: Sequence[float], ys: Sequence[float]) -> float:
        if x >= xs[step + 1]:
            return ys[step + 1]
        part = (x - xs[step]) / (xs[step + 1] - xs[step])
        return ys[step] + part * (ys[step + 1] - ys[step])


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Of one direction of one client's link."""

    bytes_per_s: float = math.inf
    """Where there is no trace."""
    trace: BandwidthTrace | None = None
    phase_s: Seconds = 0.0
    """Where in the trace second 0 lies."""

    def seconds(self, size_bytes: float, from_s: Seconds) -> Seconds:
        """How long a transfer takes that begins at `from_s` and has the link for itself."""
        if size_bytes <= 0:
            return 0.0
        if self.trace is None:
            return size_bytes / self.bytes_per_s
        begin = (from_s + self.phase_s) % self.trace.length_s
        loops, rest = divmod(self.trace.carried(begin) + size_bytes, self.trace.bytes_per_loop)
        if rest == 0:
            # Done with the last byte that a loop carries, not when the next one begins to carry.
            loops, rest = loops - 1, self.trace.bytes_per_loop
        return max(loops * self.trace.length_s + self.trace.moment(rest) - begin, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    latency_s: Seconds = 0.0
    jitter_s: Seconds = 0.0
    loss: float = 0.0
    duplicates: float = 0.0
    up: Bandwidth = Bandwidth()
    down: Bandwidth = Bandwidth()
    cut_every_s: Seconds = 0.0
    """Mean time in transfer between two cuts; 0: never."""

    def delay_s(self, chance: Random) -> Seconds:
        """How long a message without a size is on its way."""
        return self.latency_s + chance.uniform(0.0, self.jitter_s)

    def lost_s(self, chance: Random) -> Seconds:
        """How much longer it takes where it is lost: a round trip each time."""
        late_s = 0.0
        while self.loss and chance.random() < self.loss:
            late_s += 2 * self.delay_s(chance)
        return late_s

    def cut_after_s(self, chance: Random) -> Seconds:
        """Seconds of transferring until the next cut; inf: never."""
        return chance.expovariate(1 / self.cut_every_s) if self.cut_every_s else math.inf


@dataclass(frozen=True, slots=True)
class Links:
    """What all clients' links are drawn from."""

    settings: LinkSettings
    up: Sequence[BandwidthTrace]
    down: Sequence[BandwidthTrace]

    def draw(self, rank: float, chance: Random) -> Link:
        """One client's."""
        settings = self.settings
        return Link(
            latency_s=settings.latency_s,
            jitter_s=settings.jitter_s,
            loss=settings.loss,
            duplicates=settings.duplicates,
            up=_draw(settings.up, self.up, rank, chance),
            down=_draw(settings.down, self.down, rank, chance),
            cut_every_s=settings.cut_every_s,
        )


def prepare(settings: LinkSettings, folder: Path) -> Links:
    """Reads the traces. Raises SettingsError, which begins with the key."""
    return Links(
        settings, _traces("up", settings.up, folder), _traces("down", settings.down, folder)
    )


def _draw(
    settings: BandwidthSettings, traces: Sequence[BandwidthTrace], rank: float, chance: Random
) -> Bandwidth:
    # Always drawn, so that changing one setting changes nothing else.
    factor, quantile, phase = chance.gauss(0.0, 1.0), chance.random(), chance.random()
    if not traces:
        rate = settings.kbps * BYTES_PER_KBIT * math.exp(settings.spread * factor)
        return Bandwidth(rate) if settings.kbps else Bandwidth()
    place = rank if settings.choose == "rank" else quantile
    trace = traces[min(int(place * len(traces)), len(traces) - 1)]
    # Who has the same trace is elsewhere in it.
    return Bandwidth(math.inf, trace, phase * trace.length_s)


def _traces(key: str, settings: BandwidthSettings, folder: Path) -> list[BandwidthTrace]:
    """Of the settings' file, the slowest first. Empty where none is named."""
    if not settings.file:
        if settings.kind:
            raise SettingsError(f"{key}.kind: {settings.kind!r} of which archive? Give `file` too")
        return []
    if settings.kbps or settings.spread:
        raise SettingsError(
            f"{key}.file: bandwidth comes from a file or from kbps and spread: leave one out"
        )
    path = folder / settings.file
    with under(f"{key}.file: "):
        traces = _read_npz(path, settings.kind) if path.suffix == ".npz" else [_read_csv(path)]
    if settings.kind and path.suffix != ".npz":
        raise SettingsError(f"{key}.kind: only an npz archive has kinds, and {path} is none")
    return sorted(traces, key=lambda trace: trace.kbps_mean)


def _read_npz(path: Path, kind: str) -> list[BandwidthTrace]:
    """Trace j is [offset[j]:offset[j + 1]] of `t` and `kbps`, and of the kind kind[j]."""
    arrays = read_npz(path, _ARRAYS)
    kinds, offset = arrays["kind"].tolist(), arrays["offset"].tolist()
    seconds, kbps = arrays["t"].tolist(), arrays["kbps"].tolist()
    if not (len(offset) == len(kinds) + 1 and len(seconds) == len(kbps) == offset[-1]):
        raise SettingsError(
            f"{path}: kind, offset, t and kbps do not fit together: trace j is"
            " [offset[j]:offset[j + 1]] of t and kbps"
        )
    if kind and kind not in kinds:
        known = ", ".join(sorted(set(kinds)))
        raise SettingsError(f"{path} has no traces of kind {kind!r}; choose one of: {known}")
    chosen = [slice(*offset[j : j + 2]) for j in range(len(kinds)) if kind in ("", kinds[j])]
    for piece in chosen:
        if wrong := _wrong(seconds[piece], kbps[piece]):
            raise SettingsError(f"{path}: the trace at {piece.start}: {wrong}")
    return [BandwidthTrace(seconds[piece], kbps[piece]) for piece in chosen]


def _read_csv(path: Path) -> BandwidthTrace:
    rows = read_csv(path, _COLUMNS)
    seconds = [row.number("seconds") for row in rows]
    kbps = [row.number("kbps", at_least=0) for row in rows]
    for row, (before, now) in zip(rows[1:], pairwise(seconds), strict=True):
        if now <= before:
            raise row.wrong(f"{now:g} seconds come after {before:g}; sort the lines by time")
    if wrong := _wrong(seconds, kbps):
        raise SettingsError(f"{path}: {wrong}")
    return BandwidthTrace(seconds, kbps)


def _wrong(seconds: Sequence[float], kbps: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "one moment is no trace; the last one says when it ends, so give two or more"
    if not all(map(math.isfinite, (*seconds, *kbps))) or min(kbps) < 0:
        return "holds what is no bandwidth; every number has to be finite and 0 or more"
    if any(after <= before for before, after in pairwise(seconds)):
        return "its moments do not grow"
    if not any(kbps[:-1]):
        return "carries nothing at all, so that no transfer would ever end"
    return ""
