"""What the models up to now can show of one device."""

from coordinator import rounds
from coordinator.differential_privacy import Plan
from coordinator.roster import Roster
from fedmqtt.status_pages import Privacy


def spent(plan: Plan, roster: Roster, state: rounds.State, size: int) -> Privacy:
    """`size`: numbers in a change."""
    most = roster.participations.largest
    number = rounds.trained_last(state)
    of_models = None if plan.adders is None else plan.epsilon_of_models(most, number, size)
    return Privacy(
        epsilon=plan.epsilon(most, number, size),
        delta=plan.delta,
        epsilon_max=plan.epsilon_max,
        participations=most,
        participations_max=plan.participations_max,
        noise_multiplier=plan.sigma,
        clip_norm=plan.clip_norm,
        epsilon_of_models=of_models,
    )
