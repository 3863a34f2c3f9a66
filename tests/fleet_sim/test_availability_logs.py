"""A person's own availability log: what is understood, and what is said of what is not."""

import math
import os
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmqtt.settings import SettingsError
from fleet_sim.connectivity import trace
from fleet_sim.intervals import DAY_S, Interval, share, within

HOUR = 3600.0
MONDAY = "2026-03-02"


def prepare(folder: Path, text: str, fleet: int = 3, **values: Any) -> trace.Trace:
    (folder / "log.csv").write_text(text)
    return trace.prepare(trace.Settings(file="log.csv", **values), folder, fleet, 0.0)


def mistake(folder: Path, text: str, **values: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        prepare(folder, text, **values)
    return str(refused.value).replace(f"{folder}/", "")


def test_intervals_are_sorted_joined_and_told_from_the_first_midnight(tmp_path: Path) -> None:
    rows = ["180000,190000", "90000,100000", "95000,100500", "99000,99000", "100500,110000"]
    found = prepare(tmp_path, "client,from_s,until_s\nann," + "\nann,".join(rows))
    assert [list(one) for one in found.clients] == [[(3600.0, 23_600.0), (93_600.0, 103_600.0)]]


@pytest.mark.parametrize(
    "text",
    [
        "client,from_s,until_s\nann,0,3600\nbob,,\n",
        "# of my flat\nUser;End;Begin;room\n\nann;3600;0;kitchen\nbob;;;hall\n",
        "\ufeffdevice\tstop\tstart_s\nann\t3600\t0\nbob\t\t\n",
        f"id,from,until\nann,{MONDAY}T00:00:00,{MONDAY} 01:00\nbob,,\n",
        f"id,from,until\nann,{MONDAY}T00:00:00+02:00,{MONDAY}T01:00:00+02:00\nbob,,\n",
        f"id,from,until\nann,{MONDAY}T00:00:00+02:00,2026-03-01T23:00:00Z\nbob,,\n",
    ],
)
def test_a_log_may_be_written_in_many_ways(tmp_path: Path, text: str) -> None:
    found = prepare(tmp_path, text)
    assert [list(one) for one in found.clients] == [[], [(0.0, HOUR)]]
    assert found.days == 1


def test_an_archive_says_the_same(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "log.npz",
        interval_client=np.array([2, 0], np.int16),
        interval_start_s=np.array([7200, 0]),
        interval_end_s=np.array([9000, 3600]),
        available=np.zeros((4, 3), np.int8),
    )
    found = trace.prepare(trace.Settings(file="log.npz"), tmp_path, 3, 0.0)
    assert [list(one) for one in found.clients] == [[], [(7200.0, 9000.0)], [(0.0, HOUR)]]


def test_a_rank_is_how_available_a_client_is(tmp_path: Path) -> None:
    found = prepare(
        tmp_path, "client,from,until\nann,0,3000\nbob,0,1000\ncat,0,2000\n", after="end"
    )
    ends = [next(trace.online(found, rank, Random(1)))[1] for rank in (0.1, 0.5, 0.9)]
    assert ends == [1000, 2000, 3000]


def test_clients_that_the_log_does_not_name_stay_away(tmp_path: Path) -> None:
    found = prepare(tmp_path, "client,from,until\nann,0,3000\n", fleet=4, clients=4)
    online = [list(islice(trace.online(found, (n + 0.5) / 4, Random(n)), 1)) for n in range(4)]
    assert online == [[], [], [], [(0.0, 3000.0)]]


def test_a_log_begins_again_as_days_end_or_not_at_all(tmp_path: Path) -> None:
    text = "client,from,until\nann,0,3600\nann,82800,86400\n"
    looped = list(islice(trace.online(prepare(tmp_path, text, fleet=1), 0.5, Random(1)), 3))
    assert looped == [(0, HOUR), (23 * HOUR, 25 * HOUR), (47 * HOUR, 49 * HOUR)]
    ended = list(trace.online(prepare(tmp_path, text, fleet=1, after="end"), 0.5, Random(1)))
    assert ended == [(0, HOUR), (23 * HOUR, 24 * HOUR)]
    longer = list(islice(trace.online(prepare(tmp_path, text, fleet=1, days=2), 0.5, Random(1)), 3))
    assert longer == [(0, HOUR), (23 * HOUR, 24 * HOUR), (48 * HOUR, 49 * HOUR)]


def test_who_never_left_never_leaves(tmp_path: Path) -> None:
    found = prepare(tmp_path, "client,from,until\nann,0,86400\n")
    assert list(trace.online(found, 0.0, Random(1))) == [(0.0, math.inf)]


@pytest.mark.timeout(20)
def test_who_never_left_never_leaves_as_whose_ever_sharer(tmp_path: Path) -> None:
    found = prepare(tmp_path, "client,from,until\nann,0,86400\n", fleet=20)
    for place in range(20):
        lived = list(trace.online(found, (place + 0.5) / 20, Random(place)))
        assert lived == [(0.0, math.inf)]


def test_those_who_share_a_trace_live_it_whole_days_apart(tmp_path: Path) -> None:
    text = "client,from,until\n" + "".join(
        f"ann,{day * DAY_S + 3600},{day * DAY_S + 3600 + 60 * (day + 1)}\n" for day in range(7)
    )
    found = prepare(tmp_path, text, fleet=20, jitter_h=0.5)
    lived = [
        tuple(within(trace.online(found, (n + 0.5) / 20, Random(n)), 7 * DAY_S)) for n in range(20)
    ]
    assert lived[0] == tuple(
        (day * DAY_S + 3600, day * DAY_S + 3660 + 60 * day) for day in range(7)
    )
    # No two alike: on seven days at the same hour, and those beyond at another too.
    assert len(set(lived)) == 20
    for one in lived[:7]:
        assert all(begin % DAY_S == 3600 for begin, _ in one)
    for one in lived[7:]:
        assert all(abs(begin % DAY_S - 3600) <= 1800 for begin, _ in one)
    for one in lived:
        lengths = sorted(end - begin for begin, end in one)
        assert lengths == pytest.approx([60.0 * n for n in range(1, 8)])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(1, 60)), min_size=1),
    st.integers(0, 11),
    st.integers(1, 12),
    st.integers(0, 1000),
)
def test_whatever_the_log_a_client_lives_as_much_of_it(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, int]],
    place: int,
    clients: int,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    lines = [
        f"c{client},{begin * HOUR},{(begin + length) * HOUR}" for client, begin, length in rows
    ]
    text = "client,from,until\n" + "\n".join(lines)
    found = prepare(folder, text, fleet=clients, days=12)
    rank = (place % clients + 0.5) / clients
    lived: list[Interval] = list(within(trace.online(found, rank, Random(seed)), 12 * DAY_S))
    own = found.clients[min(int(rank * len(found.clients)), len(found.clients) - 1)]
    assert share(lived, 12 * DAY_S) == pytest.approx(share(own, 12 * DAY_S))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "file: log.csv: empty; write a first line client,from_s,until_s and rows below it"),
        ("client,from,until\n", "file: log.csv: no rows below its first line"),
        (
            "client,from,until\nann,5,5\n",
            "file: log.csv: nobody in it is online for longer than no time",
        ),
        (
            'client,from,until\nann,0,5\n"bob,0,5\ncat,0,5\n',
            "file: log.csv, line 3: unexpected end of data; a text in quotation marks has to end in"
            " its line",
        ),
        (
            "client,from\nann,0\n",
            "file: log.csv: no column until_s (or until, end, end_s, stop);"
            " its first line names client, from",
        ),
        (
            "client,from,until\nann,0,10\nann,20\n",
            "file: log.csv, line 3: 2 values, but the first line names more columns",
        ),
        (
            "client,from,until\n# so\nann,10,0\n",
            "file: log.csv, line 3: until_s (0) is before from_s (10);"
            " an interval has to end after it begins",
        ),
        (
            "client,from,until\nann,noon,1\n",
            "file: log.csv, line 2: from_s is 'noon';"
            " write seconds, or a time such as 2026-03-02T22:10:00",
        ),
        (
            "client,from,until\nann,0,inf\n",
            "file: log.csv, line 2: until_s is 'inf';"
            " write seconds, or a time such as 2026-03-02T22:10:00",
        ),
        (
            f"client,from,until\nann,0,1\nann,{MONDAY}T00:00,2\n",
            "file: log.csv, line 3: times without a time zone, but seconds in the lines before;"
            " write all in one way",
        ),
        (
            f"client,from,until\nann,{MONDAY}T00:00,{MONDAY}T01:00Z\n",
            "file: log.csv, line 2: times with a time zone, but times without a time zone in the"
            " lines before; write all in one way",
        ),
        (
            "client,from,until\n,0,1\n",
            "file: log.csv, line 2: no client is named; write its name in the first column",
        ),
        (
            "client,from,until\nann,,\n",
            "file: log.csv: nobody in it is ever online; write an interval a line",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_what_to_do(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert mistake(tmp_path, text) == sentence


def test_a_mistake_in_what_is_said_of_the_log_is_told_with_its_key(tmp_path: Path) -> None:
    text = "client,from,until\nann,0,1\nbob,172800,172900\ncat,172800,172900\n"
    assert mistake(tmp_path, text, clients=2) == (
        "clients: the log is of 2 clients, but log.csv names 3; give at least as many, or 0"
    )
    with pytest.raises(SettingsError) as refused:
        trace.prepare(trace.Settings(), tmp_path, 3, 0.0)
    assert str(refused.value) == (
        "file: which log? Give the path of a CSV file or of an npz archive"
    )
    with pytest.raises(SettingsError) as refused:
        trace.prepare(trace.Settings(file="no.csv"), tmp_path, 3, 0.0)
    assert str(refused.value) == (
        f"file: {tmp_path}/no.csv: no such file;"
        " write its path from the folder of the fleet's file, or in full"
    )


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.npz"

    def said() -> str:
        with pytest.raises(SettingsError) as refused:
            trace.prepare(trace.Settings(file="log.npz"), tmp_path, 3, 0.0)
        return str(refused.value)

    def save(ends: NDArray[Any]) -> None:
        zero, five = np.array([0]), np.array([5])
        np.savez(path, interval_client=zero, interval_start_s=five, interval_end_s=ends)

    np.savez(path, interval_client=np.array([0]), other=np.array([1]))
    assert said() == (
        f"file: {path}: no array 'interval_start_s'; it needs interval_client, interval_start_s,"
        " interval_end_s, and has interval_client, other"
    )
    save(np.array([1]))
    assert said() == f"file: {path}: interval 0 goes from 5 to 1; it has to end after it begins"
    save(np.array([1, 2]))
    assert said().endswith("(1,), (1,), (2,); each needs one number for each interval")
    save(np.array(["6"]))
    assert said() == f"file: {path}: interval_end_s holds <U1; it needs numbers"
    # Objects would be unpickled, and unpickling runs the sender's code.
    save(np.array([{}], object))
    assert said().startswith(f"file: {path}: not an npz archive of plain arrays (")
    path.write_bytes(b"not at all")
    assert said().startswith(f"file: {path}: not an npz archive")


def test_the_recorded_phones_are_as_available_as_published() -> None:
    folder = os.environ.get("FEDMQTT_DATA")
    if folder is None:
        pytest.skip("FEDMQTT_DATA names no folder with traces/availability_flash723.npz")
    settings = trace.Settings(file="traces/availability_flash723.npz")
    found = trace.prepare(settings, Path(folder), 723, 0.0)
    assert (len(found.clients), found.days) == (723, 5)
    shares = [share(trace.online(found, (n + 0.5) / 723, Random(n)), 5 * DAY_S) for n in range(723)]
    assert shares == sorted(shares)
    assert shares.count(0.0) == 211
    # Of the known points 0.0812 are available; here, what is not known counts as not available.
    assert 0.05 < sum(shares) / 723 < 0.0812
