"""What every selection policy must hold to; a new file in the folder is tested by being there."""

from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import selection
from coordinator.selection import uniform
from fedmqtt import parts
from fedmqtt.topics import ClientId

FLEET = [ClientId(f"c{number:02}") for number in range(20)]


@pytest.fixture(params=parts.names(selection), scope="module")
def policy(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(selection, request.param)


@given(
    present=st.sets(st.sampled_from(FLEET)).map(sorted), share=st.floats(0, 1), seed=st.integers(0)
)
def test_as_many_as_wanted_each_once_and_nobody_who_is_absent(
    policy: ModuleType, present: list[ClientId], share: float, seed: int
) -> None:
    count = round(len(present) * share)
    invited = policy.select(present, count, Random(seed))
    assert isinstance(invited, tuple)
    assert len(invited) == len(set(invited)) == count
    assert set(invited) <= set(present)


def test_the_same_seed_invites_the_same_clients(policy: ModuleType) -> None:
    cohorts = [policy.select(FLEET, 5, Random("7/select/3")) for _ in range(3)]
    assert len(set(cohorts)) == 1


def test_the_candidates_are_left_as_they_were(policy: ModuleType) -> None:
    candidates = list(FLEET)
    policy.select(candidates, 5, Random(1))
    assert candidates == FLEET


def test_uniform_gives_everyone_a_turn() -> None:
    chance = Random("uniform")
    turns = [client for _ in range(1000) for client in uniform.select(FLEET, 5, chance)]
    # 250 each on average; a fair draw stays far from these bounds.
    assert all(180 < turns.count(client) < 320 for client in FLEET)
