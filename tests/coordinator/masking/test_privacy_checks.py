"""What goes with masked answers and what does not, as refused at start."""

import re
from pathlib import Path

import pytest
from msgspec import structs

from coordinator import aggregation, checks, privacy
from coordinator.config import Evaluation, FederationConfig
from coordinator.intake.trust import Trust
from coordinator.masking import masked_round, privacy_checks
from fedmqtt import committee_promise, parts, settings
from fedmqtt.messages import Keyholder, RoundKey
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId

DOCS = Path(__file__).parents[3] / "docs"
MASKED = [
    *('name="ward-7"', 'task="learning_tasks.linear"', "privacy.aggregation=keyholders"),
    "rounds.quorum=10",
]
COMMITTEE = [
    *("privacy.aggregation=committee", 'privacy.experiments=["committee"]'),
    *("privacy.value_bits=14", "rounds.cohort=20", "late.policy=discard"),
]
ASYNCHRONOUS = ["rounds.mode=asynchronous", "evaluation.every=0"]
KH = tuple((ClientId(f"kh-{place}"), "k" * 43 + "=") for place in range(3))


def config(*overrides: str) -> FederationConfig:
    return settings.read(None, [*MASKED, *overrides], FederationConfig)


@pytest.mark.parametrize(
    ("overrides", "who"),
    [
        (["privacy.aggregation=plain"], "plain: the coordinator can read each device's answer"),
        (
            [],
            "keyholders: answers are masked; any 2 of 3 keyholders open a sum of 10 or more, and"
            " together with the coordinator could read each",
        ),
        (
            ["privacy.places=4", "privacy.tolerated=2", "privacy.floor=7"],
            "keyholders: answers are masked; any 3 of 4 keyholders open a sum of 7 or more, and"
            " together with the coordinator could read each",
        ),
        (
            ["privacy.aggregation=trusted"],
            "trusted: answers are masked; one aggregator, which everybody trusts, opens a sum of 10"
            " or more, and together with the coordinator could read each",
        ),
    ],
)
def test_who_can_read_what_is_one_sentence(overrides: list[str], who: str) -> None:
    assert masked_round.who_reads(config(*overrides)) == who


@pytest.mark.parametrize("page", ["masked-rounds.md", "privacy.md"])
def test_a_federation_begins_with_what_pages_give_for_noise_by_keyholders(
    page: str, tmp_path: Path
) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (block,) = [one for one in blocks if 'noise = "keyholders"' in one]
    (file := tmp_path / "federation.toml").write_text(block)
    chosen = settings.read(file, MASKED, FederationConfig)
    assert chosen.differential_privacy.noise == "keyholders"
    checks.check(chosen)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["privacy.aggregation=secret"], "privacy.aggregation: there is no 'secret'; choose one"),
        (
            ["rounds.mode=asynchronous", "evaluation.every=1"],
            'rounds.mode is "asynchronous", and evaluation.every is 1: the sum of what clients',
        ),
        (
            [*ASYNCHRONOUS, "privacy.share=0.5", "privacy.rotate=true"],
            'rounds.mode is "asynchronous", and privacy.share is 0.5 and privacy.rotate is true:',
        ),
        (
            [*ASYNCHRONOUS, "rounds.concurrency=2000"],
            "a sum may have 16000 answers, each 8 times, and masked sums take 65535 in all: lower",
        ),
        (["late.policy=weigh"], "late.policy is 'weigh': an answer is masked for its own round"),
        (["rounds.quorum=9"], "rounds.quorum is 9, less than privacy.floor = 10"),
        (["evaluation.fine_tune_epochs=1"], "evaluation.fine_tune_epochs is 1: under the mask"),
        (["selection=oort"], "selection is 'oort', which goes by samples and losses"),
        (["selection=power_of_choice"], "selection is 'power_of_choice', which goes by"),
        (["codec=int8"], "codec is 'int8', and masked numbers have a form of their own"),
        (["slow_links.codec=eden"], "slow_links.codec is 'eden': all must mask"),
        (["privacy.tolerated=3"], "privacy.tolerated is 3, of privacy.places = 3"),
        (
            ["privacy.places=4"],
            "two halves of the keyholders could open two sums; privacy.tolerated = 2",
        ),
        (
            ["rounds.cohort=5000", "rounds.over_selection=1"],
            "privacy.value_bits is 20, and the sum of the 10000 clients that a round may invite"
            " would take more than 32 bits: privacy.value_bits = 18 fits",
        ),
        (["rounds.cohort=40000"], "a round may invite 80000 clients, and masked sums take 65535"),
        (
            ["sites.clients_max=250"],
            "privacy.value_bits is 20, and the sum of the 20 clients that a round may invite, each"
            " for 250 devices, would take more than 32 bits: privacy.value_bits = 19 fits, or a"
            " smaller rounds.cohort or sites.clients_max",
        ),
        (
            ["sites.clients_max=4000"],
            "a round may invite 20 clients, each of which may stand for 4000 devices"
            " (sites.clients_max), and masked sums take 65535 in all: lower sites.clients_max",
        ),
        (["aggregation=median"], "aggregation is 'median', which needs single changes"),
        (["aggregation=mifa"], "aggregation is 'mifa', which adds each answer to what the same"),
        (["aggregation=scaffold"], "aggregation is 'scaffold', which adds each answer to what"),
        (["aggregation=fednova"], "aggregation is 'fednova', which needs a figure of each client"),
        (["aggregation=qfedavg"], "aggregation is 'qfedavg', which needs a figure of each client"),
        (["aggregation=fedau"], "aggregation is 'fedau', which needs a figure of each client"),
        (
            [
                *("differential_privacy.noise=central", "differential_privacy.epsilon=4"),
                "differential_privacy.participations_max=20",
            ],
            "privacy.aggregation is 'keyholders', under which the coordinator sees no single",
        ),
    ],
)
def test_what_does_not_go_with_masks_is_refused_with_the_reason(
    overrides: list[str], complaint: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        checks.check(config(*overrides))
    assert complaint in str(refused.value)
    # Nothing of it holds where answers can be read.
    if "privacy" not in complaint and overrides != ["late.policy=weigh"]:
        checks.check(config(*overrides, "privacy.aggregation=plain"))


def test_asynchronous_rounds_are_masked_by_keys_for_several_lists() -> None:
    chosen = config(*ASYNCHRONOUS, "privacy.key_rounds=5")
    checks.check(chosen)
    keyholders = tuple(
        Keyholder(name, place, RoundKey(1, bytes(32), bytes(64)))
        for place, (name, _) in enumerate(KH[:2])
    )
    how = masked_round.masking(chosen, keyholders)
    assert (how.lists_max, how.times_max) == (5, 8)
    # 160 answers may come into a sum, each 8 times.
    assert how.bits == (2 * (2**19 - 1) * 160 * 8).bit_length()
    plain = masked_round.masking(config(), keyholders)
    assert (plain.lists_max, plain.times_max) == (1, 1)


def test_sums_without_noise_are_not_told_where_noise_is_promised() -> None:
    chosen = config()
    noisy = structs.replace(chosen.differential_privacy, noise="keyholders")
    chosen = structs.replace(chosen, differential_privacy=noisy)
    with pytest.raises(SettingsError, match=r"evaluation\.every is 1, and .* exactly"):
        privacy_checks.check(chosen)
    privacy_checks.check(structs.replace(chosen, evaluation=Evaluation(every=0)))


@pytest.mark.parametrize("mode", ["trusted", "keyholders"])
@pytest.mark.parametrize(
    "selection", ["uniform", "round_robin", "sortition", "stratified", "by_speed"]
)
def test_what_can_be_is_let_pass(mode: str, selection: str) -> None:
    checks.check(config(f"privacy.aggregation={mode}", f"selection={selection}"))


@pytest.mark.parametrize("name", parts.names(aggregation))
def test_each_strategy_is_taken_or_told_why_not(name: str) -> None:
    if getattr(parts.load(aggregation, name), "MEAN_ALONE", False):
        checks.check(config(f"aggregation={name}"))
        return
    with pytest.raises(SettingsError, match=f"aggregation is '{name}', which .* choose one of: "):
        checks.check(config(f"aggregation={name}"))


def test_the_modulus_is_as_large_as_the_sum_of_all_that_are_invited() -> None:
    # 20 clients of 4 bits: sums from -7 * 20 to 7 * 20 are 281 numbers.
    chosen = config("privacy.value_bits=4", "tuning.enabled=false", "rounds.over_selection=2")
    assert masked_round.bits(chosen) == 9


@pytest.mark.parametrize("purpose", ["evaluate", "describe"])
def test_what_asks_single_clients_for_figures_is_refused(purpose: str) -> None:
    with pytest.raises(SettingsError, match="asks each client for figures that can be read"):
        privacy_checks.check_job(config(), purpose)  # type: ignore[arg-type]
    privacy_checks.check_job(config("privacy.aggregation=plain"), purpose)  # type: ignore[arg-type]


def test_without_keys_or_enough_keyholders_nothing_is_masked() -> None:
    with pytest.raises(SettingsError, match="no credentials are given: set"):
        privacy_checks.check_trust(config(), None)
    with pytest.raises(SettingsError, match="these credentials hold no keys"):
        privacy_checks.check_trust(config("broker.credentials=coordinator.toml"), None)
    few = Trust(federation_key="k", keyholders=KH[:2])
    with pytest.raises(SettingsError, match="takes 3 keyholders, and the credentials name 2"):
        privacy_checks.check_trust(config(), few)
    privacy_checks.check_trust(config("privacy.aggregation=trusted"), few)
    privacy_checks.check_trust(config("privacy.aggregation=plain"), None)


def test_who_runs_in_the_open_with_keyholders_enrolled_is_told_what_devices_do() -> None:
    plain = config("privacy.aggregation=plain")
    enrolled = Trust(federation_key="k", keyholders=KH)
    assert "devices that know of them decline" in privacy_checks.notice(plain, enrolled)
    assert not privacy_checks.notice(config(), enrolled)
    assert not privacy_checks.notice(plain, Trust(federation_key="k", keyholders=()))
    assert not privacy_checks.notice(plain, None)


def test_who_has_keys_for_longer_than_keyholders_keep_them_is_told() -> None:
    asynchronous = ("rounds.mode=asynchronous", "evaluation.every=0", "privacy.key_rounds=10")
    trust = Trust(federation_key="k", keyholders=KH)
    # Half of seven days, in ten rounds.
    said = privacy_checks.notice(config(*asynchronous, "rounds.deadline_s=30240"), trust)
    assert "--mixed-rounds" in said and "so many rounds" not in said
    for daily in ("rounds.deadline_s=86400", "rounds.pause_s=86100"):
        said = privacy_checks.notice(config(*asynchronous, daily), trust)
        assert "so many rounds may take 10 days" in said and said.endswith("--keep-days 20 or more")
    # One key is for one of them.
    assert not privacy_checks.notice(config("rounds.deadline_s=86400"), trust)


@pytest.mark.parametrize("mode", parts.names(privacy))
def test_each_mode_says_whether_it_masks_and_for_how_many(mode: str) -> None:
    chosen = config(f"privacy.aggregation={mode}", "privacy.value_bits=14")
    if not masked_round.is_masked(chosen):
        assert mode == "plain"
        return
    places, tolerated = masked_round.places(chosen)
    assert 0 <= tolerated < places
    key = RoundKey(1, b"p" * 32, b"s" * 64)
    masking = masked_round.masking(chosen, (Keyholder(ClientId("kh-a"), 0, key),))
    assert (masking.mode, masking.places, masking.tolerated) == (mode, places, tolerated)
    assert masking.floor == 10


# A committee


def test_a_committee_takes_two_words_of_who_runs_the_federation() -> None:
    checks.check(config(*COMMITTEE))
    with pytest.raises(SettingsError) as told:
        checks.check(config(*COMMITTEE, "privacy.experiments=[]"))
    assert str(told.value).startswith(
        "privacy.aggregation is 'committee': that is an experiment, which no cryptographer has"
        " reviewed (docs/committee.md); if it is what you want, set privacy.experiments ="
        ' ["committee"] too'
    )
    with pytest.raises(SettingsError, match=r"privacy\.experiments"):
        config('privacy.experiments=["pairwise"]')
    # To allow it is not to choose it.
    checks.check(config('privacy.experiments=["committee"]'))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (ASYNCHRONOUS, 'rounds.mode is "asynchronous": a sum is of answers to several rounds'),
        (
            [
                *("differential_privacy.noise=keyholders", "differential_privacy.epsilon=4"),
                *("differential_privacy.participations_max=20", "evaluation.every=0"),
            ],
            "differential_privacy.noise is 'keyholders': who opens a sum of keys adds no noise",
        ),
        (["differential_privacy.noise=central"], "differential_privacy.noise is 'central': who"),
        (
            ["rounds.cohort=256", "rounds.over_selection=1"],
            "a round may invite 512 clients, and masked sums take 511: lower rounds.cohort",
        ),
        (
            ["privacy.value_bits=15"],
            "privacy.value_bits is 15, and the sum of the 40 clients that a round may invite would"
            " take more than 32 bits, 12 of them for errors: privacy.value_bits = 14 fits",
        ),
        (["privacy.tolerated=3"], "privacy.tolerated is 3, of privacy.places = 3"),
        (["aggregation=median"], "aggregation is 'median', which needs single changes"),
        (["late.policy=weigh"], "late.policy is 'weigh': an answer is masked for its own round"),
    ],
)
def test_what_does_not_go_with_a_committee_is_refused_with_the_reason(
    overrides: list[str], complaint: str
) -> None:
    with pytest.raises(SettingsError) as told:
        checks.check(config(*COMMITTEE, *overrides))
    assert complaint in str(told.value)


def test_a_masked_sum_has_room_for_the_devices_of_all_sites() -> None:
    alone, sites = (
        config("privacy.value_bits=14", *more) for more in ([], ["sites.clients_max=50"])
    )
    checks.check(sites)
    flat = config("privacy.value_bits=14", "rounds.cohort=500")
    of = {name: masked_round.masking(one, ()) for name, one in (("sites", sites), ("flat", flat))}
    # As many as one federation of as many devices takes; the floor is still of answers.
    assert of["sites"].bits == of["flat"].bits > masked_round.masking(alone, ()).bits
    assert (of["sites"].clients_max, of["flat"].clients_max) == (50, 1)
    assert of["sites"].floor == masked_round.masking(alone, ()).floor


@pytest.mark.parametrize("cohort", [10, 20, 100, 255])
def test_what_a_committee_is_offered_leaves_room_for_all_errors(cohort: int) -> None:
    members = tuple(
        Keyholder(name, place, RoundKey(1, bytes([place]) * 32, bytes(64)))
        for place, (name, _) in enumerate(KH)
    )
    few = ("privacy.value_bits=4", "privacy.rotate=true", f"rounds.cohort={cohort}")
    chosen = config(*COMMITTEE, *few)
    checks.check(chosen)
    first = masked_round.masking(chosen, members)
    later = masked_round.masking(chosen, members, ranges=(0.5,))
    for how in (first, later):
        assert not committee_promise.fault(how)
        assert how.guard == committee_promise.guard_bits(2 * cohort)
    # While no ranges are known, as fine as there is room for.
    assert first.bits + first.guard <= 32 and 4 < first.value_bits <= 16
    assert later.value_bits == 4
