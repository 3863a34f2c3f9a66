"""The swarm's benchmark runs, however small, with and without weather."""

import pytest

from tests.benchmarks.test_benchmarks import figures, pytestmark

__all__ = ["pytestmark"]


@pytest.mark.parametrize("words", [[], ["--weather"]])
def test_a_swarm_connects_and_has_its_rounds(words: list[str]) -> None:
    few = ["--clients", "12", "--invited", "5", "--rounds", "2"]
    found = figures("live_connections.py", *few, *words)
    assert (found["clients"], found["invited"], found["connections"]) == (12, 5, 12)
    assert found["answered"] == [5, 5] and found["rounds"] == 2
    assert 0 < found["connects_at_once_max"] <= 12
    measured = (
        "agents_made_s connect_s first_round_s round_s swarm_peak_rss_mb broker_peak_rss_mb"
        " coordinator_peak_rss_mb"
    )
    assert all(found[name] > 0 for name in measured.split())
