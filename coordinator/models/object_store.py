"""Where models are kept beside the run's folder, if anywhere: `checkpoint.store = "s3://..."`.

An object is written once, under a name that comes never again, and is read by who knows its
digest. So nobody writes over what another program's ledger names, and a store need not be able to
do more than to take an object whole.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from coordinator.config import FederationConfig
from fedmqtt.settings import SettingsError
from fedmqtt.topics import RunId

_EXPECTED = 'expected "s3://BUCKET/PREFIX"'


class ObjectStore(Protocol):
    """Raises ObjectStoreError. Waits for a store that is away."""

    def put(self, run: RunId, name: str, path: Path) -> str:
        """A file of this run, whole or not at all: where it lies from now on. When this returns,
        the store has it."""

    def pieces(self, address: str) -> Iterator[bytes]:
        """What was put there."""

    def delete(self, addresses: Iterable[str]) -> None:
        """Also what is not there any more. What cannot be deleted is left there."""

    def left_behind(self, run: RunId) -> list[str]:
        """What lies there of this run for a day or longer, where it may be nobody's."""


def check(text: str) -> None:
    """Raises SettingsError."""
    if not text:
        return
    try:
        url = urlsplit(text)
    except ValueError as bad:
        raise SettingsError(f"checkpoint.store is {text!r}: {bad}; {_EXPECTED}") from bad
    if url.username is not None or url.password is not None:
        raise SettingsError(
            "checkpoint.store has an account in it: settings are shown around. Leave it out, and"
            " give it in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws/credentials"
        )
    if url.scheme != "s3" or not url.netloc or url.query or url.fragment:
        raise SettingsError(f"checkpoint.store is {text!r}: {_EXPECTED}")


def of(config: FederationConfig, gives_up: Callable[[], bool]) -> ObjectStore | None:
    """By the settings; None where there is none. `gives_up` is asked while it is away: whether to
    wait any longer.

    Raises SettingsError where there can be no way to it, ObjectStoreError where there is none now.
    """
    chosen = config.checkpoint
    if not chosen.store:
        return None
    try:
        # Here: who has no store need not have what talks to it.
        from coordinator.models.s3_store import S3Store
    except ImportError as bad:
        raise SettingsError(
            f"checkpoint.store is {chosen.store!r}, which needs what `pip install 'fedmqtt[s3]'`"
            f" brings: {bad}"
        ) from bad
    return S3Store(chosen.store, chosen.endpoint, config.name, gives_up)
