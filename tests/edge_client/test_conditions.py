"""May the device take part: what it says of itself, and what its owner asked for."""

from pathlib import Path

import pytest

from edge_client.conditions import Conditions, Reading, hindrance, read


def _device(folder: Path, *supplies: dict[str, str], temperatures: tuple[str, ...] = ()) -> Reading:
    """A reading of a made-up /sys: each supply's files, and a zone for each temperature."""
    power, thermal = folder / "power_supply", folder / "thermal"
    for number, files in enumerate(supplies):
        _write(power / f"supply{number}", files)
    for number, text in enumerate(temperatures):
        _write(thermal / f"thermal_zone{number}", {"temp": text})
    return read(power, thermal)


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def _battery(status: str, capacity: str = "80", **more: str) -> dict[str, str]:
    return {"type": "Battery", "status": status, "capacity": capacity, **more}


def _mains(online: str) -> dict[str, str]:
    return {"type": "Mains", "online": online}


# What is read


def test_a_device_without_sensors_says_nothing_of_them(tmp_path: Path) -> None:
    reading = _device(tmp_path)
    assert (reading.charging, reading.battery, reading.temperature) == (None, None, None)
    assert reading.load is not None and reading.load >= 0


@pytest.mark.parametrize(
    ("status", "charging"),
    [("Charging", True), ("Full", True), ("Not charging", True), ("Discharging", False)],
)
def test_a_phone_on_its_battery(tmp_path: Path, status: str, charging: bool) -> None:
    reading = _device(tmp_path, _battery(status, "42"))
    assert (reading.charging, reading.battery) == (charging, 42)


def test_a_laptop_is_powered_by_its_mains_whatever_the_battery_says(tmp_path: Path) -> None:
    assert _device(tmp_path, _battery("Unknown"), _mains("1")).charging is True


def test_a_laptop_unplugged(tmp_path: Path) -> None:
    assert _device(tmp_path, _battery("Discharging"), _mains("0")).charging is False


def test_of_two_batteries_the_emptier_counts(tmp_path: Path) -> None:
    reading = _device(tmp_path, _battery("Discharging", "90"), _battery("Discharging", "15"))
    assert reading.battery == 15


def test_a_mouse_is_not_the_device(tmp_path: Path) -> None:
    mouse = _battery("Charging", "3", scope="Device")
    assert _device(tmp_path / "pi", mouse, _mains("1")).battery is None
    reading = _device(tmp_path / "laptop", mouse, _battery("Discharging", "60", scope="System"))
    assert (reading.charging, reading.battery) == (False, 60)


def test_the_hottest_sensor_counts_and_broken_ones_do_not(tmp_path: Path) -> None:
    zones = ("41500", "66000", "", "--5", "off", "-274000")
    assert _device(tmp_path, temperatures=zones).temperature == 66.0


def test_a_battery_that_does_not_say_how_full_it_is(tmp_path: Path) -> None:
    reading = _device(tmp_path, _battery("Discharging", "unknown"))
    assert (reading.charging, reading.battery) == (False, None)


_FOUR_HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
_ZERO = "0" * 32


def _four(link: str, metric: int, destination: str = "00000000") -> str:
    mask = "00000000" if destination == "00000000" else "00FFFFFF"
    return f"{link} {destination} 0102A8C0 0003 0 0 {metric} {mask} 0 0 0"


def _six(link: str, metric: int, destination: str = _ZERO, length: str = "00") -> str:
    rest = f"{metric:08x} 00000003 00000000 00000003 {link}"
    return f"{destination} {length} {_ZERO} 00 {_ZERO} {rest}"


def _networked(folder: Path, four: list[str], six: list[str], **uevents: str) -> Reading:
    """With these routes, and modems and other links as the kernel tells of them."""
    routes, network = folder / "proc", folder / "net"
    _write(routes, {"route": "\n".join([_FOUR_HEAD, *four]), "ipv6_route": "\n".join(six)})
    for link, uevent in uevents.items():
        _write(network / link, {"uevent": f"{uevent}INTERFACE={link}", "type": "1"})
    return read(folder, folder, routes, network)


_LINKS = {"wlan0": "DEVTYPE=wlan\n", "wwan0": "DEVTYPE=wwan\n", "eth0": ""}


@pytest.mark.parametrize(
    ("four", "six", "links", "metered"),
    [
        ([_four("eth0", 100)], [], ("eth0",), False),
        # The modem waits until the Wi-Fi is gone.
        ([_four("wwan0", 700), _four("wlan0", 600)], [], ("wlan0",), False),
        ([_four("wwan0", 700)], [_six("wwan0", 1024)], ("wwan0",), True),
        # Much is sent by IPv6 where there is any.
        ([_four("wlan0", 600)], [_six("wwan0", 1024)], ("wlan0", "wwan0"), True),
        # Its own network is there, and no way out of it.
        ([_four("wwan0", 0, "0002A8C0")], [_six("wwan0", 256, "fe8" + "0" * 29, "40")], (), None),
        ([], [_six("lo", 0xFFFFFFFF)], (), None),
    ],
)
def test_a_link_is_metered_while_the_way_out_is_a_modem(
    tmp_path: Path, four: list[str], six: list[str], links: tuple[str, ...], metered: bool | None
) -> None:
    reading = _networked(tmp_path, four, six, **_LINKS)
    assert (reading.links, reading.metered) == (links, metered)


def test_a_modem_that_calls_itself_a_network_card_is_one(tmp_path: Path) -> None:
    _write(tmp_path / "net" / "rmnet0", {"type": "519"})
    assert _networked(tmp_path, [_four("rmnet0", 0)], []).metered is True


def test_the_owner_names_what_else_is_metered() -> None:
    asked = Conditions(unmetered=True, metered_links=("usb0", "wlan0"))
    assert hindrance(asked, Reading(metered=False, links=("wlan0",))) == "on a metered link"
    assert hindrance(asked, Reading(metered=False, links=("eth0",))) == ""
    assert hindrance(asked, Reading(metered=True, links=("eth0",))) == "on a metered link"


# What is asked for

EVERYTHING = Conditions(
    charging=True, battery_min=20, load_max=0.5, temperature_max=60, unmetered=True
)
GOOD = Reading(charging=True, battery=20, load=0.49, temperature=59.9)


@pytest.mark.parametrize(
    ("reading", "why_not"),
    [
        (GOOD, ""),
        (Reading(False, 20, 0.49, 59.9), "not charging"),
        (Reading(True, 19, 0.49, 59.9), "battery at 19%, below 20%"),
        (Reading(True, 20, 0.5, 59.9), "busy: load 0.50 per core, not below 0.5"),
        (Reading(True, 20, 0.49, 60.0), "hot: 60 °C, not below 60 °C"),
        (Reading(True, 20, 0.49, 59.9, True), "on a metered link"),
        (Reading(True, 20, 0.49, 59.9, False, ("eth0",)), ""),
        (Reading(), ""),
    ],
)
def test_each_condition_is_a_reason_of_its_own(reading: Reading, why_not: str) -> None:
    assert hindrance(EVERYTHING, reading) == why_not


def test_nothing_is_asked_for_by_default() -> None:
    assert not Conditions().any
    assert hindrance(Conditions(), Reading(False, 0, 99.0, 99.0, True)) == ""


@pytest.mark.parametrize(
    "asked",
    [
        Conditions(charging=True),
        Conditions(battery_min=1),
        Conditions(load_max=0.1),
        Conditions(temperature_max=1),
        Conditions(unmetered=True),
    ],
)
def test_one_condition_is_enough_to_look_at_the_device(asked: Conditions) -> None:
    assert asked.any
