"""Devices whose keys count no more: the list that `fedmqtt revoke` writes and a coordinator reads.

    # a line for each: the public key, and whose it was
    1Jr8...= pi-3
    9KtQ...= pi-4 (not enrolled)
    # end: 2 keys

By its last line a list that was cut short, as by a copy that was broken off, is told from a whole
one: it would let devices back in. By keys, not by names: who is enrolled again has another key, and
the old one stays revoked. A name that has no other key is said to be not enrolled; lists of before
that was said do not tell, and older programs pass over it.

A list of the devices that are enrolled looks the same. It is for who does not take a coordinator's
word on that: with the federation's key it could give a ticket to a device that there is not.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedmqtt.topics import ClientId, is_name

_LINE = re.compile(r"([A-Za-z0-9+/]{43}=)( .*)?")
_NOT_ENROLLED = " (not enrolled)"

_log = logging.getLogger("revocations")


class RevocationsError(ValueError):
    """There is no such list; names the file and says why."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What one list says."""

    keys: frozenset[str]
    devices: frozenset[ClientId]
    """Of a list of revoked ones: those that are not enrolled again, and have no other key."""


def render(keys: Iterable[tuple[str, str]], enrolled: Iterable[str] | None = None) -> str:
    """Of public keys, with the devices' names. Which names are `enrolled` again, if it is known."""
    live = None if enrolled is None else frozenset(enrolled)
    return _rendered(
        "# Devices whose keys count no more. Written by `fedmqtt revoke`; for a coordinator's",
        "# --revoked, which sees that it has changed.",
        ((key, device + _standing(device, live)) for key, device in keys),
    )


def render_enrolled(keys: Iterable[tuple[str, str]]) -> str:
    """The same of devices whose keys count."""
    return _rendered(
        "# Devices that are enrolled. Written by `fedmqtt enroll` and `revoke`; for a keyholder's",
        "# --enrolled, which sees that it has changed.",
        keys,
    )


def _rendered(what: str, whose: str, keys: Iterable[tuple[str, str]]) -> str:
    listed = [f"{key} {device}" for key, device in keys]
    return "\n".join((what, whose, *listed, _end(len(listed)))) + "\n"


def _standing(device: str, live: frozenset[str] | None) -> str:
    return "" if live is None or device in live else _NOT_ENROLLED


def read(path: Path, what: str = "revoked devices") -> Listed:
    """Raises RevocationsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as bad:
        raise RevocationsError(f"{what} {path}: {bad.strerror}") from bad
    except UnicodeDecodeError as bad:
        raise RevocationsError(f"{what} {path}: no text") from bad
    keys: list[str] = []
    devices: set[ClientId] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line)) is None:
            raise RevocationsError(
                f"{what} {path}: line {number} is no key and name, as in the list that"
                " `fedmqtt revoke` writes"
            )
        keys.append(found[1])
        said = found[2] or ""
        if said.endswith(_NOT_ENROLLED) and is_name(name := said[1 : -len(_NOT_ENROLLED)]):
            devices.add(ClientId(name))
    if not text.endswith(f"{_end(len(keys))}\n"):
        raise RevocationsError(
            f"{what} {path}: it holds {len(keys)} keys, and its last line does not say so:"
            " copy the whole list again, as `fedmqtt revoke` wrote it"
        )
    return Listed(frozenset(keys), frozenset(devices))


def _end(count: int) -> str:
    return f"# end: {count} key{'' if count == 1 else 's'}"


class Revocations:
    """The list as it is now. Raises RevocationsError where there is none when it begins."""

    what = "revoked devices"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listed = read(path, self.what)
        self._seen = self._stamp()

    @property
    def devices(self) -> frozenset[ClientId]:
        """Those that are not enrolled, by the list as it is now: see `includes`."""
        self._look()
        return self._listed.devices

    def includes(self, key: str) -> bool:
        """Looks at the file each time, and reads it when it has changed. One that cannot be read
        then changes nothing: nobody comes back by that."""
        self._look()
        return key in self._listed.keys

    def _look(self) -> None:
        if (now := self._stamp()) != self._seen:
            self._seen = now
            try:
                self._listed = read(self._path, self.what)
                _log.info("%s: %d %s", self._path, len(self._listed.keys), self.what)
            except RevocationsError as bad:
                _log.error("%s; the list of before holds", bad)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class Enrolments(Revocations):
    """As that of revoked devices, of those that are enrolled."""

    what = "enrolled devices"
