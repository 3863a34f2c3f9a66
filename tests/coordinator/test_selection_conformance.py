"""What every selection policy must hold to; a new file in the folder is tested by being there."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from coordinator import selection
from coordinator.config import FederationConfig
from coordinator.known import Knowledge, Known, Report
from coordinator.round_rules import from_config
from fedmqtt import parts
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId

FLEET = [ClientId(f"c{number:02}") for number in range(20)]

# Whatever clients say, and whatever has become of them.
KNOWN = st.builds(
    Known,
    invited=st.integers(0, 5),
    invited_last=st.integers(0, 2**31).map(RoundId),
    answered=st.integers(0, 5),
    answered_last=st.integers(0, 2**31).map(RoundId),
    took_s=st.lists(st.floats(0, 1e9), max_size=5).map(tuple),
    samples=st.sampled_from([0, 1, 7, 2**53]),
    loss=st.sampled_from([None, 0.0, -1.0, 0.3, 1e-300, 1e30, -1e30]),
    label=st.sampled_from(["", "phone", "watch", "site 7"]),
)


@pytest.fixture(params=parts.names(selection), scope="module")
def policy(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(selection, request.param)


def select(
    policy: ModuleType, candidates: list[ClientId], count: int, seed: object, known: Any = None
) -> tuple[ClientId, ...]:
    chance = Random(f"{policy.__name__} {seed}")
    invited: tuple[ClientId, ...] = policy.select(
        candidates, count, chance, known or {}, policy.Settings()
    )
    return invited


@given(
    present=st.sets(st.sampled_from(FLEET)).map(sorted),
    known=st.dictionaries(st.sampled_from(FLEET), KNOWN),
    share=st.floats(0, 1),
    seed=st.integers(0),
)
def test_as_many_as_wanted_each_once_and_nobody_who_is_absent(
    policy: ModuleType,
    present: list[ClientId],
    known: dict[ClientId, Known],
    share: float,
    seed: int,
) -> None:
    before = dict(known)
    for count in {0, round(len(present) * share), len(present)}:
        invited = select(policy, present, count, seed, known)
        assert isinstance(invited, tuple)
        assert list(invited) == sorted(set(invited)) and len(invited) == count
        assert set(invited) <= set(present)
        backwards = dict(reversed(known.items()))
        assert select(policy, present, count, seed, backwards) == invited, "the same seed"
    assert known == before and present == sorted(present), "they are left as they were"


def test_a_single_client_is_invited(policy: ModuleType) -> None:
    for known in ({}, {FLEET[0]: Known(invited=3, invited_last=RoundId(3))}):
        assert select(policy, FLEET[:1], 1, 1, known) == (FLEET[0],)


def test_seeds_differ(policy: ModuleType) -> None:
    assert len({select(policy, FLEET, 5, seed) for seed in range(20)}) > 1


@dataclass
class Years:
    """Rounds of a fleet whose clients stay as they are: fast or slow, with much or little data."""

    policy: ModuleType
    answers: Callable[[ClientId], bool] = lambda client: True
    knowledge: Knowledge = field(default_factory=Knowledge)
    invited: list[tuple[ClientId, ...]] = field(default_factory=list)

    def pass_by(self, rounds: int, candidates: list[ClientId], count: int = 4) -> None:
        for _ in range(rounds):
            number = RoundId(len(self.invited) + 1)
            known = self.knowledge.clients
            invited = select(self.policy, candidates, count, number, known)
            answered = [client for client in invited if self.answers(client)]
            for client in answered:
                self.knowledge.reports[client, number] = self.report(client)
            told = [(client, number) for client in answered]
            self.knowledge.closed(number, invited, told, lambda client: True)
            self.invited.append(invited)

    def report(self, client: ClientId) -> Report:
        rank = FLEET.index(client) + 1
        # A loss falls with what was learned from its client, down to what cannot be learned.
        times = self.knowledge.clients.get(client, Known()).answered
        return Report(samples=10 * rank, loss=rank * (0.5 + 1 / (1 + times)), took_s=200.0 / rank)

    def turns(self) -> Counter[ClientId]:
        return Counter(client for invited in self.invited for client in invited)


def test_nobody_is_shut_out_for_good(policy: ModuleType) -> None:
    # c00 is the slowest, has the least data and the lowest loss.
    years = Years(policy)
    years.pass_by(400, FLEET)
    assert years.turns().keys() == set(FLEET)
    first = years.turns()
    years.pass_by(400, FLEET)
    assert all((years.turns() - first)[client] > 0 for client in FLEET)


def test_who_is_new_has_a_turn_among_those_that_are_known_to_be_good(policy: ModuleType) -> None:
    years = Years(policy)
    old, new = FLEET[6:], set(FLEET[:6])
    years.pass_by(60, old)
    years.pass_by(100, FLEET)
    assert new <= years.turns().keys()


def test_who_never_answers_does_not_take_the_places_of_the_others(policy: ModuleType) -> None:
    silent = set(FLEET[::4])
    years = Years(policy, answers=lambda client: client not in silent)
    years.pass_by(300, FLEET)
    lost = sum(turns for client, turns in years.turns().items() if client in silent)
    # A quarter are silent, and have a quarter of the turns where nothing is made of it.
    assert lost <= 0.3 * 300 * 4


def test_every_setting_is_explained_and_has_a_default(policy: ModuleType) -> None:
    policy.Settings()
    info = inspect.type_info(policy.Settings)
    assert isinstance(info, inspect.StructType) and info.forbid_unknown_fields
    for one in info.fields:
        assert isinstance(one.type, inspect.Metadata), one.name
        assert (one.type.extra_json_schema or {}).get("description"), one.name


def test_a_setting_that_it_does_not_have_is_refused_by_name(policy: ModuleType) -> None:
    name = policy.__name__.rpartition(".")[2]
    config = FederationConfig(name="f", task="t", selection=name, selection_settings={"sped": 0.5})
    with pytest.raises(SettingsError, match=r"selection_settings: unknown key sped; \w+"):
        from_config(config)


def test_who_measures_is_drawn_at_random_whatever_the_policy(policy: ModuleType) -> None:
    name = policy.__name__.rpartition(".")[2]
    drawn = from_config(FederationConfig(name="f", task="t", selection=name)).select
    evenly = from_config(FederationConfig(name="f", task="t")).select
    known = {client: Known(invited=1, took_s=(1.0,), answered=1) for client in FLEET[:5]}
    for number in range(1, 20):
        wanted = drawn(FLEET, 4, RoundId(number), "evaluate", known)
        assert wanted == evenly(FLEET, 4, RoundId(number), "evaluate", {})
