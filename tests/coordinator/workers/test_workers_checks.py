"""What does not go together with workers is refused at the start, with the reason and a way out."""

import pytest

from coordinator import aggregation, checks, local_method
from coordinator.config import (
    FederationConfig,
    LateAnswers,
    Privacy,
    Rounds,
    Workers,
)
from coordinator.noise.differential_privacy import DifferentialPrivacy
from coordinator.sums.answers import Answers
from coordinator.workers import checks as workers_checks
from fedmqtt import parts
from fedmqtt.settings import SettingsError

_WORKERS = Workers(lanes=4)


def config(**more: object) -> FederationConfig:
    return FederationConfig(name="ward-7", task="t", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"aggregation": "median"}, "aggregation = 'median' goes by more than the sum"),
        ({"aggregation": "mifa"}, "those that go by it alone are fedadagrad, fedadam, fedavg,"),
        ({"rounds": Rounds(mode="asynchronous")}, 'rounds.mode is "asynchronous"'),
        ({"late": LateAnswers(policy="weigh")}, "late.policy is 'weigh'"),
        ({"privacy": Privacy(aggregation="trusted")}, "privacy.aggregation is 'trusted'"),
        ({"privacy": Privacy(aggregation="keyholders")}, "privacy.aggregation is 'keyholders'"),
        (
            {
                "differential_privacy": DifferentialPrivacy(
                    noise="central", epsilon=8.0, participations_max=10
                )
            },
            "differential_privacy asks for noise",
        ),
    ],
)
def test_what_workers_cannot_do_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=r"workers\.lanes is 4") as refused:
        workers_checks.check(config(workers=_WORKERS, **more))
    assert said in str(refused.value)
    assert "leave workers.lanes out" in str(refused.value)
    workers_checks.check(config(**more))


@pytest.mark.parametrize("strategy", parts.names(aggregation))
def test_each_strategy_works_with_workers_or_is_refused(strategy: str) -> None:
    """What is let in keeps one exact sum, and what it asks of clients goes by no earlier answer."""
    asked = config(workers=_WORKERS, aggregation=strategy)
    try:
        workers_checks.check(asked)
    except SettingsError:
        return
    checks.check(asked)
    answers = Answers(asked, 3, 2)
    _, exact = answers.partial(20)
    assert exact.total.tolist() == [0, 0, 0]
    answers.begin(2)
    assert not answers.judges and not local_method.asked(asked).is_chained
