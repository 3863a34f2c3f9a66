"""What a strategy remembers comes back to the last bit, or is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from coordinator.persistence.run_errors import LedgerDamaged
from coordinator.sums import strategy_memory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "memory").mkdir()
    return tmp_path


def test_arrays_come_back_by_name_with_their_shapes(run: Path) -> None:
    memory = {
        "m": np.array([1e-45, -0.0, 3.4e38], np.float32),
        "v": np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    named = strategy_memory.save(run, "7", "fedadam", memory)
    assert (named.strategy, named.file) == ("fedadam", "memory/7.safetensors")
    found = strategy_memory.load(run, named)
    assert found.keys() == memory.keys()
    for name, array in memory.items():
        assert found[name].shape == array.shape and found[name].tobytes() == array.tobytes()
    assert [path.name for path in (run / "memory").iterdir()] == ["7.safetensors"]


def test_the_same_memory_is_the_same_file(run: Path) -> None:
    one, two = np.ones(3, np.float32), np.zeros(2, np.float32)
    first = strategy_memory.save(run, "1", "s", {"a": one, "b": two})
    assert strategy_memory.save(run, "2", "s", {"b": two, "a": one}).digest == first.digest


def test_another_file_in_its_place_is_refused(run: Path) -> None:
    named = strategy_memory.save(run, "1", "fedyogi", {"m": np.ones(3, np.float32)})
    other = strategy_memory.save(run, "2", "fedyogi", {"m": np.zeros(3, np.float32)})
    (run / other.file).replace(run / named.file)
    with pytest.raises(LedgerDamaged, match=r"1\.safetensors is not what its ledger tells"):
        strategy_memory.load(run, named)
    (run / named.file).unlink()
    with pytest.raises(LedgerDamaged, match=r"No such file .*; what fedyogi remembers"):
        strategy_memory.load(run, named)
