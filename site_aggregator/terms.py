"""What the centre asks of a site, as the settings of the site's own coordinator."""

import math

from msgspec import structs

from coordinator import checks, local_method, round_rules
from coordinator.config import CheckpointSettings, FederationConfig, TrainingSettings
from coordinator.masking import masked_round
from coordinator.sites.above import AsMasked
from edge_client import masked_answer
from edge_client.training_job import Job
from fedmqtt.messages import PLAIN
from fedmqtt.settings import SettingsError

_NUMBERS = ("weight_max", "samples_max", "change_max", "norm_max", "share", "rotate", "value_bits")
"""Of masked answers, that have to be the same at both levels to add up."""


class NotHere(ValueError):
    """What is asked, no site can do, or not this one: a sentence for both owners."""


def devices_settings(devices: FederationConfig, job: Job) -> FederationConfig:
    """By which a round that the centre asks for is held. Raises NotHere."""
    if job.purpose == "describe":
        raise NotHere("a site does not describe its devices' data")
    if job.mask is None and job.sites is None:
        raise NotHere(
            "the centre lets nobody answer for others: its operator has to set sites.clients_max"
        )
    config = _as_asked(devices, job)
    try:
        checks.check(config)
    except SettingsError as bad:
        raise NotHere(f"what the centre asks does not go with this site's settings: {bad}") from bad
    if local_method.asked(config) != job.method or local_method.training(config) != job.training:
        raise NotHere(
            "the centre's aggregation asks of clients what a site cannot ask of its devices"
        )
    invited, stands_for = round_rules.invited_max(config), _stands_for(job)
    if invited > stands_for:
        raise NotHere(
            f"this site may invite {invited} devices to a round, and may stand for"
            f" {stands_for}: lower devices.rounds.cohort or"
            " devices.tuning.over_selection_max, or let the centre raise sites.clients_max"
        )
    return config


def as_masked(job: Job) -> AsMasked | None:
    """How the centre would have each device mask its answer; None where what the site answers can
    be read, or counts as one client's."""
    if job.mask is None or job.purpose != "train":
        return None
    masking = masked_answer.masking_of(job.mask)
    return AsMasked(masking, job.seed, job.round) if masking.clients_max > 1 else None


def are_measured(devices: FederationConfig, job: Job) -> bool:
    """Whether who trains for it measures the centre's model first."""
    if not masked_round.is_masked(devices):
        return job.measure_base
    # Under the masks of both levels, or not at all.
    how = as_masked(job)
    return how is not None and how.masking.is_measured


def _stands_for(job: Job) -> float:
    """For how many devices its answer may; any number, where it is as one client's."""
    if job.sites is not None:
        return job.sites.clients_max
    how = as_masked(job)
    return math.inf if how is None else how.masking.clients_max


def _as_asked(devices: FederationConfig, job: Job) -> FederationConfig:
    limits = devices.limits
    if job.sites is not None:
        limits = structs.replace(
            limits,
            change_max=job.sites.change_max,
            samples_max=min(limits.samples_max, job.sites.samples_max),
        )
    method, how = job.method, as_masked(job)
    privacy = devices.privacy
    if how is not None and not how.masking.block_norms and masked_round.is_masked(devices):
        # So that what is opened here is what the centre adds up. With ranges that go by how large
        # values were it is not: each level would set others.
        numbers = {name: getattr(how.masking, name) for name in _NUMBERS}
        privacy = structs.replace(privacy, **numbers, ranges="fixed")
    return structs.replace(
        devices,
        seed=job.seed,
        codec=job.codec,
        training=TrainingSettings(**structs.asdict(job.training), personal=method.personal),
        aggregation="fedavg" if method.sends == PLAIN.sends else "fedsgd",
        evaluation=structs.replace(
            devices.evaluation, every=1, fine_tune_epochs=method.fine_tune_epochs
        ),
        # Its models are the centre's to go back to.
        checkpoint=CheckpointSettings(keep=0),
        limits=limits,
        privacy=privacy,
    )
