"""From what an operator set to the rules by which the round machine decides."""

from collections.abc import Mapping, Sequence
from random import Random

from msgspec import Struct

from coordinator import (
    codec_choice,
    local_method,
    one_at_a_time,
    pacing,
    privacy,
    rounds,
    selection,
)
from coordinator.config import FederationConfig, Limits
from coordinator.intake import quarantine
from coordinator.known import Known
from coordinator.noise import noise_checks
from coordinator.selection import Select, uniform
from fedmqtt import messages, parts, settings
from fedmqtt.effects import Seconds
from fedmqtt.messages import Purpose
from fedmqtt.topics import ClientId, RoundId, RunId

GREET_S: Seconds = 2.0
"""Retained presences come at once; this is for a slow link to the broker."""


REMIND_S: Seconds = 5.0
"""An offer comes in well under a second, and who is at work for longer says so in its presence."""


def concurrency_of(config: FederationConfig) -> int:
    """How many clients are at work where rounds are asynchronous; 0 where they are not."""
    return config.rounds.concurrency if config.rounds.mode == "asynchronous" else 0


def participations_max(config: FederationConfig) -> int:
    """In how many rounds' sums a device may be; 0: in all. Raises SettingsError."""
    plan = noise_checks.plan(config)
    return 0 if plan is None else plan.participations_max


def remembered_rounds(config: FederationConfig) -> int:
    """Of how many closed rounds it is remembered whose answers counted."""
    return rounds.remembered_rounds(config.late.rounds_max if concurrency_of(config) else 0)


def bounds(config: FederationConfig) -> pacing.Bounds:
    """Between which over-selection and deadline may be learned."""
    start, longest = config.rounds.over_selection, config.rounds.deadline_s
    tuning = config.tuning
    # Of a quiet fleet nobody sees who is at work yet: only how many answer is learned.
    learns = tuning.enabled and not concurrency_of(config) and not fleet(config)
    return pacing.Bounds(
        over_selection=start,
        over_selection_min=min(start, tuning.over_selection_min) if learns else start,
        over_selection_max=max(start, tuning.over_selection_max)
        if learns or fleet(config)
        else start,
        deadline_s=longest,
        deadline_min_s=min(longest, tuning.deadline_min_s) if learns else longest,
        deadline_max_s=longest,
    )


def invited_max(config: FederationConfig) -> int:
    """The most clients that one round may invite to train."""
    limit = pacing.invite_limit(bounds(config).over_selection_max, config.rounds.cohort)
    return rounds.room(limit) if is_by_sortition(config) else limit


def answers_max(config: FederationConfig) -> int:
    """The most that come into one sum."""
    invited = invited_max(config)
    if not concurrency_of(config):
        return invited
    held = rounds.HELD_PER_COHORT * max(config.rounds.cohort, concurrency_of(config))
    return max(invited, held) + held


def is_by_sortition(config: FederationConfig) -> bool:
    """Whether clients see for themselves if they are invited."""
    return bool(getattr(parts.load(selection, config.selection), "BY_SORTITION", False))


def fleet(config: FederationConfig) -> int:
    """How many clients there may be in a quiet federation; 0 in others. Raises SettingsError."""
    if not is_by_sortition(config):
        return 0
    return int(getattr(selection_settings(config), "fleet", 0))


def selection_settings(config: FederationConfig) -> Struct:
    """What the policy takes, checked. Raises UnknownPart, SettingsError."""
    kind: type[Struct] = parts.load(selection, config.selection).Settings
    return settings.convert(config.selection_settings, kind, "selection_settings")


def from_config(config: FederationConfig) -> rounds.Rules:
    """Of the round machine, but for the run and the epoch. Raises UnknownPart, SettingsError."""
    trains: Select = parts.load(selection, config.selection).select
    its_settings = selection_settings(config)

    def select(
        candidates: Sequence[ClientId],
        count: int,
        round_id: RoundId,
        purpose: Purpose,
        known: Mapping[ClientId, Known],
    ) -> tuple[ClientId, ...]:
        # A stream for each purpose and round: another draw elsewhere disturbs nothing here.
        chance = Random(f"{config.seed}/select/{purpose}/{round_id}")
        if purpose == "evaluate":
            # Figures of those that a policy prefers would not be the fleet's.
            return uniform.select(candidates, count, chance, known, uniform.Settings())
        return trains(candidates, count, chance, known, its_settings)

    is_masked = bool(parts.load(privacy, config.privacy.aggregation).MASKS)
    return rounds.Rules(
        select=select,
        by_sortition=is_by_sortition(config),
        fleet=fleet(config),
        rounds=config.rounds.count,
        cohort=config.rounds.cohort,
        pace=bounds(config),
        # Who is gone in the middle of a visit is passed over, and not waited for to the deadline.
        quorum=0 if one_at_a_time.is_wanted(config) else config.rounds.quorum,
        # With fewer, no round could make a model.
        clients_min=max(config.rounds.clients_min, config.rounds.quorum),
        pause_s=config.rounds.pause_s,
        retry_s=config.rounds.retry_s,
        away_grace_s=config.rounds.away_grace_s,
        evaluate_every=config.evaluation.every,
        evaluators=config.evaluation.clients,
        final_deadline_s=config.evaluation.final_deadline_s,
        greet_s=GREET_S,
        remind_s=REMIND_S,
        late="weigh" if concurrency_of(config) else config.late.policy,
        late_batch=config.late.batch,
        late_rounds_max=config.late.rounds_max,
        run=RunId("unknown"),
        task=messages.task_name(config.task),
        training=local_method.training(config),
        method=local_method.asked(config),
        codec=codec_choice.main(config),
        slow_links=codec_choice.slow_links(config),
        lanes=config.workers.lanes or 1,
        seed=config.seed,
        participations_max=participations_max(config),
        concurrency=concurrency_of(config),
        masked=is_masked,
        tells_measures=not is_masked,
    )


def of_quarantine(limits: Limits) -> quarantine.Rules:
    return quarantine.Rules(
        strikes=limits.strikes,
        within_s=limits.strikes_within_s,
        first_s=limits.quarantine_s,
        longest_s=limits.quarantine_max_s,
    )
