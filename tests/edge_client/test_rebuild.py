"""A model made of another one and deltas: by the shapes that are in the model's file."""

from pathlib import Path

import numpy as np
import pytest

from edge_client.rebuild import RebuildError, rebuild
from edge_client.training_job import Rebuild
from fedmqtt import codec_chain, deltas, weights
from fedmqtt.topics import Digest
from fedmqtt.weights import Layout

LAYOUT = Layout((("w", (40, 30)), ("b", (40,))))


def order(folder: Path, codec: str) -> Rebuild:
    """Two deltas after a model, each of another direction of its layer."""
    chance, chain = np.random.default_rng(1), codec_chain.read(codec)
    numbers = chance.normal(size=LAYOUT.size).astype(np.float32)
    base = folder / "base.model"
    base.write_bytes(weights.write(LAYOUT, numbers))
    paths: list[str] = []
    for number in (1, 2):
        digest = weights.digest(weights.write(LAYOUT, numbers))
        new = numbers + chance.normal(size=LAYOUT.size).astype(np.float32)
        file, numbers = deltas.write(chain, digest, number, numbers, new, LAYOUT.shapes)
        path = folder / f"delta-{number}"
        path.write_bytes(file)
        paths.append(str(path))
    return Rebuild(
        base_path=str(base),
        delta_paths=paths,
        model_path=str(folder / "made.model"),
        digest=weights.digest(weights.write(LAYOUT, numbers)),
    )


@pytest.mark.parametrize("codec", ["int4", "lowrank(rank=2)+int8"])
def test_deltas_lead_to_the_model_that_is_offered(tmp_path: Path, codec: str) -> None:
    wanted = order(tmp_path, codec)
    rebuild(wanted)
    made = (tmp_path / "made.model").read_bytes()
    assert weights.digest(made) == wanted.digest
    assert weights.read(made)[0] == LAYOUT


def test_what_they_make_otherwise_is_not_kept(tmp_path: Path) -> None:
    wanted = order(tmp_path, "lowrank(rank=2)+int8")
    other = Rebuild(
        base_path=wanted.base_path,
        delta_paths=wanted.delta_paths[:1],
        model_path=wanted.model_path,
        digest=Digest(wanted.digest),
    )
    with pytest.raises(RebuildError, match="not the offered model"):
        rebuild(other)
    assert not (tmp_path / "made.model").exists()
