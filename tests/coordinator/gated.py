"""A strategy that averages when a test opens its gate. See `test_while_averaging.py`."""

from pathlib import Path

from msgspec import Struct

from coordinator.aggregation import Aggregation, Round, fedavg
from coordinator.rounds import Named
from fedmqtt.weights import Array


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    gate: str = ""
    """A FIFO: whoever reads it waits for somebody to open it for writing."""


class Gated:
    def __init__(self, gate: Path, averaging: Aggregation) -> None:
        self._gate = gate
        self._averaging = averaging

    def fold(self, change: Array, sample_count: int, named: Named) -> None:
        self._averaging.fold(change, sample_count, named)

    def finish(self, base: Array) -> Array:
        self._gate.read_bytes()
        return self._averaging.finish(base)


def build(settings: Settings, round_: Round) -> Gated:
    return Gated(Path(settings.gate), fedavg.build(fedavg.Settings(), round_))
