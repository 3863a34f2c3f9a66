"""Who may ask the dashboard's server for what.

A port of this machine is open to each of its users, and to each page in a browser of it. So all
that leads to the broker asks for a token, which is in the address that `fedmqtt dashboard` prints.
It stands behind a `#`, so that no browser sends it anywhere by itself.

A page of another origin is turned away by its Origin; and one whose name was made to point here
(DNS rebinding) by the Host that it asks for, which is then that name.
"""

import hmac
import ipaddress
import re
from dataclasses import dataclass

from websockets.datastructures import Headers

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[0-9]{1,5})?")
_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class Door:
    host: str
    """Where the server listens, as it was told."""
    token: str

    def fault(self, headers: Headers) -> str:
        """Why nothing is given to who asks like this; empty: it may have what needs no token."""
        host = _only(headers, "Host")
        found = _HOST.fullmatch(host)
        if found is None or not self._is_here(found[1]):
            return "this address is not one of the dashboard's"
        origin = _only(headers, "Origin")
        if "Origin" in headers and origin not in (f"http://{host}", f"https://{host}"):
            return "another origin's pages are given nothing"
        return ""

    def relay_fault(self, headers: Headers, token: str) -> str:
        """As `fault`, for a way to the broker. A browser always says which page asks for one."""
        if "Origin" not in headers:
            return "no Origin: only the dashboard's own page may use the relay"
        return self.fault(headers) or self._token_fault(token)

    def secrets_fault(self, headers: Headers) -> str:
        """As `fault`, for what the page logs in with."""
        said = _only(headers, "Authorization")
        token = said.removeprefix(_BEARER) if said.startswith(_BEARER) else ""
        return self.fault(headers) or self._token_fault(token)

    def _token_fault(self, token: str) -> str:
        if hmac.compare_digest(token.encode(), self.token.encode()):
            return ""
        return "the token is wrong: open the address that `fedmqtt dashboard` printed"

    def _is_here(self, name: str) -> bool:
        if name.lower() in ("localhost", self.host.lower()):
            return True
        try:
            # Of no name: nobody can make an address point elsewhere.
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _only(headers: Headers, name: str) -> str:
    """What it says there; empty where it says nothing, or says it twice."""
    said = headers.get_all(name)
    return said[0] if len(said) == 1 else ""
