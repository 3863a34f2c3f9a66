"""Which client is which quantile of the weather, by chance or by the data that it holds.

Where they go together, a federation is biased: if those who are online at night hold other classes
than those who are online by day, a round sees one half of the world.
"""

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist


def ranks(
    clients: int, keys: Sequence[float] | None, correlation: float, chance: Random
) -> list[float]:
    """Each client's rank: (0.5, 1.5, ...) / clients, each given once.

    `keys` is a number of each client's data, say its mean label; only its order matters, and equal
    keys are put in an order by chance. With correlation 1 the ranks are in the order of the keys,
    with 0 (or without keys) they do not depend on them. In between, with r, they are those of
    r * a + sqrt(1 - r²) * b, where a is the key's normal score and b standard normal: a Gaussian
    copula. Spearman's correlation is then 6 / π * asin(r / 2), within 0.02 of r.
    """
    # Drawn alike whatever is asked for: more correlation is the same chance with more order.
    tie_breaks = [chance.random() for _ in range(clients)]
    noise = [chance.gauss(0.0, 1.0) for _ in range(clients)]
    if keys is None:
        return _places(noise, tie_breaks)
    assert len(keys) == clients, "one key for each client"
    normal = NormalDist()
    scores = [normal.inv_cdf(place) for place in _places(keys, tie_breaks)]
    other = math.sqrt(1 - correlation**2)
    mixed = [correlation * a + other * b for a, b in zip(scores, noise, strict=True)]
    return _places(mixed, tie_breaks)


def _places(scores: Sequence[float], tie_breaks: Sequence[float]) -> list[float]:
    order = sorted(range(len(scores)), key=lambda n: (scores[n], tie_breaks[n], n))
    places = [0.0] * len(scores)
    for place, n in enumerate(order):
        places[n] = (place + 0.5) / len(scores)
    return places
