"""The next round's ranges follow from how large values were, and belong to the model."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from coordinator.config import FederationConfig
from coordinator.masking import adaptive_ranges, masked_round
from coordinator.noise.differential_privacy import DifferentialPrivacy
from coordinator.sums import strategy_memory
from fedmqtt import settings
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.masking import block_norms
from fedmqtt.messages import BLOCK_NORMS_MAX
from tests.fedmqtt.masking import cohort

KEYHOLDERS = tuple(cohort.keyholder(place) for place in range(3))


def config(*overrides: str) -> FederationConfig:
    few = ("privacy.aggregation=keyholders", "privacy.rotate=true", "privacy.value_bits=4")
    rounds = ("rounds.quorum=10", "rounds.over_selection=1", "tuning.enabled=false")
    named = ("name=ward-7", "task=learning_tasks.linear", "evaluation.every=0")
    return settings.read(None, [*named, *few, *rounds, *overrides], FederationConfig)


def test_ranges_are_four_times_the_root_mean_square_within_bounds() -> None:
    found = adaptive_ranges.following(np.array([0.01, 0.5, 0.0]), 1.0, 0.25)
    assert adaptive_ranges.remembered(found, 1.0, 0.25) == (0.04, 1.0, 2.0**-6)
    nothing, before = np.zeros(3), (0.04, 1.0, 2.0**-20)
    found = adaptive_ranges.following(nothing, 1.0, 0.25, before)
    assert adaptive_ranges.remembered(found, 1.0, 0.25) == (0.02, 0.5, 2.0**-20)


def test_one_liar_cannot_clip_all_others_to_nothing_in_the_first_round() -> None:
    how = cohort.masking(block_norms=8, change_max=1.0, value_bits=16, bits=25)
    honest = block_norms.words(how, np.full(2 * BLOCK, 0.01, np.float32))
    # What all others tell, and as much less: 600 is left of 19 times as much.
    lie = (600 - 19 * honest.astype(np.int64)) % 2**32
    with np.errstate(over="ignore"):
        sums = honest * np.uint32(19) + lie.astype(np.uint32)
    assert sums.tolist() == [600, 600]
    told = block_norms.means(how, 2 * BLOCK, sums, 20)
    ranges = adaptive_ranges.remembered(adaptive_ranges.following(told, 1.0, 1.0), 1.0, 1.0)
    assert ranges == (2.0**-6, 2.0**-6)
    # Two rounds with the truth, and they are what they would have been.
    for _ in range(2):
        found = adaptive_ranges.following(np.full(2, 0.01), 1.0, 1.0, ranges)
        ranges = adaptive_ranges.remembered(found, 1.0, 1.0)
    assert ranges == (0.04, 0.04)


def test_ranges_outlive_the_program_with_the_model(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    found = adaptive_ranges.following(np.array([0.01, 0.02]), 1.0, 0.25)
    file = strategy_memory.save(tmp_path, "3", "fedavg", found)
    read = strategy_memory.load(tmp_path, file)
    assert adaptive_ranges.remembered(read, 1.0, 0.25) == (0.04, 0.08)


def test_of_another_share_nothing_is_known_and_of_a_lower_limit_no_more_than_that() -> None:
    found = adaptive_ranges.following(np.array([0.01, 0.2]), 1.0, 0.25)
    assert adaptive_ranges.remembered(found, 1.0, 0.5) == ()
    assert adaptive_ranges.remembered(found, 0.1, 0.25) == (0.04, 0.1)
    assert adaptive_ranges.remembered({}, 1.0, 0.25) == ()


def test_a_first_round_is_fine_and_those_after_it_have_ranges() -> None:
    first = masked_round.masking(config(), KEYHOLDERS)
    assert (first.value_bits, first.bits, first.ranges) == (16, 20, ())
    assert first.block_norms == BLOCK_NORMS_MAX
    second = masked_round.masking(config(), KEYHOLDERS, (0.5, 0.25))
    assert (second.value_bits, second.bits, second.ranges) == (4, 8, (0.5, 0.25))
    assert second.block_norms == BLOCK_NORMS_MAX


@pytest.mark.parametrize("override", ["privacy.ranges=fixed", "privacy.rotate=false"])
def test_fixed_ranges_are_as_before(override: str) -> None:
    how = masked_round.masking(config(override), KEYHOLDERS, (0.5,))
    assert (how.value_bits, how.ranges, how.block_norms) == (4, (), 0)


def test_where_differential_privacy_is_promised_no_norms_are_told() -> None:
    promised = DifferentialPrivacy(noise="central", epsilon=4.0, participations_max=1)
    private = structs.replace(config(), differential_privacy=promised)
    assert masked_round.has_adaptive_ranges(config())
    assert not masked_round.has_adaptive_ranges(private)
