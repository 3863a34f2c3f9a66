"""The settings that decide whether two answers add up: to one sum, by one program or by several."""

import msgspec

from coordinator import codec_choice
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from fedmqtt import weights
from fedmqtt.messages import WIRE_VERSION, Purpose
from fedmqtt.topics import Digest


def said(config: FederationConfig, purpose: Purpose = "train") -> str:
    """All of them, as one line."""
    words = (
        WIRE_VERSION,
        config.training,
        # A codec's chance comes from the seed: its bytes mean nothing under another.
        tuple(codec_choice.chains(config)),
        config.seed,
        config.aggregation,
        config.aggregation_settings,
        # How much clients may send changes no sum.
        {"change_max": config.limits.change_max, "samples_max": config.limits.samples_max},
        *([config.statistics] if purpose == "describe" else []),
        *([masked_round.deciding(config)] if masked_round.is_masked(config) else []),
        # By how many devices may stand behind an answer, sums are more or less fine.
        *([{"sites": config.sites}] if config.sites.clients_max and purpose == "train" else []),
        # Clients that owe an answer send it in the lane that they were told of.
        *([{"lanes": config.workers.lanes}] if config.workers.lanes and purpose == "train" else []),
    )
    return msgspec.json.encode(words, order="sorted").decode()


def digest(config: FederationConfig) -> Digest:
    """By which a coordinator sees that a worker goes by the same ones."""
    return weights.digest(f"{config.name}\n{said(config)}".encode())
