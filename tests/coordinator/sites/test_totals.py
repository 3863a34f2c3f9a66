"""Two levels add up to what one does, to the last bit; and no site pulls further than it may."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from msgspec import structs

from coordinator import local_method
from coordinator.config import FederationConfig, Limits, Sites
from coordinator.sites import totals
from coordinator.sums.answers import Answers
from coordinator.workers import checks as workers_checks
from fedmqtt import exact_total
from fedmqtt.fixed_point import ExactSum, Total
from fedmqtt.messages import SumOf, Update, method_name
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from tests.updates import update

SIZE = 5
SITES = Sites(clients_max=8)
LIMITS = Limits(change_max=64.0, samples_max=1000)
_CAUTIOUS = Limits(change_max=0.001, samples_max=10_000)
Devices = Sequence[tuple[Array, int]]
"""(change, samples) of each."""


def config(sites: Sites = SITES, **more: object) -> FederationConfig:
    return FederationConfig(name="w", task="t", sites=sites, limits=LIMITS, **more)  # type: ignore[arg-type]


def answers(terms_max: int, bits: int | None = None, sites: Sites = SITES) -> Answers:
    made = Answers(config(sites), SIZE, terms_max, bits=lambda: bits)
    made.begin(terms_max)
    return made


def take_in(into: Answers, devices: Devices, first: int = 0) -> None:
    for number, (change, samples) in enumerate(devices, first):
        fold(into, f"device-{number}", update(numbers=change, sample_count=samples))


def fold(into: Answers, client: str, answer: Update, staleness: int = 0) -> None:
    assert into.check(ClientId(client), answer) == ""
    into.fold(ClientId(client), answer, evaluates=False, staleness=staleness)
    into.let_go()


def of_site(numbers: Total, weight: int, clients: int, bits: int) -> Update:
    payload = memoryview(exact_total.encode(numbers))
    sum_of = SumOf(clients=clients, bits=bits)
    return update(sample_count=weight, codec=totals.CODEC, payload=payload, sum_of=sum_of)


def handed_up(devices: Devices, bits: int, first: int) -> Update:
    """As a site does it: with its own coordinator's sum, by the centre's bits."""
    own = answers(len(devices), bits, Sites())
    take_in(own, devices, first)
    found = own.exact()
    assert found is not None
    return of_site(*found, len(devices), bits)


changes = nps.arrays(np.float32, SIZE, elements=st.floats(-64, 64, width=32, allow_subnormal=False))
some_devices = st.lists(st.tuples(changes, st.integers(1, 100)), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(some_devices, min_size=1, max_size=4), some_devices, changes)
def test_two_levels_make_the_model_of_one(
    sites: list[list[tuple[Array, int]]], direct: list[tuple[Array, int]], base: Array
) -> None:
    # 12 answers, each of up to 8 devices, and 96 of one each: the limits leave as many bits.
    flat, centre = answers(96, sites=Sites()), answers(12)
    assert flat.bits == centre.bits
    first = 0
    for number, devices in enumerate(sites):
        take_in(flat, devices, first)
        fold(centre, f"site-{number}", handed_up(devices, centre.bits, first))
        first += len(devices)
    take_in(flat, direct, first)
    take_in(centre, direct, first)
    assert flat.samples == centre.samples
    one, two = flat.exact(), centre.exact()
    assert one is not None and two is not None
    assert one[0].tolist() == two[0].tolist() and one[1] == two[1]
    assert flat.finish(base).tobytes() == centre.finish(base).tobytes()


def test_the_largest_that_is_allowed_does_not_overflow() -> None:
    centre = answers(3, sites=Sites(clients_max=8, weight_max=8000))
    largest = [(np.full(SIZE, 64, np.float32), 1000)] * 8
    for number in range(3):
        fold(centre, f"site-{number}", handed_up(largest, centre.bits, 8 * number))
    assert centre.finish(np.zeros(SIZE, np.float32)).tolist() == [64.0] * SIZE


@pytest.mark.parametrize(
    ("number", "weight", "clients", "said"),
    [
        (0, 900, 9, "stands for 9 devices; sites.clients_max is 8"),
        (0, 1001, 8, "stands for 1001 samples; limits.samples_max is 1000"),
        (6_401, 100, 1, "changes a parameter by 64.01 on average; limits.change_max is 64"),
        (-6_401, 100, 8, "changes a parameter by 64.01 on average; limits.change_max is 64"),
    ],
)
def test_a_site_stands_for_no_more_than_it_may(
    number: int, weight: int, clients: int, said: str
) -> None:
    centre = answers(12)
    numbers = np.zeros(SIZE, np.int64)
    numbers[2] = number * 2**centre.bits
    one = of_site(numbers, weight, clients, centre.bits)
    assert centre.check(ClientId("north"), one) == said


def test_a_coarse_grid_gives_a_site_no_further_reach() -> None:
    # Each device's change is rounded once: by half a unit, and a site says how large a unit is.
    cautious = structs.replace(config(Sites(clients_max=2**20)), limits=_CAUTIOUS)
    bits = 1
    far = np.full(SIZE, 2**20, np.int64)
    one = of_site(far, 1, 2**20, bits)
    said = "changes a parameter by 5.243e+05 on average; limits.change_max is 0.001"
    assert Answers(cautious, SIZE, 12).check(ClientId("north"), one) == said


@pytest.mark.parametrize("bits", [1, 5, 20])
def test_an_honest_site_is_within_its_bound_on_any_grid(bits: int) -> None:
    cautious = structs.replace(config(), limits=_CAUTIOUS)
    largest = np.full(SIZE, np.nextafter(np.float32(0.001), np.float32(0)), np.float32)
    for weight in (1, 249, 251, 499, 751, 1250):
        own = ExactSum(SIZE, bits)
        for _ in range(8):
            own.add(largest, weight)
        one = of_site(own.total, own.weight, 8, bits)
        assert Answers(cautious, SIZE, 12).check(ClientId("north"), one) == ""


def test_an_owner_may_let_sites_weigh_more_than_one_client() -> None:
    centre = answers(12, sites=Sites(clients_max=8, weight_max=2500))
    numbers = np.zeros(SIZE, np.int64)
    assert centre.check(ClientId("north"), of_site(numbers, 2500, 3, centre.bits)) == ""
    said = centre.check(ClientId("north"), of_site(numbers, 2500, 2, centre.bits))
    assert said == "claims 2500 samples of 2 devices; limits.samples_max is 1000"
    said = centre.check(ClientId("north"), of_site(numbers, 2501, 8, centre.bits))
    assert said == "stands for 2501 samples; sites.weight_max is 2500"


def test_nobody_answers_for_others_where_nobody_may() -> None:
    centre = answers(12, sites=Sites())
    one = of_site(np.zeros(SIZE, np.int64), 5, 2, centre.bits)
    assert "every client answers for itself" in centre.check(ClientId("north"), one)


def test_a_sum_of_another_model_is_refused() -> None:
    centre = answers(12)
    one = of_site(np.ones(SIZE + 1, np.int64), 5, 2, centre.bits)
    assert centre.check(ClientId("north"), one).startswith("sum of other tensors: ")


def test_what_came_late_counts_for_less_on_the_grid_of_now() -> None:
    # Half of the weight, and two bits more than the sum had.
    late = totals.SiteSum(np.array([8, -5, 3]), weight=10, bits=4)
    assert late.on_grid(6, 5).tolist() == [16, -10, 6]
    assert late.on_grid(4, 10) is late.numbers


@pytest.mark.parametrize("aggregation", sorted(workers_checks.means()))
def test_a_sites_late_answer_counts_for_less_as_a_clients_does(aggregation: str) -> None:
    found, its = [], config(aggregation=aggregation)
    made_by = method_name(local_method.training(its), local_method.asked(its))
    for is_site in (False, True):
        centre = Answers(its, SIZE, 12)
        centre.begin(12, RoundId(4))
        fold(centre, "bob", update(4, numbers=[4.0] * SIZE, sample_count=30, method=made_by))
        late = update(1, numbers=[-8.0] * SIZE, sample_count=10, method=made_by)
        if is_site:
            numbers = np.full(SIZE, -80 * 2**20, np.int64)
            late = structs.replace(of_site(numbers, 10, 2, 20), round=RoundId(1), method=made_by)
        fold(centre, "north", late, staleness=3)
        found.append(centre.finish(np.zeros(SIZE, np.float32)).tolist())
    assert found[0] == found[1]


def test_a_site_with_more_devices_than_the_centre_leaves_room_for_is_told_so() -> None:
    bits = answers(12).bits
    with pytest.raises(SettingsError, match=r"97 devices, .* lower rounds\.cohort"):
        answers(200 - 103, bits + 1, Sites())
