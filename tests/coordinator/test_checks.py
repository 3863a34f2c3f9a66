"""Settings that are each allowed, and together impossible."""

import pytest

from coordinator import checks, quiet_checks
from coordinator.config import FederationConfig
from fedmqtt import settings
from fedmqtt.settings import SettingsError

QUIET = ("selection=sortition", "selection_settings.fleet=10")
LEAST = ['name="ward-7"', 'task="learning_tasks.linear"']


def check(*overrides: str) -> None:
    checks.check(settings.read(None, [*LEAST, *overrides], FederationConfig))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["codec=gzip"], "codec: there is no 'gzip'; choose one of: bfloat16, eden,"),
        (["selection=first"], "selection: there is no 'first'; choose one of: by_speed"),
        (["aggregation=best"], "aggregation: there is no 'best'; choose one of: bulyan"),
        (["rounds.quorum=11"], "rounds.quorum is 11, more than rounds.cohort = 10"),
        (
            ["tuning.over_selection_min=3"],
            "tuning.over_selection_min is 3, more than tuning.over_selection_max = 2",
        ),
        (
            ["tuning.over_selection_min=1.5"],
            "tuning.over_selection_min is 1.5, more than rounds.over_selection = 1.3",
        ),
        (
            ["tuning.over_selection_max=1.2"],
            "rounds.over_selection is 1.3, more than tuning.over_selection_max = 1.2",
        ),
        (
            ["tuning.deadline_min_s=1000"],
            "tuning.deadline_min_s is 1000, more than rounds.deadline_s = 300",
        ),
        (
            ["limits.quarantine_s=100000"],
            "limits.quarantine_s is 100000, more than limits.quarantine_max_s = 86400",
        ),
        (
            ["ledger=mysql://server/fleet"],
            "ledger is 'mysql://server/fleet': expected \"sqlite\"",
        ),
        (["ledger=postgresql"], 'ledger is \'postgresql\': expected "sqlite" or "postgresql://'),
        (
            ["ledger=postgres://ann:secret@server/fleet"],
            "ledger is 'postgres://ann@server/fleet' with a password in it: settings are shown",
        ),
        (
            ["ledger=postgresql://server/fleet?user=ann&password=secret"],
            "ledger is 'postgresql://server/fleet' with a password in it",
        ),
        (
            ["ledger=postgresql://ann@server/fleet", "aggregation=mifa"],
            "aggregation is 'mifa', which keeps a vector of each client in the run's folder",
        ),
        (
            ["checkpoint.store=minio"],
            "checkpoint.store is 'minio': expected \"s3://BUCKET/PREFIX\"",
        ),
        (
            ["checkpoint.store=s3://ann:secret@bucket"],
            "checkpoint.store has an account in it: settings are shown around. Leave it out",
        ),
        (["slow_links.codec=zip"], "slow_links.codec: there is no 'zip'; choose one of: "),
        (
            ["codec=eden", "slow_links.codec=eden"],
            "slow_links.codec is 'eden', as codec is: leave it out",
        ),
        (
            ["codec=topk(share=0.01)+int8", "aggregation=median"],
            "codec 'topk(share=0.01)+int8' sends other numbers of each client",
        ),
        (
            ["codec=lowrank(rank=2)+int8", "aggregation=krum"],
            "codec 'lowrank(rank=2)+int8' sends other numbers of each client",
        ),
        (
            ["slow_links.codec=eden", "aggregation=krum"],
            "slow_links.codec is 'eden', and aggregation = 'krum' compares updates",
        ),
        (
            ["rounds.mode=asynchronous", "selection=sortition"],
            "selection is 'sortition' and rounds.mode is \"asynchronous\"",
        ),
        (
            ["codec=part(share=0.25)+eden", "aggregation=multi_krum", "late.policy=weigh"],
            "codec 'part(share=0.25)+eden' sends other numbers in each round, and aggregation =",
        ),
        (
            ["codec=part(share=0.25)+eden", "aggregation=median", "rounds.mode=asynchronous"],
            "codec 'part(share=0.25)+eden' sends other numbers in each round, and aggregation =",
        ),
        (
            [*QUIET, "rounds.cohort=11"],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " rounds.cohort is 11, more than there may be",
        ),
        (
            [*QUIET, "rounds.clients_min=5"],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " rounds.clients_min is 5",
        ),
        (
            [*QUIET, "evaluation.clients=0"],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " evaluation.clients is 0",
        ),
        (
            [*QUIET, "privacy.aggregation=keyholders", "privacy.floor=2"],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " privacy.aggregation is 'keyholders'",
        ),
        (
            [
                *QUIET,
                *("differential_privacy.noise=central", "differential_privacy.epsilon=8"),
                *("differential_privacy.noise_multiplier=1", "limits.change_max=1"),
                "evaluation.every=0",
            ],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " differential_privacy counts",
        ),
        (
            [*QUIET, "aggregation=mifa"],
            "selection_settings.fleet is 10, by which no client says that it is there, and"
            " aggregation is 'mifa'",
        ),
        (["late.rounds_max=16"], "late.rounds_max is 16: more than 15 need rounds.mode ="),
        (
            ["rounds.mode=asynchronous", "late.policy=buffer"],
            'late.policy is "buffer" and rounds.mode is "asynchronous", where rounds.cohort = 10',
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_both_values(
    overrides: list[str], complaint: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        check(*overrides)
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["rounds.quorum=10"],
        ["codec=int8", "slow_links.codec=eden", "slow_links.below_kbps=64"],
        # A bound that nobody chose gives way.
        ["rounds.deadline_s=10"],
        ["rounds.over_selection=5"],
        ["tuning.deadline_min_s=300", "tuning.over_selection_min=1.3"],
        ["tuning.over_selection_max=1.3"],
        ["late.rounds_max=15"],
        ["codec=part(share=0.25)+eden", "aggregation=multi_krum"],
        ["rounds.mode=asynchronous", "late.rounds_max=1000", "late.policy=weigh"],
        [*QUIET, "late.policy=weigh", "aggregation=fedadam", "codec=eden"],
        # Nothing is learned: the bounds bound nothing.
        ["tuning.enabled=false", "tuning.over_selection_min=3", "tuning.deadline_min_s=1000"],
    ],
)
def test_what_can_be_is_let_pass(overrides: list[str]) -> None:
    check(*overrides)


def test_of_a_quiet_fleet_so_many_are_asked_to_measure_as_somebody_says() -> None:
    quiet = settings.read(None, [*LEAST, *QUIET, "evaluation.clients=0"], FederationConfig)
    with pytest.raises(SettingsError, match="say how many with --clients"):
        quiet_checks.check_job(quiet, "evaluate")
    some = settings.read(None, [*LEAST, *QUIET], FederationConfig)
    quiet_checks.check_job(some, "evaluate")
    loud = settings.read(None, [*LEAST, "evaluation.clients=0"], FederationConfig)
    quiet_checks.check_job(loud, "evaluate")
