"""Models go down the lab's links in as few bytes as those of the real programs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from coordinator.models.published_model import PublishedModel
from fedmqtt import chunks
from fleet_sim.lab import Lab
from fleet_sim.lab_broker import PACKET_BYTES
from fleet_sim.lab_tensors import Tensors
from tests.fleet_sim.lab_fleets import fleet, large_task, learning

SIZE = 25_000
ROUNDS = "count = {}\ncohort = {}\nquorum = 1\nclients_min = 1\ndeadline_s = 50000.0\n"
BESIDE = 3000
"""At most: offers and receipts of a round, to one client."""


def ran(folder: Path, codec: str, *, rounds: int, clients: int = 1, more: str = "") -> Lab:
    of = fleet(
        folder,
        f"clients = {clients}\n{more}",
        rounds=ROUNDS.format(rounds, 1),
        federation=f'downlink_codec = "{codec}"\nselection = "round_robin"\n',
        task=large_task(folder, SIZE),
    )
    with learning(of) as lab:
        lab.run()
    assert lab.is_finished
    return lab


def newest(lab: Lab) -> PublishedModel:
    assert isinstance(lab.tensors, Tensors)
    return lab.tensors.published


def down(lab: Lab) -> list[int]:
    """Bytes of each round, to all clients."""
    totals = [0, *(mark.bytes_down for mark in lab.marks)]
    return [int(after - before) for before, after in pairwise(totals)]


def whole_bytes(lab: Lab) -> int:
    size = newest(lab).ref.size_bytes
    return size + PACKET_BYTES * chunks.count(size, newest(lab).ref.chunk_bytes)


def test_who_is_always_there_is_sent_a_model_once_and_then_changes(tmp_path: Path) -> None:
    lab = ran(tmp_path, "int4", rounds=5)
    first, *others = down(lab)
    delta = newest(lab).deltas[-1].ref.size_bytes
    assert whole_bytes(lab) <= first <= whole_bytes(lab) + BESIDE
    for sent in others:
        assert delta <= sent <= delta + BESIDE
    assert delta < whole_bytes(lab) / 7


def test_who_missed_rounds_is_sent_what_changed_in_each(tmp_path: Path) -> None:
    # Each of three is invited in each third round.
    lab = ran(tmp_path, "int4", rounds=9, clients=3)
    rounds = down(lab)
    delta = newest(lab).deltas[-1].ref.size_bytes
    for sent in rounds[:3]:
        assert whole_bytes(lab) <= sent <= whole_bytes(lab) + 3 * BESIDE
    for sent in rounds[3:]:
        assert 3 * delta <= sent <= 3 * delta + 3 * BESIDE


def test_who_missed_too_many_is_sent_the_model(tmp_path: Path) -> None:
    # Three deltas of a quarter of its bytes are kept.
    lab = ran(tmp_path, "int8", rounds=8, clients=4)
    assert len(newest(lab).deltas) == 3
    for sent in down(lab):
        assert whole_bytes(lab) <= sent <= whole_bytes(lab) + 4 * BESIDE


def test_a_link_that_breaks_goes_on_with_the_deltas_that_have_come(tmp_path: Path) -> None:
    # At 2 kB/s with a break each 8 s: a delta of 12.5 kB in pieces of 1 kB.
    more = "[link]\ncut_every_s = 8.0\ndown = { kbps = 16.0 }\n"
    of = fleet(
        tmp_path,
        f"clients = 3\n{more}",
        rounds=ROUNDS.format(6, 1),
        federation='downlink_codec = "int4"\nselection = "round_robin"\n'
        "transfer = { chunk_bytes = 1024 }\n",
        task=large_task(tmp_path, SIZE),
    )
    with learning(of) as lab:
        lab.run()
    assert [record.outcome for record in lab.records] == ["averaged"] * 6
    delta = newest(lab).deltas[-1].ref.size_bytes
    sent = down(lab)[-1]
    assert 3 * delta <= sent < whole_bytes(lab)


@pytest.mark.parametrize("codec", ["full", "eden"])
def test_the_model_is_the_average_of_what_clients_made_of_theirs(
    tmp_path: Path, codec: str
) -> None:
    """Each training adds 1, wherever it started."""
    lab = ran(tmp_path, codec, rounds=5)
    assert newest(lab).is_off == (codec != "full")
    assert lab.tensors is not None
    np.testing.assert_allclose(lab.tensors.flat, np.full(SIZE, 5.0), rtol=1e-6)
