"""Uniform selection."""

from random import Random

from coordinator.selection import uniform
from fedmqtt.topics import ClientId

FLEET = [ClientId(f"c{number:02}") for number in range(20)]


def test_everyone_has_as_many_turns() -> None:
    chance, settings = Random("uniform"), uniform.Settings()
    turns = [
        client for _ in range(1000) for client in uniform.select(FLEET, 5, chance, {}, settings)
    ]
    # 250 each on average; a fair draw stays far from these bounds.
    assert all(180 < turns.count(client) < 320 for client in FLEET)
