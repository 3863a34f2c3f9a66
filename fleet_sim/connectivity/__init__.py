"""When clients are online. One file per kind of weather.

Each defines

    Settings                                    a struct whose every field says what it is
    prepare(settings, folder, clients, starts)  reads files, their paths from `folder`;
                                                SettingsError begins with the key
    online(prepared, rank, chance)              one client's intervals, endless or not

All kinds count seconds from a midnight, of a Monday where the day of the week matters. `rank` in
[0, 1) says which quantile of the kind this client is, and is the one thing in which clients are
drawn together: all else comes from the client's own `chance`.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Protocol

from msgspec import Struct

from fedmqtt.effects import Seconds
from fleet_sim.intervals import Interval


class Connectivity(Protocol):
    """What a module of this folder is."""

    Settings: type[Struct]

    def prepare(self, settings: Any, folder: Path, clients: int, starts: Seconds) -> Any:
        """What all clients of a fleet of so many share, whose run begins at second `starts`.

        Raises SettingsError.
        """

    def online(self, prepared: Any, rank: float, chance: Random) -> Iterator[Interval]:
        """One client's intervals from second 0 on: in order, each with a gap before it."""
