"""Is this machine's clock right?

MQTT has no clock. What can be known: a certificate holds by it, the coordinator's status page was
not written in the future, and the system says whether it asks others what time it is.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok
from fedmqtt import unreadable
from fedmqtt.topics import StatusPage

NEEDS = ("login",)
AFTER = ("encryption",)

_SLACK = timedelta(seconds=5)
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
"""Made by systemd-timesyncd once a server has told it the time."""


class _Opened(msgspec.Struct):
    opened: datetime | None = None


def check(case: Case) -> Finding:
    known = []
    opened = _round_opened_at(case) if case.role != "device" else None
    if opened is not None:
        behind = opened - datetime.now(UTC)
        if behind > _SLACK:
            return failed(
                f"behind the coordinator's by {behind.total_seconds():.0f} s at least",
                "Nothing of a federation goes by a device's clock but certificates: a clock that is"
                " far behind takes them for not yet valid.",
                {"": "timedatectl set-ntp true, here or where the coordinator runs"},
            )
        known.append("not behind the coordinator's")
    if case.tls is not None:
        known.append("within the certificate's days")
    if _SYNCHRONISED.exists():
        known.append("the system says that it is synchronised")
    if not known:
        return not_checked("MQTT has no clock to compare with; only certificates go by it")
    return ok("; ".join(known))


def _round_opened_at(case: Case) -> datetime | None:
    with case.connected() as probe:
        page = case.retained(probe, StatusPage("round"))
    return opened_at(page or b"{}")


def opened_at(page: bytes) -> datetime | None:
    """When the round was opened of which a status page tells; None where it does not tell."""
    try:
        opened = msgspec.json.decode(page, type=_Opened).opened
    except unreadable.MESSAGE:
        return None
    return opened if opened is not None and opened.tzinfo is not None else None
