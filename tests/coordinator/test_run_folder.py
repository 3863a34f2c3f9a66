"""What a run's folder holds is there after a loss of power, under its name."""

import os
from pathlib import Path

import numpy as np
import pytest

from coordinator import published_model
from coordinator.ledger import Carried
from coordinator.pacing import Pace
from coordinator.run_folder import RunFolder
from fedmqtt.topics import RoundId
from fedmqtt.weights import Layout

LAYOUT = Layout((("w", (4,)),))
CARRIED = Carried(pace=Pace(over_selection=1.5, deadline_s=60.0), late=0, typical_s=0.0)


def test_a_model_that_stale_answers_need_reaches_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = tmp_path / "bases"
    forced: list[Path] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        fsync(file)
        forced.append(Path(f"/proc/self/fd/{file}").readlink())

    monkeypatch.setattr(os, "fsync", watched)
    folder = RunFolder(tmp_path, lambda action: None, lambda failure: None)
    try:
        model = published_model.make(LAYOUT, np.ones(4, np.float32), 0, 1024)
        folder.begin(folder.name_run("t", LAYOUT), model, CARRIED)
        forced.clear()
        folder.keep_base(RoundId(1), RoundId(1))
    finally:
        folder.ledger.close()
    # With the name of the folder that it lies in.
    assert forced == [tmp_path, bases / "1.safetensors", bases]
    np.testing.assert_array_equal(folder.base_of(RoundId(1), LAYOUT), np.ones(4))
