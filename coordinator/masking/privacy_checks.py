"""What goes with masked answers, and what does not: refused at start, with the reason.

A strategy that goes by the mean of the changes alone says so in its file, with MEAN_ALONE = True;
a selection policy that does not go by what clients tell of their data, with GOES_BY.
"""

import math
from typing import Final

from coordinator import aggregation, codec_choice, local_method, privacy, selection
from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from coordinator.masking import masked_round
from fedmqtt import parts
from fedmqtt.lists_promise import KEEP_DAYS
from fedmqtt.messages import Purpose


def check(config: FederationConfig) -> None:
    """Raises SettingsError; names the keys, their values, and what was expected."""
    if not masked_round.is_masked(config):
        return
    masked_round.places(config)
    _check_experiment(config)
    _check_rounds(config)
    _check_strategy(config)
    _check_numbers(config)
    masked_round.bits(config)


def check_job(config: FederationConfig, purpose: Purpose) -> None:
    """Raises SettingsError."""
    if purpose != "train" and masked_round.is_masked(config):
        what = "evaluates a model" if purpose == "evaluate" else "describes clients' data"
        raise masked_round.refused(
            config,
            f"a run that {what} asks each client for figures that can be read: give it a"
            ' federation.toml with privacy.aggregation = "plain"',
        )


def check_trust(config: FederationConfig, trust: Trust | None) -> None:
    """Whether the credentials are enough. Raises SettingsError."""
    if not masked_round.is_masked(config):
        return
    if trust is None:
        lack = "these credentials hold no keys"
        if not config.broker.credentials:
            lack = "no credentials are given"
        raise masked_round.refused(
            config,
            f"masked answers are signed by devices, and {lack}: set broker.credentials to"
            " KIT/accounts/coordinator.toml of a kit with keys",
        )
    wanted, _ = masked_round.places(config)
    if (enrolled := len(trust.keyholders)) < wanted:
        raise masked_round.refused(
            config,
            f"it takes {wanted} keyholders, and the credentials name {enrolled}: enroll them with"
            " `fedmqtt enroll KIT NAME --keyholder`, and copy the credentials anew",
        )


_MIXES: Final = (
    "sums of answers to several rounds are opened by keyholders that were started with"
    " --mixed-rounds alone, and devices that have answered synchronous rounds need"
    " privacy.mixed_rounds"
)
_TRIES: Final = (
    "members open these sums only if they were started with --serve committee, and devices answer"
    " only if their owners set privacy.experiments"
)


def notice(config: FederationConfig, trust: Trust | None) -> str:
    """What devices, or keyholders, will make of it, to be told at start; empty where there is
    nothing to tell."""
    if masked_round.mixes_rounds(config):
        return "; ".join(filter(None, (_MIXES, _outlived(config))))
    if config.privacy.aggregation in config.privacy.experiments:
        return _TRIES
    if masked_round.is_masked(config) or trust is None or not trust.keyholders:
        return ""
    return (
        'privacy.aggregation is "plain", and keyholders are enrolled: devices that know of them'
        " decline, unless their owners start them with --at-least plain"
    )


def _check_experiment(config: FederationConfig) -> None:
    """Whether it was said that it may be one; and what it leaves out."""
    chosen = config.privacy.aggregation
    if not getattr(parts.load(privacy, chosen), "EXPERIMENT", False):
        return
    if chosen not in config.privacy.experiments:
        raise masked_round.refused(
            config,
            "that is an experiment, which no cryptographer has reviewed (docs/committee.md); if it"
            f' is what you want, set privacy.experiments = ["{chosen}"] too, and let the owner of'
            ' each device do so; otherwise choose "keyholders"',
        )
    if config.rounds.mode == "asynchronous":
        raise masked_round.refused(
            config,
            'rounds.mode is "asynchronous": a sum is of answers to several rounds then, and those'
            ' have no key\'s product in common; set it to "synchronous"',
        )
    if config.differential_privacy.noise != "none":
        raise masked_round.refused(
            config,
            f"differential_privacy.noise is {config.differential_privacy.noise!r}: who opens a sum"
            " of keys adds no noise to the sum of answers, and nobody sees an answer to clip it;"
            ' set it to "none", or privacy.aggregation to "keyholders"',
        )


def _outlived(config: FederationConfig) -> str:
    """A key that is half as old as keyholders keep them may be the next one that is used."""
    key_rounds, longest_s = config.privacy.key_rounds, config.rounds.deadline_s
    lasts_days = key_rounds * (longest_s + config.rounds.pause_s) / 86_400
    if lasts_days <= KEEP_DAYS / 2:
        return ""
    return (
        f"privacy.key_rounds is {key_rounds}: so many rounds may take {lasts_days:.3g} days, by"
        " rounds.deadline_s and rounds.pause_s, and keyholders delete keys that they made"
        f" {KEEP_DAYS:g} days ago, up to half of which may have gone by when the first one begins:"
        f" lower it, or start keyholders with --keep-days {math.ceil(2 * lasts_days)} or more"
    )


def _check_rounds(config: FederationConfig) -> None:
    rounds = config.rounds
    if rounds.mode == "asynchronous":
        _check_asynchronous(config)
    if config.late.policy != "discard":
        raise masked_round.refused(
            config,
            f"late.policy is {config.late.policy!r}: an answer is masked for its own round, whose"
            ' keys are gone when it is late; set it to "discard"',
        )
    if rounds.quorum < config.privacy.floor:
        raise masked_round.refused(
            config,
            f"rounds.quorum is {rounds.quorum}, less than privacy.floor = {config.privacy.floor}:"
            " no sum of so few is opened; raise rounds.quorum, and rounds.cohort with it",
        )
    if config.evaluation.every and config.differential_privacy.noise not in ("none", "central"):
        raise masked_round.refused(
            config,
            f"evaluation.every is {config.evaluation.every}, and differential_privacy.noise is"
            f" {config.differential_privacy.noise!r}: the sum of what clients measure is told"
            " exactly, and noise promises that no sum is; set evaluation.every to 0",
        )
    if config.evaluation.fine_tune_epochs:
        raise masked_round.refused(
            config,
            f"evaluation.fine_tune_epochs is {config.evaluation.fine_tune_epochs}: under the mask"
            " clients measure the model as it is; set it to 0",
        )
    if selection.goes_by(parts.load(selection, config.selection)) == "data":
        raise masked_round.refused(
            config,
            f"selection is {config.selection!r}, which goes by samples and losses of each client,"
            " and those are not told; choose another",
        )


def _check_asynchronous(config: FederationConfig) -> None:
    chosen = config.privacy
    drawn = [
        f"privacy.{name} is {told}"
        for name, told, is_drawn in (
            ("share", f"{chosen.share:g}", chosen.share < 1),
            ("rotate", "true", chosen.rotate),
        )
        if is_drawn
    ]
    if drawn:
        raise masked_round.refused(
            config,
            f'rounds.mode is "asynchronous", and {" and ".join(drawn)}: which numbers are sent, and'
            " how they are rotated, is drawn for each round, and there answers to several come into"
            " one sum; leave it out",
        )
    if config.evaluation.every:
        raise masked_round.refused(
            config,
            f'rounds.mode is "asynchronous", and evaluation.every is {config.evaluation.every}: the'
            " sum of what clients measure would be of several models; set evaluation.every to 0",
        )


def _check_strategy(config: FederationConfig) -> None:
    strategy = parts.load(aggregation, config.aggregation)
    if getattr(strategy, "MEAN_ALONE", False):
        return
    taken = [
        name
        for name in parts.names(aggregation)
        if getattr(parts.load(aggregation, name), "MEAN_ALONE", False)
    ]
    method = local_method.asked(config)
    if method.is_chained:
        why = "adds each answer to what the same client gave before"
    elif method.partial or method.tells_loss or method.interval_max:
        why = "needs a figure of each client beside its change"
    else:
        why = "needs single changes, or knows whose they are"
    raise masked_round.refused(
        config,
        f"aggregation is {config.aggregation!r}, which {why}, and nothing but the weighted mean of"
        f" all is ever known; choose one of: {', '.join(taken)}",
    )


def _check_numbers(config: FederationConfig) -> None:
    if (codec := codec_choice.main(config)) != "full":
        raise masked_round.refused(
            config,
            f"codec is {codec!r}, and masked numbers have a form of their own; set it to"
            ' "full", and privacy.share, privacy.rotate and privacy.value_bits for fewer bytes',
        )
    if config.slow_links.codec:
        raise masked_round.refused(
            config,
            f"slow_links.codec is {config.slow_links.codec!r}: all must mask the same numbers in"
            " the same way; leave it out",
        )
