"""How many clients a sum needs that single samples cannot be worked out of it. Pure.

A sum of n clients with one sample each has n * inputs numbers that nobody knows, and tells as many
as the model has. Where those are more, images came back exactly; the better the server knows what
images look like, the further beyond (docs/privacy.md has the table). So

    fewest = 2 * parameters / inputs

is what we ask for, with room for what the server knows already. It is a rule from a measurement, on
small models and for one round, and no proof. A proof is what noise gives: with it nobody is warned.
"""

import math

from fedmqtt.weights import Layout

ROOM = 2
NOISE_ENOUGH = 1.0
"""Deviation of the noise on a sum, in clip norms, from which on nobody is warned. At 0.3 no image
came back from sums of 8, but one of 24 large ones was still told apart."""


def fewest(layout: Layout) -> int:
    """Clients in a sum, 2 at least.

    Inputs are those of the first layer that multiplies all its inputs, told by its matrix of shape
    (outputs, inputs). A model without one counts as if it had one input a sample.
    """
    inputs = next((shape[1] for _, shape in layout.tensors if len(shape) == 2), 1)
    return max(2, math.ceil(ROOM * layout.size / max(1, inputs)))


def warning(layout: Layout, floor: int, noise_multiplier: float = 0.0) -> str:
    """What to tell the operator at start; empty where there is nothing. `floor`: fewest clients in
    a sum that is opened; `noise_multiplier`: of the noise on it, in clip norms, 0 without."""
    wanted = fewest(layout)
    if floor >= wanted or noise_multiplier >= NOISE_ENOUGH:
        return ""
    return (
        f"a sum of {floor:,} clients tells {layout.size:,} numbers: enough, as far as measured, to"
        f" work out samples of theirs; masks hide whose they are, not what they are. It takes noise"
        f" (a multiplier of {NOISE_ENOUGH} at the least), a privacy.floor of {wanted:,}, or a"
        " smaller model: see docs/privacy.md"
    )
