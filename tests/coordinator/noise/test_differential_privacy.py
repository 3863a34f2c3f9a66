"""What a run promises, from the settings; and what it does not go together with."""

import math
from typing import Any

import msgspec
import pytest

from coordinator import checks
from coordinator.config import FederationConfig, LateAnswers, Rounds
from coordinator.noise import differential_privacy, noise_checks
from coordinator.noise.differential_privacy import DifferentialPrivacy, Plan
from coordinator.statistics import job
from fedmqtt import settings
from fedmqtt.privacy import gaussian, tree
from fedmqtt.settings import SettingsError

DELTA = 1e-5


def plan(rounds: int = 20, **chosen: Any) -> Plan:
    made = differential_privacy.plan(DifferentialPrivacy(noise="central", **chosen), rounds)
    assert made is not None
    return made


def config(aggregation: str = "fedavg", **more: Any) -> FederationConfig:
    chosen = DifferentialPrivacy(
        noise="central", noise_multiplier=1.0, participations_max=5, **more.pop("chosen", {})
    )
    return FederationConfig(
        name="f",
        task="learning_tasks.linear",
        aggregation=aggregation,
        differential_privacy=chosen,
        **more,
    )


def test_nothing_is_promised_where_nobody_asks() -> None:
    assert differential_privacy.plan(DifferentialPrivacy(), 20) is None


def test_epsilon_follows_from_noise_and_participations() -> None:
    assert plan(noise_multiplier=4.0, participations_max=10).epsilon_max == pytest.approx(
        3.3414, abs=5e-5
    )


def test_noise_follows_from_epsilon_and_participations() -> None:
    made = plan(epsilon=2.0, participations_max=10)
    assert made.epsilon_max == pytest.approx(2.0, rel=1e-9)
    assert made.epsilon_max <= 2.0


def test_participations_follow_from_epsilon_and_noise() -> None:
    made = plan(rounds=0, epsilon=5.0, noise_multiplier=4.0)
    assert made.participations_max == 20  # 4.98 at 20, by the table.
    assert made.epsilon_max <= 5.0


def test_more_participations_than_rounds_are_none() -> None:
    assert plan(rounds=7, epsilon=5.0, noise_multiplier=4.0).participations_max == 7


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"epsilon": 1.0},
        {"epsilon": 1.0, "noise_multiplier": 1.0, "participations_max": 1},
    ],
)
def test_two_of_three_must_be_given(chosen: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="two must be given"):
        plan(**chosen)


def test_too_little_noise_for_any_participation_is_told_with_what_would_do() -> None:
    with pytest.raises(SettingsError, match="takes a noise_multiplier of") as told:
        plan(epsilon=1.0, noise_multiplier=0.5)
    enough = float(str(told.value).rsplit(" ", 1)[1])
    assert plan(epsilon=1.0, noise_multiplier=enough).participations_max == 1
    assert gaussian.sigma(1.0, 1, DELTA) == pytest.approx(enough, rel=0.01)


def test_what_is_set_in_vain_is_told() -> None:
    with pytest.raises(SettingsError, match=r"differential_privacy\.epsilon is set"):
        differential_privacy.plan(DifferentialPrivacy(epsilon=1.0), 20)


def test_so_far_it_costs_what_the_device_with_most_participations_has_given() -> None:
    made = plan(noise_multiplier=4.0, participations_max=20)
    assert made.epsilon(0, 3, 650) == 0.0
    spent = [made.epsilon(count, count, 650) for count in (1, 5, 20)]
    assert spent == pytest.approx([0.9263, 2.2581, 4.9833], abs=5e-5)
    # What whole numbers cost beside: above, and by next to nothing.
    assert made.epsilon_max <= spent[-1] <= made.epsilon_max + 1e-9


@pytest.mark.parametrize(
    "chosen", [{}, {"adaptive": True}, {"mechanism": "tree"}], ids=["noise", "adaptive", "tree"]
)
def test_what_is_spent_at_the_end_is_never_told_as_more_than_all(chosen: dict[str, Any]) -> None:
    """Not by a last digit: who alarms at what exceeds it would do so at the end of each run."""
    made = plan(rounds=50, epsilon=8.0, participations_max=4, **chosen)
    for count in range(5):
        assert made.epsilon(count, 50, 1_600_000) <= made.epsilon_at_end(1_600_000)
    at_end = made.epsilon_at_end(1_600_000)
    assert made.epsilon(4, 50, 1_600_000) == at_end
    assert made.epsilon(4, 51, 1_600_000) == at_end, "as of the last evaluation"
    assert at_end == pytest.approx(8.0, rel=1e-5)


def test_the_steps_of_the_grid_promise_no_less_than_the_noise_multiplier() -> None:
    for multiplier in (0.01, 0.3, 1.0, 7.7, 1000.0):
        fixed = plan(noise_multiplier=multiplier, participations_max=1)
        both = plan(noise_multiplier=multiplier, participations_max=1, adaptive=True)
        assert fixed.indicator_units == 0
        for made in (fixed, both):
            changed = math.hypot(made.clip_units, 2 * made.indicator_units)
            assert differential_privacy.SIGMA / changed >= multiplier
            assert differential_privacy.SIGMA / changed == pytest.approx(multiplier, rel=1e-4)


def test_a_tree_costs_by_its_rounds_and_participations() -> None:
    made = plan(rounds=100, noise_multiplier=10.0, participations_max=2, mechanism="tree")
    exact = gaussian.epsilon(10.0, tree.sensitivity(100, 2), DELTA)
    assert made.epsilon_max == exact
    # After four rounds the tree is no higher than these.
    assert made.epsilon(1, 4, 1) == pytest.approx(gaussian.epsilon(10.0, 3, DELTA), abs=1e-9)
    given = plan(rounds=100, epsilon=exact, participations_max=2, mechanism="tree")
    assert given.sigma == pytest.approx(10.0, rel=1e-6)


def test_a_tree_needs_an_end_and_one_clip_norm() -> None:
    asked: dict[str, Any] = {"noise_multiplier": 10.0, "participations_max": 2, "mechanism": "tree"}
    with pytest.raises(SettingsError, match=r"rounds\.count is 0"):
        plan(rounds=0, **asked)
    with pytest.raises(SettingsError, match="adaptive"):
        plan(adaptive=True, **asked)


def test_a_tree_takes_no_late_answers() -> None:
    late = LateAnswers(policy="weigh")
    asked = {"mechanism": "tree"}
    with pytest.raises(SettingsError, match=r"late\.policy"):
        checks.check(config(late=late, chosen=asked))
    with pytest.raises(SettingsError, match=r"late\.policy"):
        checks.check(config(rounds=Rounds(mode="asynchronous"), chosen=asked))
    checks.check(config(late=late))


@pytest.mark.parametrize(
    "aggregation",
    ["mifa", "scaffold", "fedvarp", "fedau", "fednova", "qfedavg", "fedexp", "fedasync"],
)
def test_what_keeps_or_weighs_single_answers_is_refused(aggregation: str) -> None:
    with pytest.raises(SettingsError, match="more from single answers"):
        noise_checks.plan(config(aggregation))


@pytest.mark.parametrize("aggregation", ["median", "krum", "norm_clipping", "geometric_median"])
def test_what_compares_answers_is_refused_with_what_may_be_chosen(aggregation: str) -> None:
    with pytest.raises(SettingsError, match="Choose one of: fedadagrad, fedadam, fedavg"):
        checks.check(config(aggregation))


@pytest.mark.parametrize("selection", ["oort", "power_of_choice", "by_speed"])
def test_who_is_invited_must_not_follow_from_data(selection: str) -> None:
    with pytest.raises(SettingsError, match="round_robin, sortition, stratified, uniform"):
        checks.check(config(selection=selection))


@pytest.mark.parametrize(
    "aggregation",
    ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedsgd", "fedbuff"],
)
def test_means_are_taken(aggregation: str) -> None:
    assert noise_checks.plan(config(aggregation)) is not None


def test_statistics_are_sums_without_noise_and_refused() -> None:
    with pytest.raises(SettingsError, match="sums without noise"):
        job.settle(config())


def test_noise_that_drowns_the_model_is_told_with_what_works() -> None:
    made = plan(noise_multiplier=1.0, participations_max=1)
    said = differential_privacy.drowning(made, 1_600_000, 100)
    assert "norm 12.6 over 1600000 numbers, and the mean itself at most 1" in said
    assert "a model of up to 10000 numbers works" in said
    assert "from rounds.cohort = 1265 on" in said
    assert differential_privacy.drowning(made, 10_000, 100) == ""
    assert differential_privacy.drowning(made, 1_600_000, 1265) == ""


def test_the_sentence_tells_what_is_outside() -> None:
    said = plan(noise_multiplier=4.0, participations_max=10).sentence()
    assert "epsilon 3.341 at delta 1e-05" in said
    assert "not in it: who took part and when" in said


def test_it_is_set_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(
        'name = "f"\ntask = "t"\n[differential_privacy]\nnoise = "central"\nepsilon = 2\n'
        "participations_max = 10\n"
    )
    read = settings.read(path, [], FederationConfig).differential_privacy
    assert (read.noise, read.epsilon, read.participations_max) == ("central", 2.0, 10)
    again = msgspec.convert(msgspec.to_builtins(read), DifferentialPrivacy)
    assert again == read
