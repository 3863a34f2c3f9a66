"""Links: bandwidth is integrated exactly, traces are drawn from what was recorded."""

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.settings import SettingsError, convert
from fleet_sim import links
from fleet_sim.links import Bandwidth, BandwidthTrace, LinkSettings

# Whole seconds and bytes that divide by powers of two only: floats hold every sum exactly.
STEPS = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([0, 8, 16, 64, 256])), min_size=1, max_size=6
).filter(lambda steps: any(rate for _, rate in steps))


def trace_of(steps: Sequence[tuple[int, int]]) -> BandwidthTrace:
    seconds = [0.0]
    for length, _ in steps:
        seconds.append(seconds[-1] + length)
    return BandwidthTrace(seconds, [*(float(rate) for _, rate in steps), 123.0])


def naive(steps: Sequence[tuple[int, int]], size: int, from_s: int) -> Fraction:
    """Step by step, with fractions."""
    left, now, begin = Fraction(size), Fraction(0), Fraction(from_s)
    while True:
        for length, rate in steps:
            end = now + length
            here = max(now, begin)
            room = Fraction(rate) * 125 * max(end - here, Fraction(0))
            if 0 < left <= room:
                return here + left / (rate * 125) - begin
            left -= room
            now = end


@given(STEPS, st.integers(1, 5_000_000), st.integers(0, 200))
def test_a_transfer_takes_what_a_naive_sum_says(
    steps: list[tuple[int, int]], size: int, from_s: int
) -> None:
    found = Bandwidth(trace=trace_of(steps)).seconds(size, from_s)
    assert found == pytest.approx(float(naive(steps, size, from_s)), rel=1e-9, abs=1e-9)


@given(STEPS, st.integers(1, 10), st.floats(0, 1e4))
def test_as_much_as_a_trace_carries_takes_one_loop_less_its_last_silence(
    steps: list[tuple[int, int]], loops: int, phase_s: float
) -> None:
    trace = trace_of(steps)
    silence = 0
    for length, rate in reversed(steps):
        if rate:
            break
        silence += length
    found = Bandwidth(trace=trace).seconds(loops * trace.bytes_per_loop, 0.0)
    assert found == loops * trace.length_s - silence
    # From anywhere else it is at most that, as silence may lie elsewhere.
    moved = Bandwidth(math.inf, trace, phase_s).seconds(loops * trace.bytes_per_loop, 0.0)
    assert 0 < moved <= loops * trace.length_s * (1 + 1e-9)


def test_a_constant_bandwidth_and_none_at_all() -> None:
    assert Bandwidth(1000.0).seconds(500, 7.0) == 0.5
    assert Bandwidth().seconds(1e12, 7.0) == 0.0
    assert Bandwidth(trace=trace_of([(1, 8)])).seconds(0, 0.5) == 0.0


def test_delays_and_cuts_are_as_long_as_asked() -> None:
    link = links.Link(latency_s=1.0, jitter_s=0.5, cut_every_s=30.0)
    chance = Random(1)
    delays = [link.delay_s(chance) for _ in range(2000)]
    assert 1 <= min(delays) < 1.01 and 1.49 < max(delays) <= 1.5
    assert mean(link.cut_after_s(chance) for _ in range(5000)) == pytest.approx(30, rel=0.05)
    assert links.Link().cut_after_s(chance) == math.inf


# What is drawn


def prepared(folder: Path, **values: Any) -> links.Links:
    return links.prepare(convert(values, LinkSettings, "link"), folder)


def test_clients_differ_by_the_spread(tmp_path: Path) -> None:
    found = prepared(tmp_path, up={"kbps": 800, "spread": 0.5}, latency_s=0.3)
    drawn = [found.draw(0.5, Random(n)) for n in range(2000)]
    rates = [one.up.bytes_per_s for one in drawn]
    assert median(rates) == pytest.approx(100_000, rel=0.05)
    logs = [math.log(rate / 100_000) for rate in rates]
    assert mean(one**2 for one in logs) == pytest.approx(0.25, rel=0.1)
    assert drawn[0].latency_s == 0.3 and drawn[0].down == Bandwidth()


def write_archive(path: Path) -> None:
    np.savez(
        path,
        kind=np.array(["home", "bus", "home"]),
        offset=np.array([0, 3, 5, 7], np.int32),
        t=np.array([0, 1, 2, 0, 10, 5, 6], np.float32),
        kbps=np.array([8, 24, 99, 80, 99, 4, 99], np.float32),
    )


def test_an_archive_s_traces_are_taken_by_kind_and_by_rank(tmp_path: Path) -> None:
    write_archive(tmp_path / "all.npz")
    found = prepared(tmp_path, up={"file": "all.npz", "kind": "home", "choose": "rank"})
    assert [one.kbps_mean for one in found.up] == [4, 16]
    for rank, kbps in ((0.0, 4), (0.49, 4), (0.5, 16), (0.99, 16)):
        trace = found.draw(rank, Random(1)).up.trace
        assert trace is not None and trace.kbps_mean == kbps
    every = prepared(tmp_path, down={"file": "all.npz"})
    drawn = [every.draw(0.0, Random(n)).down for n in range(300)]
    chosen = [one.trace.kbps_mean for one in drawn if one.trace]
    assert all(80 < chosen.count(kbps) < 120 for kbps in (4, 16, 80))
    assert len({one.phase_s for one in drawn}) == 300


def test_a_csv_file_is_one_trace(tmp_path: Path) -> None:
    (tmp_path / "bus.csv").write_text("seconds,kbps\n10,8\n12,0\n20,0\n")
    found = prepared(tmp_path, up={"file": "bus.csv"}).up[0]
    assert (found.length_s, found.bytes_per_loop) == (10.0, 2000.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "seconds,mbps\n1,2\n",
            "{}: no column kbps (or kbit/s, kbits); its first line names seconds, mbps",
        ),
        ("seconds,kbps\n1,2\n2,-3\n", "{}, line 3: kbps is -3; write 0 or more"),
        ("seconds,kbps\n1,fast\n", "{}, line 2: kbps is 'fast'; write a number"),
        ("seconds,kbps\n2,1\n1,1\n", "{}, line 3: 1 seconds come after 2; sort the lines by time"),
        (
            "seconds,kbps\n1,1\n",
            "{}: one moment is no trace; the last one says when it ends, so give two or more",
        ),
        (
            "seconds,kbps\n1,0\n2,5\n",
            "{}: carries nothing at all, so that no transfer would ever end",
        ),
    ],
)
def test_a_trace_that_cannot_be_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bus.csv"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        prepared(tmp_path, up={"file": "bus.csv"})
    assert str(refused.value) == "up.file: " + sentence.format(path)


def test_an_archive_without_that_kind_names_those_it_has(tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    write_archive(path)
    with pytest.raises(SettingsError) as refused:
        prepared(tmp_path, down={"file": "all.npz", "kind": "train"})
    assert str(refused.value) == (
        f"down.file: {path} has no traces of kind 'train'; choose one of: bus, home"
    )
    np.savez(path, kind=np.array(["a"]), offset=np.array([0, 9]), t=np.ones(2), kbps=np.ones(2))
    with pytest.raises(SettingsError, match="do not fit together"):
        prepared(tmp_path, down={"file": "all.npz"})


def test_recorded_links_carry_what_was_recorded() -> None:
    folder = os.environ.get("FEDMQTT_DATA")
    if folder is None:
        pytest.skip("FEDMQTT_DATA names no folder with traces/bandwidth.npz")
    archive = "traces/bandwidth.npz"
    assert len(prepared(Path(folder), up={"file": archive}).up) == 1046
    found = prepared(Path(folder), up={"file": archive, "kind": "cellular_up"}).up
    with np.load(Path(folder) / archive, allow_pickle=False) as raw:  # noqa: TID251
        ends = np.flatnonzero(raw["kind"] == "cellular_up")
        pieces = [slice(*raw["offset"][j : j + 2]) for j in ends]
        carried = [
            float((raw["kbps"][p][:-1] * 125.0 * np.diff(raw["t"][p])).sum()) for p in pieces
        ]
    assert sorted(one.bytes_per_loop for one in found) == pytest.approx(sorted(carried), rel=1e-5)
