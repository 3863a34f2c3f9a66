"""Models go down as deltas in a live fleet as they do in virtual time."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from fleet_sim.simulate_command import simulate
from tests.fleet_sim.lab_fleets import torch_task
from tests.fleet_sim.test_live_run import CALM, live, named, page, who

pytestmark = pytest.mark.broker

WIDTH = 600
"""Of the hidden layer: 5,403 numbers in all."""


def larger_task(folder: Path) -> str:
    path = Path(torch_task(folder))
    text = path.read_text()
    for eight in ("Linear(4, 8)", "Linear(8, 3)"):
        assert eight in text
        text = text.replace(eight, eight.replace("8", str(WIDTH)))
    path.write_text(text)
    return str(path)


def test_a_calm_fleet_comes_to_the_same_model_by_the_same_deltas_in_both_modes(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    sent: dict[str, int] = {}
    for codec in ("full", "eden"):
        folder = tmp_path / codec
        folder.mkdir()
        of = named(
            f"{federation_name}.{codec}",
            folder,
            CALM,
            # Who is not invited in a round takes two deltas in the next.
            rounds="count = 6\ncohort = 3\nquorum = 3\nclients_min = 4\n",
            federation=f'downlink_codec = "{codec}"\n',
            task=larger_task(folder),
        )
        simulate(of, folder / "virtual", repeat="", alone=True)
        result = live(of, folder / "live", mosquitto_broker)
        assert result.finished and result.answered == 18
        assert who(folder / "live") == who(folder / "virtual")
        found = [load_file(folder / mode / "model.safetensors") for mode in ("virtual", "live")]
        assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
        virtual, real = (page(folder / mode).rounds[-1].bytes_down for mode in ("virtual", "live"))
        # Headers, acknowledgements and presence are counted as what they are, or near it.
        assert virtual == pytest.approx(real, rel=0.15)
        sent[codec] = real
    whole = 4 * 5403
    # Of 18 models 4 are a client's first.
    assert sent["full"] - sent["eden"] > 0.8 * 14 * whole
