"""Makes `byzfl_numbers.json`: what the reference library ByzFL 0.0.11 finds on random inputs.

    pip install --no-deps byzfl==0.0.11 scipy
    python tests/coordinator/aggregation/byzfl_reference.py

Its numbers are kept, and the library is no dependency: what it declares brings a CUDA build of
torch and packages for plots, of which its rules need none. It needs numpy, scipy and torch.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

OUT = Path(__file__).with_name("byzfl_numbers.json")

INPUTS = [
    # Rows, numbers in each, how many may be hostile, how far those are off.
    (7, 5, 1, 3.0),
    (11, 9, 2, 10.0),
    (20, 6, 4, -5.0),
    (15, 40, 3, 0.5),
]


def _library() -> tuple[Any, Any]:
    """Its rules and what goes before them, without its frameworks around them."""
    spec = importlib.util.find_spec("byzfl")
    assert spec is not None and spec.submodule_search_locations is not None
    package = ModuleType("byzfl")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["byzfl"] = package
    rules = importlib.import_module("byzfl.aggregators.aggregators")  # noqa: TID251
    return rules, importlib.import_module("byzfl.aggregators.preaggregators")  # noqa: TID251


def _vectors(chance: np.random.Generator, rows: int, size: int, f: int, off: float) -> Any:
    vectors = chance.normal(1.0, 1.0, (rows, size))
    vectors[:f] = off * vectors[f:].mean(axis=0) + chance.normal(0.0, 0.1, (f, size))
    # Whole 1024ths, which float32 and a text hold exactly.
    return np.rint(vectors * 1024) / 1024


def main() -> None:
    rules, before = _library()
    chance = np.random.default_rng(20)
    cases = []
    for rows, size, f, off in INPUTS:
        vectors = _vectors(chance, rows, size, f, off)
        mixed = before.NNM(f)(vectors)
        for stages, given in (([], vectors), (["nnm"], mixed)):
            found = {
                "median": rules.Median()(given),
                "trimmed_mean": rules.TrMean(f)(given),
                "krum": rules.Krum(f)(given),
                "multi_krum": rules.MultiKrum(f)(given),
                "geometric_median": rules.GeometricMedian(nu=1e-6, T=32)(given),
                "centered_clipping": rules.CenteredClipping(L=3, tau=1.5)(given),
            }
            cases.append(
                {
                    "f": f,
                    "before": stages,
                    "vectors": vectors.tolist(),
                    "found": {name: one.tolist() for name, one in found.items()},
                }
            )
    OUT.write_text(json.dumps({"byzfl": "0.0.11", "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
