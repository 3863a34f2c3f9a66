"""What is named by the memory is never written over, whenever the program ends."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from coordinator.sums.client_store import ClientStore, StoreDamaged
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
    again = opened(path, {ANN: 1})
    assert value(again, ANN) == 1 and BOB not in again


def test_what_is_named_and_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    put(opened(path, {}), ANN, 1, 1)
    wanted = f"{path}: what bob gave is not there any more, nor what 1 others did"
    with pytest.raises(StoreDamaged, match=wanted):
        opened(path, {ANN: 1, BOB: 1, CAT: 1})
    with pytest.raises(StoreDamaged, match="what ann gave is not there"):
        opened(path, {ANN: 2})


def test_an_earlier_one_is_kept_for_as_long_as_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    store = opened(path, {})
    put(store, ANN, 1, 1)
    store.begin(rounds({ANN: 1}))
    put(store, ANN, 2, 2)
    for one in (store, again := ClientStore(path, SIZE)):
        for number in range(3, 6):
            one.begin(rounds({ANN: 2}), rounds({ANN: 1}))
            put(one, BOB, number, number)
            earlier = one.earlier(ANN)
            assert earlier is not None and earlier.tolist() == [1] * SIZE
            assert value(one, ANN) == 2
    again.begin(rounds({ANN: 2}))
    assert again.earlier(ANN) is None


def test_its_name_is_forced_to_the_disk_with_what_each_life_puts_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clients"
    store = opened(path, {})
    put(store, ANN, 1, 1)
    forced = forced_by(store.force, monkeypatch)
    assert forced == [path, tmp_path]
    # Once it is there it is there.
    assert forced_by(store.force, monkeypatch) == [path]
    # The program may have been killed before that.
    assert forced_by(opened(path, {ANN: 1}).force, monkeypatch) == [path, tmp_path]


def forced_by(force: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    fsync = os.fsync
    forced: list[Path] = []

    def watched(file: int) -> None:
        fsync(file)
        forced.append(Path(f"/proc/self/fd/{file}").readlink())

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", watched)
        force()
    return forced


def test_one_without_a_name_is_gone_with_its_owner() -> None:
    store = opened(None, {})
    put(store, ANN, 1, 1)
    store.begin(rounds({ANN: 1}))
    assert value(store, ANN) == 1
