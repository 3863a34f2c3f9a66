"""What the models up to now can show of one device."""

from coordinator.noise.differential_privacy import Plan
from coordinator.roster import Roster
from fedmqtt.status_pages import Privacy
from fedmqtt.topics import RoundId


def spent(plan: Plan, roster: Roster, number: RoundId, size: int) -> Privacy:
    """As of round `number`, the newest that clients trained in; `size`: numbers in a change."""
    most = roster.participations.largest
    of_models = None if plan.adders is None else plan.epsilon_of_models(most, number, size)
    return Privacy(
        epsilon=plan.epsilon(most, number, size),
        delta=plan.delta,
        epsilon_max=plan.epsilon_at_end(size),
        participations=most,
        participations_max=plan.participations_max,
        noise_multiplier=plan.sigma,
        clip_norm=plan.clip_norm,
        epsilon_of_models=of_models,
    )
