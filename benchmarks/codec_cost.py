"""What codecs cost the coordinator: CPU to decode an update and add it to the sum, and its bytes.

Prints one line of JSON. For each codec: bytes per number; CPU milliseconds per update; and ratios
to `full`: of decoding, checking and adding an update alone (`fold_ratio`), and of all that is done
with an answer from its bytes on, digest and message included (`answer_ratio`). The least of several
repetitions, as everything that disturbs only adds.
"""

import argparse
import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

# One thread, as CPU is what is measured.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cpu_time import least_s
from coordinator.config import FederationConfig
from coordinator.sums.answers import Answers
from fedmqtt import codec_chain, codec_chance, messages
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array, Shapes

CODECS = (
    "full",
    "full+zstd",
    "float16",
    "bfloat16",
    "int8",
    "int8+zstd",
    "int4",
    "int4+zstd",
    "eden",
    "part(share=0.5)+eden",
    "part(share=0.25)+int8",
    "part(share=0.25)+int4",
    "part(share=0.25)+eden",
    "part(share=0.25)+eden+zstd",
    "part(share=0.1)+eden",
    "topk(share=0.05)+int8",
    "topk(share=0.01)+int8",
    "lowrank(rank=1)+int8",
    "lowrank(rank=2)+int8",
    "lowrank(rank=4)+int8",
    "lowrank(rank=4)+int4",
    "lowrank(rank=8)+int4",
)
ANN = ClientId("ann")
TERMS_MAX = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=int, default=1_663_370)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    arguments = parser.parse_args()
    change = np.random.default_rng(1).normal(0, 0.01, arguments.params).astype(np.float32)
    full = _cost("full", change, arguments.repeats)
    found = {}
    for codec in arguments.codecs:
        cost = _cost(codec, change, arguments.repeats)
        found[codec] = {
            "bytes_per_number": round(cost["bytes"] / change.size, 4),
            "fold_ms": round(cost["fold_s"] * 1e3, 2),
            "answer_ms": round(cost["answer_s"] * 1e3, 2),
            "fold_ratio": round(cost["fold_s"] / full["fold_s"], 2),
            "answer_ratio": round(cost["answer_s"] / full["answer_s"], 2),
        }
    sys.stdout.write(json.dumps({"params": arguments.params, "codecs": found}) + "\n")
    return 0


def _cost(codec: str, change: Array, repeats: int) -> dict[str, float]:
    chain = codec_chain.read(codec)
    config = FederationConfig(name="cost", task="learning_tasks.linear", codec=codec)
    shapes = _shapes(change.size)
    answers = Answers(config, change.size, TERMS_MAX, shapes=shapes)
    answers.begin(TERMS_MAX)
    chances = codec_chance.of_answer(config.seed, RoundId(1), ANN)
    payload = memoryview(chain.encode(change, chances, shapes))
    data = messages.encode(_update(chain.text, payload))

    def fold(update: Update) -> None:
        assert not answers.check(ANN, update)
        answers.fold(ANN, update, evaluates=False)
        answers.let_go()

    def take() -> None:
        hashlib.sha256(data).digest()
        fold(_read(data))

    update = _read(data)
    return {
        "bytes": len(update.payload),
        "fold_s": least_s(lambda: fold(update), repeats),
        "answer_s": least_s(take, repeats),
    }


def _shapes(params: int) -> Shapes:
    """Of one large layer and a bias, for codecs that go by them."""
    side = math.isqrt(params)
    return (side, side), (params - side * side,)


def _read(data: bytes) -> Update:
    message: Any = messages.read_from_client(data)
    assert isinstance(message, Update)
    return message


def _update(codec: str, payload: memoryview) -> Update:
    return Update(
        run=RunId("cost"),
        round=RoundId(1),
        base=Digest("0" * 64),
        fingerprint="f",
        sample_count=100,
        codec=codec,
        payload=payload,
    )


if __name__ == "__main__":
    sys.exit(main())
