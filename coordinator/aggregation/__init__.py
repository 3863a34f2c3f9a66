"""How a round's changes become the next model. One file per strategy.

Each defines `Settings`, a struct whose every field has a default, and `build(settings, running)`.
"""

from typing import Protocol

from fedmqtt.weights import Array


class Aggregation(Protocol):
    """Built anew for each round, fed each accepted change once, then finished.

    The order in which changes are folded must not matter: clients answer in any order.
    """

    def fold(self, change: Array, sample_count: int) -> None:
        """Add one client's change (trained minus base), shape (size,), by its count of samples."""

    def finish(self, base: Array) -> Array:
        """The next model, shape (size,), from the one the round started with."""
