"""Whom a coordinator believes: what its credentials tell of it, as those who check it need it."""

from collections.abc import Callable
from dataclasses import dataclass

from fedmqtt.credentials import Credentials
from fedmqtt.topics import ClientId


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    federation_key: str
    """Public, as text: tickets of devices are signed by it."""
    keyholders: tuple[tuple[ClientId, str], ...]
    """Names and public keys, in the order of their places."""
    is_revoked: Callable[[str], bool] = lambda key: False
    """Of a device, by its public key as text."""


def trust_of(
    account: Credentials, is_revoked: Callable[[str], bool] = lambda key: False
) -> Trust | None:
    """None where a coordinator's credentials hold no keys. Raises signing.BadKey."""
    if not account.signing_key:
        return None
    # Here: a program without keys is spared 1 MB.
    from fedmqtt import signing

    return Trust(
        federation_key=signing.public_key(account.signing_key),
        keyholders=tuple(account.pinned.items()),
        is_revoked=is_revoked,
    )
