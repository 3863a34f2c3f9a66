"""Layers that stay on the device: which numbers of a model travel, and which do not.

    model    | conv.weight | bn.weight | bn.bias | head.weight |     as it is published: all of it
    shared   | conv.weight | head.weight |                           what updates carry
    personal | bn.weight | bn.bias |                                 kept by each device for itself

A model file has the personal layers too, with their first values: a device that has none begins
with those.

Sources: FedPer, Arivazhagan et al., "Federated Learning with Personalization Layers", 2019 (the
last layers); FedBN, Li et al., ICLR 2021 (those that normalise, with their running statistics).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout

_NAMED_MAX = 8
"""Of a model's layers, in an error message."""


@dataclass(frozen=True)
class Division:
    """A model's layout, and which of its tensors are personal."""

    layout: Layout
    names: frozenset[str]

    @cached_property
    def personal(self) -> Layout:
        """Of the personal tensors alone, in the model's order."""
        return Layout(tuple(one for one in self.layout.tensors if one[0] in self.names))

    @cached_property
    def shared(self) -> Layout:
        """Of the tensors that travel, in the model's order."""
        return Layout(tuple(one for one in self.layout.tensors if one[0] not in self.names))

    @property
    def size(self) -> int:
        """How many numbers travel."""
        return self.shared.size

    def shared_of(self, flat: Array) -> Array:
        """What travels of a model, shape (size,): the model itself where that is all of it."""
        return flat if not self.names else flat[~self._is_personal]

    def personal_of(self, flat: Array) -> Array:
        """A copy of a model's personal numbers, shape (personal.size,)."""
        return flat[self._is_personal]

    def with_shared(self, flat: Array, shared: Array) -> Array:
        """The model with these numbers in place of those that travel; `flat` is left as it was."""
        return shared if not self.names else self._with(flat, ~self._is_personal, shared)

    def with_personal(self, flat: Array, personal: Array | None) -> Array:
        """The model with these layers in place of its own; None: it has none to put there."""
        return flat if personal is None else self._with(flat, self._is_personal, personal)

    @cached_property
    def _is_personal(self) -> NDArray[np.bool_]:
        lengths = [math.prod(shape) for _, shape in self.layout.tensors]
        return np.repeat([name in self.names for name, _ in self.layout.tensors], lengths)

    def _with(self, flat: Array, where: NDArray[np.bool_], values: Array) -> Array:
        made = flat.copy()
        made[where] = values
        return made


def division(layout: Layout, patterns: Sequence[str]) -> Division:
    """Tensors are personal whose names match a pattern, as file names match: `*` is anything.

    Raises SettingsError on a pattern that matches nothing, and where nothing is left to travel.
    """
    names = [name for name, _ in layout.tensors]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SettingsError(
                f"training.personal: {pattern!r} matches no layer of the model; it has: "
                f"{_listed(names)}"
            )
    mine = frozenset(n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns))
    found = Division(layout, mine)
    if mine and found.size == 0:
        raise SettingsError(
            "training.personal: every layer stays on its device, and nothing is left to learn"
            f" together; leave out some of: {_listed(names)}"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = [f"... ({len(names)})"] if len(names) > _NAMED_MAX else []
    return ", ".join([*names[:_NAMED_MAX], *more])
