"""FedSGD: clients send one gradient each, not weights, and the server takes one step.

    w_next = w - rate * sum_k (n_k / n) grad F_k(w)

F_k is the mean loss over all n_k samples of a client: a step of gradient descent on the data of the
whole cohort. It needs many more rounds than averaging, and what clients do in each is little:
`training.epochs` and `momentum` mean nothing here, `batch_size` is how many samples are in memory
at a time. `training.learning_rate` is that of layers that stay on the device, and of no others.

Running statistics, as of BatchNorm, are no parameters and have no gradient: they move by `rate`
times what a pass over the data changed. Those that stay on the device are taken as it leaves them.

What travels is minus the gradient, as every update is a change: `limits.change_max` bounds it.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, section 2.
"""

from typing import Annotated

from msgspec import Meta, Struct

from coordinator.aggregation import Round
from coordinator.sums.weighted_mean import WeightedMean, along
from fedmqtt.messages import Method, Training
from fedmqtt.settings import SettingsError

MEAN_ALONE = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    rate: Annotated[
        float, Meta(gt=0, le=10, description="The server's step: the learning rate of the run.")
    ] = 0.1


def method(settings: Settings) -> Method:
    return Method(sends="gradient")


def training(settings: Settings, training: Training) -> Training:
    if training.proximal:
        raise SettingsError(
            "training.proximal: under fedsgd clients do not move away from the round's model, and"
            " there is nothing to pull back; leave it at 0"
        )
    return training


def build(settings: Settings, round_: Round) -> WeightedMean:
    return WeightedMean(round_.exact_sum(), along(settings.rate))
