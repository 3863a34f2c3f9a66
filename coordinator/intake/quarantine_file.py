"""The quarantine of one run, in its folder: outlives the coordinator, and is open to people.

<run>/quarantine/standings.json   what is held against whom; written by the coordinator alone
<run>/quarantine/orders/*.json    what people want, each in a file of its own, in their names' order
                       /*.taken   the same, once the coordinator is about to carry it out

An order is carried out by the coordinator, soon or when it is next started: to give one, nobody has
to know whether it runs. `read` tells how things are, or will be, in both cases.
"""

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from coordinator.intake.quarantine import Moment, Order, Quarantine, Rules, Standing
from coordinator.persistence.durable import force, write_whole
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt import unreadable
from fedmqtt.topics import ClientId

_ORDERS_AT_ONCE = 10_000
_GIVEN, _TAKEN = ".json", ".taken"

_NO_RULES = Rules(strikes=0, within_s=float("inf"), first_s=1.0, longest_s=float("inf"))
"""For who only looks."""


def load(run: Path) -> dict[ClientId, Standing]:
    """Raises LedgerDamaged and OSError."""
    path = _standings(run)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[ClientId, Standing])
    except FileNotFoundError:
        return {}
    except unreadable.MESSAGE as bad:
        raise LedgerDamaged(f"{path}: {bad}; without it nobody is in quarantine") from bad


def save(run: Path, standings: Mapping[ClientId, Standing]) -> None:
    """Raises OSError."""
    _folder(run).mkdir(exist_ok=True)
    write_whole(_standings(run), msgspec.json.encode(standings))


def give(run: Path, order: Order) -> None:
    """Leave it to the run's coordinator, which must be able to read and remove it: so it belongs to
    whom the run's folder belongs to. Raises OSError."""
    owner = run.stat()
    if os.geteuid() not in (0, owner.st_uid):
        raise PermissionError(
            f"{run} belongs to another user (number {owner.st_uid}), whose coordinator could not"
            " remove the order: give it as that user, or as root"
        )
    for folder in (_folder(run), _orders(run)):
        folder.mkdir(exist_ok=True)
        _hand_over(folder, owner)
    # In the order in which they are given, by one machine's clock.
    path = _orders(run) / f"{time.time_ns():020}-{secrets.token_hex(4)}.new"
    write_whole(path, msgspec.json.encode(order))
    _hand_over(path, owner)
    path.rename(path.with_suffix(_GIVEN))
    force(_orders(run))


def _hand_over(path: Path, owner: os.stat_result) -> None:
    if path.stat().st_uid != owner.st_uid:
        os.chown(path, owner.st_uid, owner.st_gid)


def claim(path: Path) -> Path:
    """The order's file by another name: where that can be done, it can be removed. Raises
    OSError."""
    return path.rename(path.with_suffix(_TAKEN))


def orders(run: Path) -> list[tuple[Path, Order | None]]:
    """What waits to be carried out, oldest first; None for what cannot be read. Raises OSError."""
    try:
        names = (path for path in _orders(run).iterdir() if path.suffix in (_GIVEN, _TAKEN))
        paths = sorted(names)[:_ORDERS_AT_ONCE]
    except FileNotFoundError:
        return []
    return [(path, _order(path)) for path in paths]


def read(run: Path, at: Moment) -> Quarantine:
    """As it is, once all that was ordered is carried out. Raises LedgerDamaged and OSError."""
    found = Quarantine(load(run), _NO_RULES)
    for _, order in orders(run):
        if order is not None:
            found.obey(at, order)
    found.pass_time(at)
    return found


def _order(path: Path) -> Order | None:
    try:
        order: Order = msgspec.json.decode(path.read_bytes(), type=Order)
    except (*unreadable.MESSAGE, OSError):
        return None
    return order


def _folder(run: Path) -> Path:
    return run / "quarantine"


def _standings(run: Path) -> Path:
    return _folder(run) / "standings.json"


def _orders(run: Path) -> Path:
    return _folder(run) / "orders"
