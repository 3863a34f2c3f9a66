"""What a codec for models on their way down costs: CPU at the coordinator and on the device.

Prints one line of JSON. For each codec: bytes of a delta per number; CPU milliseconds of the
coordinator to make the next published model of its own, once a round (`publish_ms`); and of a
client's process to make the model of the one it holds and a delta, digest and file included
(`rebuild_ms`). The least of several repetitions, as everything that disturbs only adds.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

# One thread, as CPU is what is measured.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cpu_time import least_s
from coordinator.models import downlink, published_model
from edge_client.rebuild import rebuild
from edge_client.training_job import Rebuild
from fedmqtt.weights import Layout

CODECS = ("full", "int8", "int4", "eden", "part(share=0.25)+eden")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=int, default=1_663_370)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = {
            codec: _cost(codec, arguments.params, arguments.repeats, Path(folder))
            for codec in arguments.codecs
        }
    sys.stdout.write(json.dumps({"params": arguments.params, "codecs": found}) + "\n")
    return 0


def _cost(codec: str, size: int, repeats: int, folder: Path) -> dict[str, float]:
    chance, chain = np.random.default_rng(1), downlink.read(codec)
    start = chance.normal(0, 0.05, size).astype(np.float32)
    change = chance.normal(0, 0.01, size).astype(np.float32)
    old = published_model.make(Layout((("w", (size,)),)), start, 0, 128 * 1024)
    new = downlink.following(old, start + change, chain)
    publish_s = least_s(lambda: downlink.following(old, start + change, chain), repeats)
    cost = {"publish_ms": round(publish_s * 1e3, 2)}
    if not new.deltas:
        return cost
    (delta,) = new.deltas
    (folder / "base").write_bytes(old.file)
    (folder / "delta").write_bytes(delta.file)
    order = Rebuild(
        base_path=str(folder / "base"),
        delta_paths=[str(folder / "delta")],
        model_path=str(folder / "new.model"),
        digest=new.ref.digest,
    )
    cost["rebuild_ms"] = round(least_s(lambda: rebuild(order), repeats) * 1e3, 2)
    cost["bytes_per_number"] = round(len(delta.file) / size, 4)
    return cost


if __name__ == "__main__":
    sys.exit(main())
