"""What is named by the memory is never written over, whenever the program ends."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from coordinator.client_store import ClientStore, StoreDamaged
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT = ClientId("ann"), ClientId("bob"), ClientId("c" * 64)
SIZE = 5


def rounds(of: Mapping[ClientId, int]) -> dict[ClientId, RoundId]:
    return {client: RoundId(number) for client, number in of.items()}


def opened(path: Path | None, named: Mapping[ClientId, int]) -> ClientStore:
    store = ClientStore(path, SIZE)
    store.begin(rounds(named))
    return store


def put(store: ClientStore, client: ClientId, number: int, value: int) -> None:
    store.put(client, RoundId(number), np.full(SIZE, value, np.int32))


def value(store: ClientStore, client: ClientId) -> int | None:
    found = store.before(client)
    if found is None:
        return None
    (number,) = set(found.tolist())
    return int(number)


def test_what_was_put_is_there_in_the_next_life(tmp_path: Path) -> None:
    store = opened(tmp_path / "clients", {})
    assert value(store, ANN) is None and ANN not in store
    put(store, ANN, 1, -7)
    put(store, CAT, 1, 2**31 - 1)
    assert value(store, ANN) is None and ANN in store
    store.force()
    again = opened(tmp_path / "clients", {ANN: 1, CAT: 1})
    assert (value(again, ANN), value(again, CAT)) == (-7, 2**31 - 1)


def test_a_round_that_came_to_nothing_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "clients", {})
    put(store, ANN, 1, 1)
    store.begin(rounds({ANN: 1}))
    for _ in range(3):
        put(store, ANN, 2, 2)
        assert value(store, ANN) == 1
        now = store.now(ANN)
        assert now is not None and now[0] == 2
        # Killed, or the round kept its model.
        store = opened(tmp_path / "clients", {ANN: 1})
        assert value(store, ANN) == 1


def test_of_a_round_that_was_folded_twice_the_second_time_counts(tmp_path: Path) -> None:
    store = opened(tmp_path / "clients", {})
    put(store, ANN, 1, 1)
    put(store, BOB, 1, 1)
    store = opened(tmp_path / "clients", {})
    put(store, BOB, 1, 2)
    put(store, ANN, 1, 2)
    store = opened(tmp_path / "clients", {ANN: 1, BOB: 1})
    assert (value(store, ANN), value(store, BOB)) == (2, 2)


def test_room_that_is_free_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    store = opened(path, {})
    for number in range(1, 30):
        put(store, ANN, number, number)
        put(store, BOB, number, number)
        store.begin(rounds({ANN: number, BOB: number}))
    slots = path.stat().st_size // (96 + 4 * SIZE)
    assert slots == 4
    # Bob is forgotten.
    store.begin(rounds({ANN: 29}))
    for number in range(30, 60):
        put(store, ANN, number, number)
        store.begin(rounds({ANN: number}))
    assert path.stat().st_size // (96 + 4 * SIZE) == 4 and value(store, ANN) == 59


def test_a_bit_that_has_flipped_is_found(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    put(opened(path, {}), ANN, 1, 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="ann"):
        opened(path, {ANN: 1}).before(ANN)


def test_half_a_slot_at_the_end_is_nobody_s(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    store = opened(path, {})
    put(store, ANN, 1, 1)
    put(store, BOB, 1, 2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    again = opened(path, {ANN: 1, BOB: 1})
    assert value(again, ANN) == 1 and BOB not in again


def test_one_without_a_name_is_gone_with_its_owner() -> None:
    store = opened(None, {})
    put(store, ANN, 1, 1)
    store.begin(rounds({ANN: 1}))
    assert value(store, ANN) == 1
