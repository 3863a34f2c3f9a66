"""FedProx: federated averaging of clients whose training is pulled back to the round's model.

    each client minimises F_k(w) + mu/2 |w - w_t|^2        and the server averages, as in fedavg

So clients with very different data, or many local epochs, drift apart less.

Source: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, eq. 2 and
algorithm 2. `training.proximal` asks the same of clients under any other strategy.
"""

from typing import Annotated

from msgspec import Meta, Struct, structs

from coordinator.aggregation import Round
from coordinator.sums.weighted_mean import Rate, WeightedMean, along
from fedmqtt.messages import Training
from fedmqtt.settings import SettingsError

MEAN_ALONE = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    mu: Annotated[
        float,
        Meta(
            gt=0, le=1e6, description="How hard clients are pulled back; 0.001 to 1 in the paper."
        ),
    ] = 0.01
    rate: Rate = 1.0


def training(settings: Settings, training: Training) -> Training:
    if training.proximal:
        raise SettingsError(
            "training.proximal: fedprox asks for its own mu; set aggregation_settings.mu and leave"
            " this at 0"
        )
    return structs.replace(training, proximal=settings.mu)


def build(settings: Settings, round_: Round) -> WeightedMean:
    return WeightedMean(round_.exact_sum(), along(settings.rate))
