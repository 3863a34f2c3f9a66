"""Interchangeable parts: one module each, chosen in the configuration by its file name.

A part is found by being in its folder; there is no registry to edit. Only files that are there can
be named, so a configuration can never import anything else.
"""

import importlib
import pkgutil
from types import ModuleType


class UnknownPart(ValueError):
    """The configuration names a part that no file provides; says which there are."""


def names(folder: ModuleType) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))


def load(folder: ModuleType, name: str) -> ModuleType:
    """The module of one part. Raises UnknownPart with the choices."""
    known = names(folder)
    if name not in known:
        kind = folder.__name__.rpartition(".")[2]
        raise UnknownPart(f"unknown {kind} {name!r}; choose one of: {', '.join(known)}")
    return importlib.import_module(f"{folder.__name__}.{name}")  # noqa: TID251
