"""How a site's own answers are masked follows from the centre's, where those may be of several."""

from pathlib import Path
from typing import Any

import pytest

from coordinator import round_rules
from coordinator.config import FederationConfig, Privacy, Rounds
from edge_client.training_job import Job
from site_aggregator import terms
from site_aggregator.terms import NotHere
from tests.site_aggregator.test_upward import BASE, job, mask

NUMBERS: dict[str, Any] = {
    **{"value_bits": 7, "weight_max": 20, "samples_max": 60, "change_max": 0.5},
    **{"norm_max": 2.0, "share": 0.5, "rotate": True},
}


def devices(aggregation: str = "keyholders", **more: Any) -> FederationConfig:
    own = Privacy(aggregation=aggregation, floor=3, value_bits=20, change_max=4.0, **more)
    rounds = Rounds(cohort=4, quorum=4, over_selection=1.0)
    return FederationConfig(name="own", task="t", privacy=own, rounds=rounds)


def asked(folder: Path, **changes: Any) -> Job:
    return job(folder, 4, BASE, sites=None, mask=mask(**NUMBERS, **changes))


def test_masks_at_both_levels_have_the_centres_numbers_and_the_sites_keyholders(
    tmp_path: Path,
) -> None:
    found = terms.devices_settings(devices(), asked(tmp_path, clients_max=8)).privacy
    assert {name: getattr(found, name) for name in NUMBERS} == NUMBERS
    # Of ranges that each level would set by itself no sums add up.
    assert (found.ranges, found.floor, found.aggregation) == ("fixed", 3, "keyholders")


@pytest.mark.parametrize(
    ("own", "changes"),
    [
        # The mean of one client is whatever its devices made of it.
        (devices(), {}),
        (devices(), {"clients_max": 8, "block_norms": 4}),
        (devices("plain"), {"clients_max": 8}),
    ],
)
def test_where_no_sums_add_up_a_site_masks_as_it_is_set(
    own: FederationConfig, changes: dict[str, Any], tmp_path: Path
) -> None:
    assert terms.devices_settings(own, asked(tmp_path, **changes)).privacy == own.privacy


def test_a_site_has_no_more_devices_than_its_masked_answer_may_stand_for(tmp_path: Path) -> None:
    own = devices("plain")
    most = round_rules.invited_max(own)
    terms.devices_settings(own, asked(tmp_path, clients_max=most))
    with pytest.raises(NotHere, match=f"may stand for {most - 1}: lower devices.rounds.cohort"):
        terms.devices_settings(own, asked(tmp_path, clients_max=most - 1))


@pytest.mark.parametrize(
    ("aggregation", "metrics", "is_measured"),
    [("keyholders", ("loss",), True), ("keyholders", (), False), ("plain", ("loss",), False)],
)
def test_devices_measure_under_the_masks_of_both_levels(
    aggregation: str, metrics: tuple[str, ...], is_measured: bool, tmp_path: Path
) -> None:
    """Who is masked below measures nothing that its site could read, and so is not asked for it."""
    told = asked(tmp_path, clients_max=8, metrics=metrics)
    assert not told.measure_base
    assert terms.are_measured(devices(aggregation), told) is is_measured
