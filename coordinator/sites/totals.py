"""A site's answer as the centre reads it: the exact sum of its devices' changes, within bounds.

Of an honest site no number is beyond what its samples allow: each of its devices changed none by
more than `change_max`, and the sum weighs changes by samples. That is looked at here, number by
number, so that a site can pull the model no further than so many samples of honest devices could.
"""

from dataclasses import dataclass

import numpy as np

from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from fedmqtt import exact_total, fixed_point
from fedmqtt.fixed_point import Total
from fedmqtt.messages import SiteTerms, SumOf, Update

CODEC = "sum"
"""In the place of a codec's name, in answers and figures."""


@dataclass(frozen=True, slots=True)
class SiteSum:
    numbers: Total
    """Shape (size,), in units of 2^-bits."""
    weight: int
    bits: int

    def on_grid(self, bits: int, weight: float) -> Total:
        """In units of 2^-bits, for so much less weight: as it is where both are as they were.

        Both may be others for an answer that comes when its round has closed.
        """
        if (bits, weight) == (self.bits, self.weight):
            return self.numbers
        scaled = np.ldexp(self.numbers.astype(np.float64), bits - self.bits)
        scaled *= weight / self.weight
        return np.rint(scaled).astype(np.int64)


def weight_max(config: FederationConfig) -> int:
    """Samples that one site may stand for."""
    return config.sites.weight_max or config.limits.samples_max


def terms(config: FederationConfig, bits: int) -> SiteTerms | None:
    """What an offer says to sites of sums that can be read; None where there are to be none."""
    if not config.sites.clients_max or masked_round.is_masked(config):
        return None
    return SiteTerms(
        bits=bits,
        change_max=config.limits.change_max,
        samples_max=config.limits.samples_max,
        clients_max=config.sites.clients_max,
        weight_max=weight_max(config),
    )


def read(config: FederationConfig, update: Update, sum_of: SumOf, size: int) -> SiteSum:
    """Raises ValueError with a sentence for its sender, which need not be an honest one."""
    most, weight = config.sites.clients_max, update.sample_count
    if not most:
        raise ValueError(
            f"stands for {sum_of.clients} devices, and here every client answers for itself:"
            " sites.clients_max is 0"
        )
    if sum_of.clients > most:
        raise ValueError(f"stands for {sum_of.clients} devices; sites.clients_max is {most}")
    if weight > (allowed := weight_max(config)):
        key = "sites.weight_max" if config.sites.weight_max else "limits.samples_max"
        raise ValueError(f"stands for {weight} samples; {key} is {allowed}")
    # With no room for less, each device has as many samples as it may.
    if weight > sum_of.clients * config.limits.samples_max:
        raise ValueError(
            f"claims {weight} samples of {sum_of.clients} devices; limits.samples_max is"
            f" {config.limits.samples_max}"
        )
    try:
        numbers = exact_total.decode(update.payload, size)
    except ValueError as bad:
        raise ValueError(f"sum of other tensors: {bad}") from bad
    change_max, bits = config.limits.change_max, sum_of.bits
    highest = fixed_point.largest_sum(change_max, weight, bits, sum_of.clients)
    largest = max(-int(numbers.min(initial=0)), int(numbers.max(initial=0)))
    if largest > highest:
        changed = largest / 2**bits / weight
        raise ValueError(
            f"changes a parameter by {changed:.4g} on average; limits.change_max is {change_max:g}"
        )
    return SiteSum(numbers, weight, bits)
