"""How much an answer counts for that comes after its round has closed.

It was trained from an older model, so what it changed fits the present one less, the more rounds
lie between. With s rounds between, n samples count as n (1 + s)^(-1/2).

Source: the polynomial weighting of Xie, Koyejo and Gupta, "Asynchronous Federated Optimization",
OPT 2020, with a = 1/2, which Nguyen et al., "Federated Learning with Buffered
Asynchronous Aggregation", AISTATS 2022, use for their buffer too.
"""

import math


def weight(sample_count: int, staleness: int) -> int:
    """A whole number, since the exact sum adds whole multiples; at least 1."""
    return max(1, round(sample_count / math.sqrt(1 + staleness)))
