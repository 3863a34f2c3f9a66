"""Who is barred because it was revoked, and what brings it back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.intake.revoked_devices import RevokedDevices
from fedmqtt import revocations, signing
from fedmqtt.revocations import Revocations
from fedmqtt.topics import ClientId

PI_3, PI_4 = ClientId("pi-3"), ClientId("pi-4")
KEYS = [signing.public_key(signing.new_key()) for _ in range(3)]

Revoke = Callable[[list[tuple[str, str]], list[str]], None]


@pytest.fixture
def told() -> list[ClientId]:
    return []


@pytest.fixture
def revoke(tmp_path: Path) -> Revoke:
    """Write the list: of keys and names, and the names that are enrolled again."""

    def write(keys: list[tuple[str, str]], enrolled: list[str]) -> None:
        (tmp_path / "revoked").write_text(revocations.render(keys, enrolled))

    write([], [])
    return write


@pytest.fixture
def devices(tmp_path: Path, revoke: Revoke, told: list[ClientId]) -> RevokedDevices:
    return RevokedDevices(Revocations(tmp_path / "revoked"), told.append)


def test_who_is_revoked_is_barred_until_it_is_enrolled_again(
    devices: RevokedDevices, revoke: Revoke, told: list[ClientId]
) -> None:
    devices.poll()
    assert (devices.barred, told) == ([], [])
    revoke([(KEYS[0], PI_3)], [])
    devices.poll()
    assert (devices.barred, told) == ([PI_3], [PI_3])
    revoke([(KEYS[0], PI_3), (KEYS[1], PI_4)], [PI_3])
    devices.poll()
    assert (devices.barred, told) == ([PI_4], [PI_3, PI_3, PI_4])
    devices.poll()
    assert told == [PI_3, PI_3, PI_4]


def test_it_is_tried_again_until_it_signs_by_a_revoked_key(
    devices: RevokedDevices, revoke: Revoke, told: list[ClientId]
) -> None:
    """By a list that was not copied since, nobody knows that it is enrolled again."""
    revoke([(KEYS[0], PI_3)], [])
    devices.poll()
    devices.try_again(PI_3)
    assert not devices.is_barred(PI_3)
    devices.poll()
    assert not devices.is_barred(PI_3)
    devices.signed_by_revoked_key(PI_3)
    assert devices.is_barred(PI_3)
    assert told == [PI_3] * 3


def test_a_change_of_the_list_ends_all_tries(devices: RevokedDevices, revoke: Revoke) -> None:
    revoke([(KEYS[0], PI_3)], [])
    devices.poll()
    devices.try_again(PI_3)
    revoke([(KEYS[0], PI_3), (KEYS[1], PI_4)], [])
    devices.poll()
    assert devices.barred == [PI_3, PI_4]


def test_an_old_message_does_not_bar_who_is_enrolled_again(
    devices: RevokedDevices, revoke: Revoke, told: list[ClientId]
) -> None:
    """A broker can say again what was signed by the key of before."""
    revoke([(KEYS[0], PI_3)], [PI_3])
    devices.signed_by_revoked_key(PI_3)
    assert (devices.barred, told) == ([], [])


def test_without_a_list_nobody_is_barred(told: list[ClientId]) -> None:
    devices = RevokedDevices(None, told.append)
    devices.poll()
    devices.signed_by_revoked_key(PI_3)
    devices.try_again(PI_3)
    assert (devices.barred, told) == ([], [])
