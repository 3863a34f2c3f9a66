"""The keys by which a federation's coordinators, devices and others sign, as a kit gives them.

A kit that was made before there were any has none, and gives none: nobody asks for signatures then.
"""

from dataclasses import dataclass, field
from pathlib import Path

from fedmqtt import signing
from fedmqtt.credentials import Role

_TICKETS = {
    "device": signing.ticket,
    "operator": signing.operator_ticket,
    "worker": signing.worker_ticket,
}


@dataclass(frozen=True, slots=True)
class AccountKeys:
    """What stands in the credentials of one account."""

    federation_key: str = ""
    signing_key: str = field(default="", repr=False)
    ticket: str = ""
    public_key: str = ""
    """By which the kit can revoke it."""


class FederationKey:
    """Of one kit, in a file. Raises OSError, and ValueError where that holds none, or another."""

    def __init__(self, path: Path, public: str) -> None:
        self._public = public
        self._private = path.read_text(encoding="utf-8").strip() if public else ""
        if public and signing.public_key(self._private) != public:
            raise ValueError("not the key that this kit was made with")

    def for_account(self, federation: str, name: str, role: Role) -> AccountKeys:
        """New ones for a device, an operator or a worker. A monitor reads nothing signed."""
        match role:
            case "device" | "operator" | "worker" if self._private:
                own = signing.new_key()
                public = signing.public_key(own)
                ticket = _TICKETS[role](self._private, federation, name, public)
                return AccountKeys(self._public, own, ticket, public)
            case "coordinator" if self._private:
                ticket = signing.ticket(self._private, federation, name, self._public)
                return AccountKeys(self._public, self._private, ticket)
            case _:
                return AccountKeys()
