"""Devices whose keys count no more: the list that `fedmqtt revoke` writes and a coordinator reads.

    # a line for each: the public key, and whose it was
    1Jr8...= pi-3
    # end: 1 key

By its last line a list that was cut short, as by a copy that was broken off, is told from a whole
one: it would let devices back in. By keys, not by names: who is enrolled again has another key, and
the old one stays revoked.

A list of the devices that are enrolled looks the same. It is for who does not take a coordinator's
word on that: with the federation's key it could give a ticket to a device that there is not.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

_LINE = re.compile(r"([A-Za-z0-9+/]{43}=)( .*)?")

_log = logging.getLogger("revocations")


class RevocationsError(ValueError):
    """There is no such list; names the file and says why."""


def render(keys: Iterable[tuple[str, str]]) -> str:
    """Of public keys, with the devices' names for people."""
    return _rendered(
        "# Devices whose keys count no more. Written by `fedmqtt revoke`; for a coordinator's",
        "# --revoked, which sees that it has changed.",
        keys,
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


def read(path: Path, what: str = "revoked devices") -> frozenset[str]:
    """The keys. Raises RevocationsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as bad:
        raise RevocationsError(f"{what} {path}: {bad.strerror}") from bad
    except UnicodeDecodeError as bad:
        raise RevocationsError(f"{what} {path}: no text") from bad
    keys: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line)) is None:
            raise RevocationsError(
                f"{what} {path}: line {number} is no key and name, as in the list that"
                " `fedmqtt revoke` writes"
            )
        keys.append(found[1])
    if not text.endswith(f"{_end(len(keys))}\n"):
        raise RevocationsError(
            f"{what} {path}: it holds {len(keys)} keys, and its last line does not say so:"
            " copy the whole list again, as `fedmqtt revoke` wrote it"
        )
    return frozenset(keys)


def _end(count: int) -> str:
    return f"# end: {count} key{'' if count == 1 else 's'}"


class Revocations:
    """The list as it is now. Raises RevocationsError where there is none when it begins."""

    what = "revoked devices"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = read(path, self.what)
        self._seen = self._stamp()

    def includes(self, key: str) -> bool:
        """Looks at the file each time, and reads it when it has changed. One that cannot be read
        then changes nothing: nobody comes back by that."""
        if (now := self._stamp()) != self._seen:
            self._seen = now
            try:
                self._keys = read(self._path, self.what)
                _log.info("%s: %d %s", self._path, len(self._keys), self.what)
            except RevocationsError as bad:
                _log.error("%s; the list of before holds", bad)
        return key in self._keys

    def _stamp(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class Enrolments(Revocations):
    """As that of revoked devices, of those that are enrolled."""

    what = "enrolled devices"
