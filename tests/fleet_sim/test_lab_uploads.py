"""Large answers in the lab come by the coordinator's own slots, each client's for itself."""

import math
from pathlib import Path

import pytest

from coordinator.persistence.history import Record
from tests.fleet_sim.lab_fleets import fleet, large_task, learning, names

FLOATS = 300_000
"""1.2 MB, which is ten pieces."""

UPLOAD_S = 12.0
"""At 100 kB/s."""


def one_round(
    folder: Path, clients: int, transfer: str, rounds: str = "", link: str = ""
) -> Record:
    text = f"clients = {clients}\n[link]\nup = {{ kbps = 800.0 }}\n{link}"
    all_of_them = f"cohort = {clients}\nquorum = {clients}\nclients_min = {clients}\n"
    of = fleet(
        folder,
        text,
        rounds=f"count = 1\n{all_of_them}{rounds or 'deadline_s = 50000.0'}",
        task=large_task(folder, FLOATS),
        federation=f"transfer = {{ {transfer} }}",
    )
    with learning(of) as lab:
        lab.run()
        assert lab.is_finished
        return lab.records[0]


def test_answers_of_the_same_bytes_are_each_client_s_own(tmp_path: Path) -> None:
    # Everybody adds 1 to every number, for as many samples: the same bytes.
    record = one_round(tmp_path, 5, "uploads_at_once = 100")
    assert record.answered == names(5)
    assert record.duration_s == pytest.approx(UPLOAD_S + 2.1, abs=1.0)


def test_so_many_send_at_once_and_the_others_wait_for_a_slot(tmp_path: Path) -> None:
    took_s = {}
    for at_once in (1, 4, 100):
        record = one_round(tmp_path, 16, f"uploads_at_once = {at_once}")
        assert record.answered == sorted(names(16))
        took_s[at_once] = record.duration_s - 2.1
    # An upload's turn is 10 of its 12 s: then it makes place, and goes on all the same.
    assert took_s[100] == pytest.approx(UPLOAD_S, abs=1.0)
    assert took_s[4] == pytest.approx(3 * 10 + UPLOAD_S, abs=8.0)
    assert took_s[1] == pytest.approx(15 * 10 + UPLOAD_S, abs=30.0)


def test_who_vanishes_while_it_sends_keeps_its_slot_for_as_long_as_is_waited(
    tmp_path: Path,
) -> None:
    # The first to send, for a second and a half, is gone for good in the middle of it.
    text = (
        'clients = 2\n[link]\nup = { kbps = 6400.0 }\n[connectivity]\nkind = "scripted"\n'
        "[[connectivity.settings.events]]\nat = 3.0\nleave = 0.5\n"
    )
    rounds = "count = 1\ncohort = 2\nquorum = 1\nclients_min = 2\naway_grace_s = 0.0\n"
    task = large_task(tmp_path, FLOATS)
    took_s = {}
    for stall_s in (0.5, 5.0):
        for seed in range(1, 30):
            of = fleet(
                tmp_path,
                f"seed = {seed}\n{text}",
                rounds=f"{rounds}deadline_s = 500.0",
                task=task,
                federation=f"transfer = {{ uploads_at_once = 1, stall_s = {stall_s} }}",
            )
            crew = of.crew(names(2))
            if [next(crew[n].online())[1] for n in range(2)] == [3.0, math.inf]:
                break
        else:
            raise AssertionError("no seed lets the first leave, and not the second")
        with learning(of) as lab:
            lab.run()
            assert lab.records[0].answered == ["client-1"]
            took_s[stall_s] = lab.records[0].duration_s
    # Asked in vain four times, every half second; or its turn of 10 s is over.
    assert took_s[0.5] == pytest.approx(3.0 + 4 * 0.5 + UPLOAD_S / 8, abs=0.8)
    assert took_s[5.0] == pytest.approx(2.1 + 10.0 + UPLOAD_S / 8, abs=0.8)
