"""From settings to noise by keyholders: what is promised, what an offer says, what is refused."""

import math
from typing import Any

import pytest
from msgspec import structs

from coordinator import checks, round_rules
from coordinator.config import Evaluation, FederationConfig, Privacy, Rounds
from coordinator.masking import masked_noise, masked_round
from coordinator.noise import differential_privacy, noise_checks
from coordinator.noise.differential_privacy import DifferentialPrivacy
from fedmqtt import noise_promise
from fedmqtt.masking import values
from fedmqtt.privacy import gaussian, noise
from fedmqtt.settings import SettingsError

DELTA = 1e-5


def config(
    chosen: dict[str, Any] | None = None,
    privacy: dict[str, Any] | None = None,
    rounds: dict[str, Any] | None = None,
    **more: Any,
) -> FederationConfig:
    asked: dict[str, Any] = {"noise": "keyholders", "noise_multiplier": 4.0}
    masks: dict[str, Any] = {"aggregation": "keyholders", "floor": 10}
    counts: dict[str, Any] = {"cohort": 100, "quorum": 20, "count": 30, "over_selection": 1.0}
    return FederationConfig(
        name="f",
        task="learning_tasks.linear",
        differential_privacy=DifferentialPrivacy(
            **asked | {"participations_max": 10} | (chosen or {})
        ),
        privacy=Privacy(**masks | (privacy or {})),
        rounds=Rounds(**counts | (rounds or {})),
        **{"evaluation": Evaluation(every=0)} | more,
    )


def noised(size: int = 650, **changes: Any) -> masked_noise.Noised:
    made = masked_noise.of(config(**changes), size)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("privacy", "seeds"),
    [
        ({"aggregation": "trusted"}, 1),
        ({}, 3),
        ({"places": 4, "tolerated": 2}, 6),
    ],
)
def test_both_epsilons_are_the_closed_form(privacy: dict[str, Any], seeds: int) -> None:
    plan = noised(privacy=privacy).plan
    # Against who knows all noise but one.
    assert plan.epsilon_max == pytest.approx(gaussian.epsilon(4.0, 10, DELTA), rel=1e-6)
    assert plan.epsilon(3, 7, 650) == pytest.approx(gaussian.epsilon(4.0, 3, DELTA), rel=1e-6)
    # For who knows none of it.
    of_models = gaussian.epsilon(4.0 * math.sqrt(seeds), 3, DELTA)
    assert plan.epsilon_of_models(3, 7, 650) == pytest.approx(of_models, rel=1e-6)
    assert plan.epsilon_of_models(0, 7, 650) == 0.0
    assert plan.noise_on_sums == pytest.approx(4.0 * math.sqrt(seeds), rel=1e-5)


def test_the_sentence_tells_both_and_against_whom() -> None:
    said = noised().plan.sentence()
    of_models = gaussian.epsilon(4.0 * math.sqrt(3), 10, DELTA)
    assert (
        "epsilon 3.341 at delta 1e-05 for each device against the coordinator together with 1 of"
        f" the keyholders too, and {of_models:.4g} for whoever has the models alone"
    ) in said
    alone = noised(privacy={"aggregation": "trusted"}).plan.sentence()
    assert "for each device against the coordinator too, and 3.341 for whoever" in alone
    central = differential_privacy.plan(
        DifferentialPrivacy(noise="central", noise_multiplier=4.0, participations_max=10), 30
    )
    assert central is not None and "coordinator" not in central.sentence()


def test_an_offer_says_what_clients_must_do_for_it() -> None:
    made = noised()
    asked = config()
    how = made.masking(masked_round.masking(asked, ()), 1.0)
    assert not noise_promise.fault(how)
    assert noise_promise.multiplier(how) == how.noise == 4.0 and how.indicator == 0
    level = values.level_max(20)
    assert (how.norm_max, how.norm_steps, how.participations_max) == (1.0, level, 10)
    # All answers at their largest, and 13 deviations of three noises, of either sign.
    room = round_rules.invited_max(asked) * level + math.ceil(
        13 * math.sqrt(3) * noise_promise.deviation(how)
    )
    assert 2 ** (how.bits - 1) < 2 * room < 2**how.bits
    assert made.plan.grid.deviation == noise_promise.deviation(how)


@pytest.mark.parametrize("clip", [1.0, 0.25, 3.7])
def test_an_adaptive_clip_norm_changes_the_range_and_no_step(clip: float) -> None:
    made = noised(chosen={"adaptive": True})
    how = made.masking(masked_round.masking(config(), ()), clip)
    first = made.masking(masked_round.masking(config(), ()), 1.0)
    assert noise_promise.multiplier(how) == pytest.approx(4.0)
    assert (how.norm_max, how.change_max) == (clip, clip)
    same = structs.replace(how, norm_max=1.0, change_max=1.0)
    assert same == first
    # What is told of all norms fits a whole word.
    most = round_rules.invited_max(config()) * noise_promise.indicator_steps(how) + 13 * math.sqrt(
        3
    ) * noise_promise.deviation(how)
    assert most < 2**31


@pytest.mark.parametrize(("balance", "end"), [(1e6, 1 / 64), (-1e6, 64.0)])
def test_one_device_that_lies_in_every_round_moves_the_clip_norm_so_far_and_no_further(
    balance: float, end: float
) -> None:
    """What it tells of its norm is masked, and may outweigh all others."""
    made, clip = noised(chosen={"adaptive": True, "clip_norm": 0.5}), 0.5
    for _ in range(60):
        before, clip = clip, made.following(clip, balance)
        assert 0.9 < clip / before < 1.11
    assert clip == 0.5 * end


def test_few_bits_cost_noise_by_the_models_size() -> None:
    few = {"value_bits": 8, "change_max": 0.05, "rotate": True}
    small, large = noised(650, privacy=few), noised(50_000, privacy=few)
    assert 1 < small.plan.grid.coarseness < large.plan.grid.coarseness < 1.1
    assert small.plan.grid.numbers == 1024
    assert large.plan.noise_on_sums > 4.0 * math.sqrt(3)
    assert noised().plan.grid.coarseness == pytest.approx(1.0, rel=1e-5)
    # What they cost beside is in what is promised, and there is no more at the end.
    promised = large.plan.epsilon_max
    assert 1.0003 < promised / gaussian.epsilon(4.0, 10, DELTA) < 1.01
    assert large.plan.epsilon(10, 30, 50_000) == promised
    assert f"epsilon {promised:.4g} at delta" in large.plan.sentence()


def test_words_that_are_too_short_are_refused_with_what_fits() -> None:
    with pytest.raises(SettingsError, match="would take more than 32 bits") as told:
        noised(rounds={"cohort": 3000})
    fits = int(str(told.value).split("privacy.value_bits = ")[1].split(" ")[0])
    assert fits == 19
    noised(rounds={"cohort": 3000}, privacy={"value_bits": fits})
    with pytest.raises(SettingsError, match="would take"):
        noised(rounds={"cohort": 3000}, privacy={"value_bits": fits + 1})
    with pytest.raises(SettingsError, match="more than 16777216 steps"):
        noised(chosen={"noise_multiplier": 100.0})


def test_a_clip_norm_below_a_step_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"clip_norm is 0\.01, less than the step 0\.143"):
        noised(chosen={"clip_norm": 0.01}, privacy={"value_bits": 4})


def test_steps_that_are_too_coarse_are_refused_with_what_does() -> None:
    coarse = {"value_bits": 10, "change_max": 10.0}
    with pytest.raises(SettingsError, match="is too coarse for epsilon") as told:
        noised(10_000, privacy=coarse)
    said = str(told.value)
    bits = int(said.split("privacy.value_bits = ")[1].split(",")[0])
    change = float(said.rsplit(" ", 1)[1])
    for better in ({"value_bits": bits}, {"change_max": change}):
        made = noised(10_000, privacy=coarse | better)
        slack = noise.grid_slack(made.plan.grid.deviation, 10_000 * 10)
        assert slack <= 0.01 * made.plan.epsilon_max


def test_noise_that_drowns_the_model_is_all_of_it() -> None:
    plan = noised(chosen={"noise_multiplier": 1.0}).plan
    # sqrt(3 * 3,300) = 99.5, and sqrt(3 * 3,400) = 101: of a cohort of 100.
    assert differential_privacy.drowning(plan, 3_300, 100) == ""
    said = differential_privacy.drowning(plan, 3_400, 100)
    assert "a model of up to 3333 numbers works" in said
    assert "from rounds.cohort = 101 on" in said


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"privacy": {"aggregation": "plain"}}, 'set it to "central", or privacy.aggregation to'),
        ({"chosen": {"mechanism": "tree"}}, "keys that outlive their round"),
        ({"privacy": {"weight_max": 5}}, "privacy.weight_max is 5"),
        ({"privacy": {"norm_max": 5.0}}, "differential_privacy.clip_norm is what counts"),
        ({"aggregation": "mifa"}, "more from single answers|each answer to what"),
        ({"selection": "oort"}, "goes by"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], why: str) -> None:
    checks.check(config())
    with pytest.raises(SettingsError, match=why):
        checks.check(config(**changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rounds": {"mode": "asynchronous"}}, "rounds.mode is"),
        ({"evaluation": Evaluation(every=1)}, "evaluation.every is 1"),
    ],
)
def test_what_noise_does_not_reach_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=f'noise is "keyholders", and {why}'):
        noise_checks.plan(config(**changes))


def test_central_noise_under_masks_is_pointed_to_keyholders() -> None:
    with pytest.raises(SettingsError, match='set it to "keyholders"'):
        checks.check(config(chosen={"noise": "central"}))


def test_a_run_begun_with_others_keyholders_promises_something_else() -> None:
    plans = [
        noise_checks.plan(config(privacy=one))
        for one in ({}, {"aggregation": "trusted"}, {"places": 4, "tolerated": 2})
    ]
    assert len({one.chosen for one in plans if one is not None}) == 3
