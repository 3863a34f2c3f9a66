"""May this device take part now: is it powered, charged, idle and cool enough for its owner?

`hindrance` is a pure predicate on a reading; `read` takes the reading where Linux keeps it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

_POWER_SUPPLIES = Path("/sys/class/power_supply")
_THERMAL_ZONES = Path("/sys/class/thermal")


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
    check_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds between looks at the device, while any of these is asked for.",
        ),
    ] = 60.0

    @property
    def any(self) -> bool:
        return bool(self.charging or self.battery_min or self.load_max or self.temperature_max)


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
    return ""


def read(power: Path = _POWER_SUPPLIES, thermal: Path = _THERMAL_ZONES) -> Reading:
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    temperatures = [
        int(text) / 1000
        for zone in sorted(thermal.glob("thermal_zone*"))
        if (text := _text(zone / "temp")).lstrip("-").isdigit()
    ]
    batteries = [s for s in sorted(power.glob("*")) if _text(s / "type") == "Battery"]
    if not batteries:
        return Reading(None, None, load, max(temperatures, default=None))
    levels = [int(text) for s in batteries if (text := _text(s / "capacity")).isdigit()]
    charging = any(_text(s / "status") in ("Charging", "Full", "Not charging") for s in batteries)
    return Reading(charging, min(levels, default=None), load, max(temperatures, default=None))


def _text(path: Path) -> str:
    # Sensors come and go, and some cannot be read while the device sleeps.
    try:
        return path.read_text().strip()
    except OSError:
        return ""
