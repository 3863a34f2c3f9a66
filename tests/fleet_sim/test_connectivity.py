"""Every kind of weather: intervals in order, as often online as asked, the same for a seed."""

import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import parts
from fedmqtt.settings import SettingsError, convert
from fleet_sim import connectivity
from fleet_sim.clock import stream
from fleet_sim.connectivity import diurnal, markov, scripted
from fleet_sim.intervals import DAY_S, HOUR_S, Interval, share, within

ROOT = Path(__file__).parents[2]
RANKS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**32)
LOG = "client,from_s,until_s\nann,0,3600\nann,80000,86400\nbob,7200,90000\ncat,,\n"

Kind = tuple[str, dict[str, Any]]

# Settings at the edges of what is allowed, and in between.
KINDS = st.one_of(
    st.just(("always", {})),
    st.builds(
        lambda online_s, offline_s, spread: (
            "markov",
            {"online_s": online_s, "offline_s": offline_s, "spread": spread},
        ),
        st.floats(1, 1e6),
        st.floats(1, 1e6),
        st.floats(0, 5),
    ),
    st.builds(
        lambda lasts_h, habit_h, jitter_h, skip, zones_h: (
            "diurnal",
            {
                "lasts_h": lasts_h,
                "habit_h": habit_h,
                "jitter_h": jitter_h,
                "skip": skip,
                "zones_h": zones_h,
            },
        ),
        st.floats(0.01, 24),
        st.floats(0, 6),
        st.floats(0, 6),
        st.floats(0, 0.9),
        st.floats(0, 24),
    ),
    st.builds(
        lambda after: ("trace", {"file": "log.csv", "after": after}),
        st.sampled_from(["loop", "end"]),
    ),
    st.lists(
        st.one_of(
            st.builds(
                lambda at, leave, within_s: {"at": at, "leave": leave, "within_s": within_s},
                st.integers(0, 200_000),
                st.floats(0.01, 1),
                st.sampled_from([0, 600]),
            ),
            st.builds(
                lambda leave, returns, daily: {
                    "at": "14:00",
                    "leave": leave,
                    "returns": returns,
                    "daily": daily,
                },
                st.floats(0.01, 1),
                st.sampled_from(["13:00", "15:00", "23:59"]),
                st.booleans(),
            ),
        ),
        max_size=5,
    ).map(lambda events: ("scripted", {"events": events})),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fleet")
    (place / "log.csv").write_text(LOG)
    return place


def online(
    folder: Path,
    kind: Kind,
    rank: float = 0.0,
    seed: int = 1,
    clients: int = 3,
    starts: float = 0.0,
) -> Iterator[Interval]:
    name, values = kind
    part: Any = parts.load(connectivity, name)
    prepared = part.prepare(convert(values, part.Settings, name), folder, clients, starts)
    found: Iterator[Interval] = part.online(prepared, rank, stream(seed, "online"))
    return found


# What holds for every kind


def test_every_kind_is_asked() -> None:
    assert parts.names(connectivity) == ["always", "diurnal", "markov", "scripted", "trace"]


@given(KINDS, RANKS, SEEDS)
def test_intervals_are_in_order_with_a_gap_between_any_two(
    folder: Path, kind: Kind, rank: float, seed: int
) -> None:
    found = list(islice(online(folder, kind, rank, seed), 50))
    assert all(0 <= begin < end for begin, end in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(KINDS, RANKS, SEEDS)
def test_a_seed_always_gives_the_same(folder: Path, kind: Kind, rank: float, seed: int) -> None:
    first, second = (list(islice(online(folder, kind, rank, seed), 20)) for _ in range(2))
    assert first == second


def test_no_kind_depends_on_the_hash_seed(folder: Path) -> None:
    (folder / "fleet.toml").write_text(
        'clients = 3\nfederation = { name = "f", task = "learning_tasks.phonewatch" }\n'
    )
    code = f"""
from pathlib import Path
from fleet_sim import fleet
from fleet_sim.intervals import within
for words in (["always"], ["markov"], ["diurnal"], ["scripted"], ["trace", "log.csv"]):
    set_file = [f"connectivity.settings.file={{name}}" for name in words[1:]]
    chosen = [f"connectivity.kind={{words[0]}}", *set_file, "connectivity.follows_data=0.5"]
    chosen.append("device.battery.training_h=4")
    found = fleet.read(Path({str(folder)!r}) / "fleet.toml", chosen)
    crew = found.crew(["ann", "bob", "cat"], [3.0, 1.0, 2.0])
    for one in (crew[n] for n in range(3)):
        print(list(within(one.online(), 3e5)), one.hardware.changes(0, 3e5), one.link, one.rank)
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert told[0] == told[1] and len(told[0].splitlines()) == 15


# Always


def test_always_is_always(folder: Path) -> None:
    assert list(online(folder, ("always", {}))) == [(0.0, math.inf)]


# Markov


def test_markov_is_online_as_often_and_as_long_as_asked(folder: Path) -> None:
    kind = ("markov", {"online_s": 300, "offline_s": 100})
    seen = [list(within(online(folder, kind, seed=seed), 1e6)) for seed in range(10)]
    assert mean(share(one, 1e6) for one in seen) == pytest.approx(0.75, abs=0.01)
    stretches = [end - begin for one in seen for begin, end in one[1:-1]]
    assert mean(stretches) == pytest.approx(300, rel=0.03)


def test_markov_begins_in_the_middle_of_things(folder: Path) -> None:
    kind = ("markov", {"online_s": 300, "offline_s": 100})
    begins = [next(online(folder, kind, seed=seed))[0] for seed in range(1000)]
    assert begins.count(0.0) / 1000 == pytest.approx(0.75, abs=0.05)


def test_a_higher_rank_is_online_more_often_where_there_is_a_spread() -> None:
    settings = markov.Settings(online_s=100, offline_s=100, spread=1.0)
    assert markov.means(settings, 0.5) == (100, 100)
    odds = [a / b for a, b in (markov.means(settings, rank) for rank in (0.0, 0.1, 0.8413, 0.999))]
    assert odds == sorted(odds)
    # 0.8413 is one sigma above the median.
    assert odds[2] == pytest.approx(math.e, rel=1e-3)
    alike = markov.Settings(online_s=100, offline_s=100)
    assert markov.means(alike, 0.1) == markov.means(alike, 0.9)


# Diurnal

NIGHT = {"begins": "22:00", "lasts_h": 8, "habit_h": 0, "jitter_h": 0}


def hours(intervals: Iterator[Interval], days: int) -> list[tuple[float, float]]:
    cut = within(intervals, days * DAY_S)
    return [(round(begin / HOUR_S, 6), round(end / HOUR_S, 6)) for begin, end in cut]


def test_a_night_reaches_into_the_next_day_and_one_was_under_way(folder: Path) -> None:
    assert hours(online(folder, ("diurnal", NIGHT)), 2) == [(0, 6), (22, 30), (46, 48)]


def test_a_rank_is_a_time_zone(folder: Path) -> None:
    kind = ("diurnal", NIGHT | {"zones_h": 24})
    assert hours(online(folder, kind, rank=0.5), 2) == [(10, 18), (34, 42)]
    assert hours(online(folder, kind, rank=0.25), 2) == [(4, 12), (28, 36)]


def test_weekdays_may_differ(folder: Path) -> None:
    kind = ("diurnal", NIGHT | {"by_weekday": [1, 0.5, 0, 1, 1, 1, 0.25]})
    # Sunday's ended at midnight. Monday's is whole, Tuesday's half, on Wednesday there is none.
    assert hours(online(folder, kind), 4) == [(22, 30), (46, 50), (94, 96)]


def test_who_never_unplugs_for_long_still_has_days(folder: Path) -> None:
    kind = ("diurnal", NIGHT | {"lasts_h": 24})
    assert list(islice(online(folder, kind), 2)) == [
        (0.0, 22 * HOUR_S - 60),
        (22 * HOUR_S, 46 * HOUR_S - 60),
    ]


@pytest.mark.parametrize("skip", [0.0, 0.25])
def test_diurnal_is_online_as_much_as_asked(folder: Path, skip: float) -> None:
    kind = ("diurnal", {"lasts_h": 6, "habit_h": 1, "jitter_h": 0.5, "skip": skip})
    seen = [share(online(folder, kind, seed=seed), 200 * DAY_S) for seed in range(20)]
    assert mean(seen) == pytest.approx(0.25 * (1 - skip), abs=0.01)


def test_days_differ_by_the_jitter_and_clients_by_the_habit() -> None:
    settings = diurnal.Settings(habit_h=2, jitter_h=0.1, lasts_h=4)
    seen = []
    for seed in range(200):
        clock = [
            begin % DAY_S / HOUR_S
            for begin, _ in islice(diurnal.online(settings, 0.0, Random(seed)), 1, 4)
        ]
        # Around midnight: on a clock that begins at noon.
        clock = [(hour + 12) % 24 for hour in clock]
        assert max(clock) - min(clock) < 1
        seen.append(clock[0])
    assert mean((hour - mean(seen)) ** 2 for hour in seen) == pytest.approx(4, rel=0.3)


# Scripted


def at_hour(
    folder: Path, events: list[dict[str, Any]], hour: float, clients: int = 100
) -> list[int]:
    """The clients that are online then."""
    moment = hour * HOUR_S
    kind = ("scripted", {"events": events})
    return [
        n
        for n in range(clients)
        if any(
            begin <= moment < end
            for begin, end in within(online(folder, kind, (n + 0.5) / clients, n), moment + 1)
        )
    ]


def test_at_two_half_of_the_fleet_leaves_and_at_three_it_is_back(folder: Path) -> None:
    events = [{"at": "14:00", "leave": 0.5, "returns": "15:00"}]
    counts = [len(at_hour(folder, events, hour)) for hour in (13.99, 14, 14.99, 15, 38.5)]
    assert counts == [100, 50, 50, 100, 100]


def test_two_events_may_hit_different_clients(folder: Path) -> None:
    events: list[dict[str, Any]] = [
        {"at": "01:00", "leave": 0.3},
        {"at": 7200, "leave": 0.7, "first": 0.3},
    ]
    assert at_hour(folder, events, 1.5) == list(range(30, 100))
    assert at_hour(folder, events, 2) == []


def test_everybody_leaves_where_no_share_is_given(folder: Path) -> None:
    assert at_hour(folder, [{"at": 0, "returns": 60}], 0) == []


def test_a_time_that_has_passed_is_tomorrow_s_and_days_repeat(folder: Path) -> None:
    events = [{"at": "22:00", "leave": 1, "returns": "06:00", "daily": True}]
    found = hours(online(folder, ("scripted", {"events": events})), 3)
    assert found == [(0, 22), (30, 46), (54, 70)]


def test_on_a_weekday_without_a_share_nobody_is_online(folder: Path) -> None:
    mondays = {"begins": "12:00", "by_weekday": [1, 0, 0, 0, 0, 0, 0], "lasts_h": 2.0}
    intervals = within(online(folder, ("diurnal", mondays)), 28 * DAY_S)
    assert {int(begin // DAY_S) % 7 for begin, _ in intervals} == {0}
    with pytest.raises(SettingsError, match="by_weekday: nobody is online on any day"):
        online(folder, ("diurnal", {"by_weekday": [0] * 7}))


def test_a_time_that_has_passed_at_the_start_is_the_next_such_time(folder: Path) -> None:
    def away(events: list[dict[str, Any]], starts_h: float) -> list[tuple[float, float]]:
        kind = ("scripted", {"events": events})
        found = list(online(folder, kind, starts=starts_h * HOUR_S))
        return [(found[0][1] / HOUR_S, found[1][0] / HOUR_S)] if len(found) > 1 else []

    at_two = [{"at": "14:00", "returns": "15:00"}]
    assert away(at_two, 0) == away(at_two, 14) == [(14, 15)]
    assert away(at_two, 14.5) == away(at_two, 24 + 9) == [(24 + 14, 24 + 15)]
    tuesday = [{"at": "Tue 14:00", "returns": "Wed 01:00"}]
    assert away(tuesday, 0) == away(tuesday, 24 + 9) == [(24 + 14, 48 + 1)]
    assert away(tuesday, 72) == [(168 + 24 + 14, 168 + 48 + 1)]


def test_who_has_gone_for_good_does_not_come_back_with_the_days(folder: Path) -> None:
    events = [{"at": "12:00", "returns": "13:00", "daily": True}, {"at": "Tue 12:30"}]
    found = list(online(folder, ("scripted", {"events": events})))
    assert [(begin / HOUR_S, end / HOUR_S) for begin, end in found] == [(0, 12), (13, 36)]


def test_they_may_come_back_one_by_one(folder: Path) -> None:
    events = [{"at": "10:00", "returns": "11:00", "within_s": 1800}]
    there = [len(at_hour(folder, events, hour)) for hour in (9.9, 10.25, 10.6, 11.25, 11.5)]
    assert there[0] == 100 and 30 < there[1] < 70 and there[2] == 0
    assert 30 < there[3] < 70 and there[4] == 100


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({}, 'events: event 1 does not say when: give it at = "14:00"'),
        (
            {"at": "14:00", "leaves": 1},
            "events: event 1: unknown key leaves;"
            " choose from: at, leave, first, returns, within_s, daily",
        ),
        (
            {"at": "2 pm"},
            "events: event 1: at: not allowed"
            ' (When they leave: "14:00", "Tue 14:00", or seconds since Monday began)',
        ),
        (
            {"at": 0, "leave": 1.5},
            "events: event 1: leave: expected a number <= 1.0 (Which share of the fleet leaves)",
        ),
        (
            {"at": 0, "leave": 0.5, "first": 0.75},
            "events: event 1 lets a share of 0.5 leave, but from rank 0.75 on there are only 0.25"
            " of the fleet: lower one",
        ),
        (
            {"at": "14:00", "daily": True},
            'events: event 1 is daily, but nobody comes back from it: give it returns = "15:00"',
        ),
        (
            {"at": "Tue 14:00", "returns": "Mon 15:00"},
            "events: event 1 leaves at Tue 14:00 and returns at Mon 15:00: `returns` has to come"
            " after `at`, and less than a day later where it is daily",
        ),
        (
            {"at": 0, "returns": 3600},
            "events: event 1 is over before the run begins, 86400 s after midnight of Monday: give"
            " it a later time",
        ),
        (
            {"at": 0, "returns": 86_400, "daily": True},
            "events: event 1 leaves at 0 and returns at 86400: `returns` has to come after `at`,"
            " and less than a day later where it is daily",
        ),
    ],
)
def test_an_event_that_cannot_be_is_refused(
    folder: Path, event: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        scripted.prepare(scripted.Settings(events=(event,)), folder, 3, DAY_S)
    assert str(refused.value) == sentence
