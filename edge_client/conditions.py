"""May this device take part now: is it powered, charged, idle and cool enough for its owner, and
its link free of charge?

`hindrance` is a pure predicate on a reading; `read` takes the reading where Linux keeps it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

_POWER_SUPPLIES = Path("/sys/class/power_supply")
_THERMAL_ZONES = Path("/sys/class/thermal")
_ROUTES = Path("/proc/net")
_NETWORK_LINKS = Path("/sys/class/net")
_RAW_IP = 519
"""The kernel's number for links that only modems have."""


class Conditions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner asks for. With the defaults the device is always willing."""

    charging: Annotated[
        bool, Meta(description="Only while it is plugged in. A device without a battery always is.")
    ] = False
    battery_min: Annotated[
        int, Meta(ge=0, le=100, description="Only with so many percent of battery; 0 does not ask.")
    ] = 0
    load_max: Annotated[
        float,
        Meta(ge=0, description="Only below this load per core (1-minute average); 0 does not ask."),
    ] = 0.0
    temperature_max: Annotated[
        float, Meta(ge=0, description="Only below so many degrees Celsius; 0 does not ask.")
    ] = 0.0
    unmetered: Annotated[
        bool,
        Meta(
            description="Only while the default route goes over a link that is not paid for by\n"
            "the megabyte: no mobile modem, and none of `metered_links`."
        ),
    ] = False
    metered_links: Annotated[
        tuple[str, ...],
        Meta(
            description="Network interfaces that are paid for by the megabyte though they are no\n"
            "modem of this device, such as wlan0 where that is the hotspot of a phone."
        ),
    ] = ()
    check_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds between looks at the device, while any of these is asked for.",
        ),
    ] = 60.0

    @property
    def any(self) -> bool:
        return bool(
            self.charging
            or self.battery_min
            or self.load_max
            or self.temperature_max
            or self.unmetered
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device says of itself; None where it has no such thing."""

    charging: bool | None = None
    battery: int | None = None
    """Percent."""
    load: float | None = None
    """Runnable processes per core, averaged over a minute."""
    temperature: float | None = None
    """Degrees Celsius, of the hottest sensor."""
    metered: bool | None = None
    """Whether a default route goes over a mobile modem."""
    links: tuple[str, ...] = ()
    """The interfaces of the default routes."""


def hindrance(conditions: Conditions, reading: Reading) -> str:
    """Why the device may not take part, for its owner to read; empty when it may."""
    if conditions.charging and reading.charging is False:
        return "not charging"
    if reading.battery is not None and reading.battery < conditions.battery_min:
        return f"battery at {reading.battery}%, below {conditions.battery_min}%"
    if conditions.load_max and reading.load is not None and reading.load >= conditions.load_max:
        return f"busy: load {reading.load:.2f} per core, not below {conditions.load_max:g}"
    hot = reading.temperature is not None and reading.temperature >= conditions.temperature_max
    if conditions.temperature_max and hot:
        return f"hot: {reading.temperature:.0f} °C, not below {conditions.temperature_max:g} °C"
    is_named = not set(conditions.metered_links).isdisjoint(reading.links)
    if conditions.unmetered and (reading.metered or is_named):
        return "on a metered link"
    return ""


def read(
    power: Path = _POWER_SUPPLIES,
    thermal: Path = _THERMAL_ZONES,
    routes: Path = _ROUTES,
    network: Path = _NETWORK_LINKS,
) -> Reading:
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    zones = thermal.glob("thermal_zone*")
    hottest = max((n for zone in zones if (n := _number(zone / "temp")) is not None), default=None)
    temperature = None if hottest is None else hottest / 1000
    links = _default_links(routes)
    metered = any(_is_modem(network / link) for link in links) if links else None
    # Scope "Device" is the battery of a mouse or a headset.
    supplies = [s for s in power.glob("*") if _text(s / "scope") != "Device"]
    batteries = [s for s in supplies if _text(s / "type") == "Battery"]
    if not batteries:
        return Reading(None, None, load, temperature, metered, links)
    levels = [n for battery in batteries if (n := _number(battery / "capacity")) is not None]
    is_powered, level = any(map(_is_powered, supplies)), min(levels, default=None)
    return Reading(is_powered, level, load, temperature, metered, links)


def _is_powered(supply: Path) -> bool:
    if _text(supply / "type") == "Battery":
        # "Not charging": plugged in, and held below full to make the battery last.
        return _text(supply / "status") in ("Charging", "Full", "Not charging")
    return _number(supply / "online") == 1


def _default_links(routes: Path) -> tuple[str, ...]:
    """Over which what is not near goes out: by IPv4, and by IPv6. Of several, the preferred."""
    rows = [line.split() for line in _text(routes / "route").splitlines()[1:]]
    four = [(int(row[6]), row[0]) for row in rows if row[1] == row[7] == "0" * 8]
    rows = [line.split() for line in _text(routes / "ipv6_route").splitlines()]
    # "lo" stands for: there is none.
    is_default = (row for row in rows if row[:2] == ["0" * 32, "00"] and row[9] != "lo")
    six = [(int(row[5], 16), row[9]) for row in is_default]
    return tuple(sorted({min(found)[1] for found in (four, six) if found}))


def _is_modem(link: Path) -> bool:
    return "DEVTYPE=wwan" in _text(link / "uevent") or _number(link / "type") == _RAW_IP


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    # Sensors come and go, and some cannot be read while the device sleeps.
    try:
        return path.read_text().strip()
    except OSError:
        return ""
