"""What every aggregation strategy must hold to; a new file is tested by being in the folder."""

import gc
import random
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import aggregation
from coordinator.aggregation import KeepModel, Memory, Round, TakesParts
from coordinator.sums import strategy_memory
from coordinator.sums.client_store import ClientStore
from fedmqtt import parts
from fedmqtt.topics import RoundId
from fedmqtt.weights import Array
from tests.coordinator.aggregation.folding import (
    TERMS_MAX,
    Answer,
    answers,
    bits_for,
    play,
    store_for,
)

SIZE = 6
BASE = np.array([0, 0, 0, 1, 1, 1], np.float32)
NAMES = parts.names(aggregation)


@pytest.fixture(params=NAMES)
def strategy(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(aggregation, request.param)


def unafraid(strategy: ModuleType) -> dict[str, Any]:
    """Settings by which it believes that nobody is hostile, where it asks."""
    return {"f": 0} if "f" in fields(strategy) else {}


def fields(strategy: ModuleType) -> tuple[str, ...]:
    return tuple(strategy.Settings.__struct_fields__)


def random_answers(count: int, size: int = SIZE, seed: int = 0, number: int = 1) -> list[Answer]:
    chance = np.random.default_rng(seed)
    changes = chance.uniform(-3, 3, (count, size)).astype(np.float32)
    return answers(changes, [int(one) for one in chance.integers(1, 100, count)], number)


def test_a_round_nobody_answered_keeps_the_model(strategy: ModuleType) -> None:
    memory: Memory = {}
    assert play(strategy, BASE, [], memory).tobytes() == BASE.tobytes()
    assert memory == {}


def test_one_client_moves_the_model_its_way(strategy: ModuleType) -> None:
    change = np.array([0.5, -0.25, 0.5, 0.5, -2.0, 0.5], np.float32)
    after = play(strategy, BASE, answers([change]), **unafraid(strategy))
    np.testing.assert_array_equal(np.sign(after - BASE), np.sign(change))
    assert np.all(np.abs(after - BASE) <= np.abs(change) * (1 + 1e-6))


def test_clients_that_agree_are_followed(strategy: ModuleType) -> None:
    change = np.full(SIZE, -0.25, np.float32)
    alone = play(strategy, BASE, answers([change]), **unafraid(strategy))
    together = play(strategy, BASE, answers([change] * 11, range(1, 12)))
    assert np.all(together < BASE)
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_the_order_of_answers_does_not_matter_for_a_single_bit(strategy: ModuleType) -> None:
    folded = random_answers(50)
    first = play(strategy, BASE, folded).tobytes()
    for seed in range(3):
        random.Random(seed).shuffle(folded)
        assert play(strategy, BASE, folded).tobytes() == first


def _opened(strategy: ModuleType) -> Any:
    settings = strategy.Settings()
    store = store_for(strategy, settings, SIZE)
    bits = bits_for(strategy, settings)
    round_ = Round(size=SIZE, bits=bits, terms_max=TERMS_MAX, number=RoundId(1), store=store)
    return strategy.build(settings, round_)


def test_a_part_is_folded_as_the_whole_change_that_it_is_of(strategy: ModuleType) -> None:
    two_rounds = (np.array([0, 2, 5]), np.array([1, 3, 4]))
    wholes, parts_ = (_opened(strategy) for _ in range(2))
    takes_parts = isinstance(parts_, TakesParts)
    if not takes_parts:
        pytest.skip("it needs all numbers of a change")
    # Late answers come in between, from a round in which other numbers were drawn.
    for n, (change, sample_count, named) in enumerate(random_answers(9)):
        places = two_rounds[n % 3 == 2]
        whole = np.zeros(SIZE, np.float32)
        whole[places] = change[places]
        wholes.fold(whole, sample_count, named)
        parts_.fold_part(places, change[places], sample_count, named)
    assert parts_.finish(BASE).tobytes() == wholes.finish(BASE).tobytes()


@pytest.mark.parametrize("before", [["nnm"], ["bucketing"], ["bucketing", "nnm"]], ids="+".join)
def test_nor_does_it_behind_what_goes_before(strategy: ModuleType, before: list[str]) -> None:
    if "before" not in fields(strategy):
        with pytest.raises(ValueError, match="unknown key before"):
            play(strategy, BASE, [], before=before)
        return
    # Two are long, so that rules which else count everybody alike have something to do.
    folded = [
        (change * np.float32(20 if n < 2 else 1), sample_count, named)
        for n, (change, sample_count, named) in enumerate(random_answers(60))
    ]
    given: dict[str, Any] = {"before": before, "f": 3}
    first = play(strategy, BASE, folded, **given)
    assert first.tobytes() == play(strategy, BASE, folded[::-1], **given).tobytes()
    assert first.tobytes() != play(strategy, BASE, folded, f=3).tobytes()


def test_the_next_model_is_one_and_nothing_else_is_changed(strategy: ModuleType) -> None:
    folded = random_answers(20)
    before, changes = BASE.copy(), [change.copy() for change, _, _ in folded]
    after = play(strategy, BASE, folded)
    assert after.shape == BASE.shape and after.dtype == np.float32
    assert np.isfinite(after).all() and not np.array_equal(after, BASE)
    np.testing.assert_array_equal(BASE, before)
    np.testing.assert_array_equal([change for change, _, _ in folded], changes)


def test_a_restart_in_the_middle_of_a_round_changes_no_bit(
    strategy: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    undisturbed, restarted = BASE, BASE
    memory: Memory = {}
    kept: Memory = {}
    whole = ClientStore(None, SIZE)
    for number in range(1, 5):
        folded = random_answers(15, seed=number, number=number)
        undisturbed = play(
            strategy, undisturbed, folded, memory, seed=number, number=number, store=whole
        )
        # What a killed program had folded is gone, and so is what it remembered since.
        torn = ClientStore(tmp_path / "clients", SIZE)
        play(
            strategy,
            restarted,
            folded[3:14],
            dict(kept),
            seed=number,
            number=number,
            store=torn,
        )
        again = dict(kept)
        for array in again.values():
            array.flags.writeable = False
        store = ClientStore(tmp_path / "clients", SIZE)
        mixed = folded[7:] + folded[:7]
        restarted = play(strategy, restarted, mixed, again, seed=number, number=number, store=store)
        named = strategy_memory.save(tmp_path, str(number), strategy.__name__, again)
        kept = strategy_memory.load(tmp_path, named)
        assert restarted.tobytes() == undisturbed.tobytes()
    assert kept.keys() == memory.keys()
    assert all(kept[name].tobytes() == array.tobytes() for name, array in memory.items())


EXTREMES: dict[str, list[list[float]]] = {
    "as large as can be": [[1e9] * SIZE] * 9,
    "as large, and opposed": [[1e9] * SIZE, [-1e9] * SIZE] * 6,
    "nearly cancelling": [[1e9] * SIZE, [-1e9] * SIZE] * 6 + [[1e-3] * SIZE],
    "nothing at all": [[0.0] * SIZE] * 9,
    "next to nothing": [[1e-45] * SIZE] * 9,
    "one among small ones": [[1e9] * SIZE] + [[1e-6] * SIZE] * 10,
    "half of the parameters": [[1e9, 0.0] * 3, [0.0, 1e-30] * 3] * 6,
}


@pytest.mark.parametrize("changes", EXTREMES.values(), ids=EXTREMES)
def test_extreme_changes_within_the_limits_leave_a_finite_model(
    strategy: ModuleType, changes: list[list[float]]
) -> None:
    memory: Memory = {}
    model, store = BASE, ClientStore(None, SIZE)
    for number in (1, 2, 3):
        with np.errstate(all="raise", under="ignore"):
            model = play(
                strategy,
                model,
                answers(changes, number=number),
                memory,
                change_max=1e9,
                samples_max=1,
                number=number,
                store=store,
            )
        assert np.isfinite(model).all()
    assert all(np.isfinite(array).all() for array in memory.values())


def test_a_model_of_one_number_is_one_too(strategy: ModuleType) -> None:
    after = play(strategy, np.ones(1, np.float32), answers([[0.5]] * 9))
    assert after.shape == (1,) and after[0] > 1


def test_memory_does_not_grow_with_the_answers(strategy: ModuleType) -> None:
    size = 200_000
    base = np.zeros(size, np.float32)
    change = np.ones(size, np.float32)
    tracemalloc.start()
    try:
        settings = strategy.Settings()
        store = store_for(strategy, settings, size)
        bits = bits_for(strategy, settings)
        round_ = Round(size=size, bits=bits, terms_max=60, number=RoundId(1), store=store)
        built = strategy.build(settings, round_)
        for folded, sample_count, named in answers([change[:1]] * 60):
            assert folded.size == 1
            built.fold(change, sample_count, named)
            if named.client == "client-0005":
                gc.collect()
                few, _ = tracemalloc.get_traced_memory()
        many, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        after = built.finish(base)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after.shape == (size,)
    # Names and places of 54 answers; one change has 800 kB.
    assert many - few < 50_000
    # All of them in float64 are 96 MB: rules look at less at a time.
    assert peak - many < 60_000_000


def test_what_lay_on_the_disk_is_gone_with_the_round(strategy: ModuleType, tmp_path: Path) -> None:
    settings = strategy.Settings()
    round_ = Round(
        size=SIZE,
        bits=bits_for(strategy, settings),
        terms_max=20,
        folder=tmp_path,
        number=RoundId(1),
        store=store_for(strategy, settings, SIZE),
    )
    built = strategy.build(settings, round_)
    for change, sample_count, named in random_answers(20):
        built.fold(change, sample_count, named)
    built.finish(BASE)
    del built
    assert list(tmp_path.iterdir()) == []


def test_who_says_what_a_model_needs_says_it_in_one_sentence(strategy: ModuleType) -> None:
    """Where answers are too few for a rule, the round keeps its model and tells why."""
    for count in range(1, 15):
        try:
            play(strategy, BASE, random_answers(count))
        except KeepModel as why:
            assert f"there were {count}" in str(why) and "\n" not in str(why)
            assert "f" in fields(strategy) and count < 14


def test_every_setting_has_a_default_and_a_description(strategy: ModuleType) -> None:
    strategy.Settings()
    (schema,) = msgspec.json.schema_components([strategy.Settings])[1].values()
    for name, field in schema["properties"].items():
        assert field.get("description"), name


def test_its_first_line_tells_what_it_does_and_its_docstring_where_it_comes_from(
    strategy: ModuleType,
) -> None:
    doc = strategy.__doc__ or ""
    assert ":" in doc.splitlines()[0] and doc.splitlines()[0].endswith(".")
    assert "\nSource: " in doc


def test_arrays_that_are_remembered_are_not_changed(strategy: ModuleType) -> None:
    memory: Memory = {}
    store = ClientStore(None, SIZE)
    model: Array = play(strategy, BASE, random_answers(20), memory, store=store)
    for array in memory.values():
        # As exact as what it was made from: sums are whole numbers.
        assert array.dtype in (np.float32, np.int64, np.uint8)
        array.flags.writeable = False
    before = {name: array.copy() for name, array in memory.items()}
    again = random_answers(20, seed=1, number=2)
    play(strategy, model, again, dict(memory), number=2, store=store)
    for name, array in memory.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "name", [one for one in NAMES if getattr(parts.load(aggregation, one), "MEAN_ALONE", False)]
)
def test_who_goes_by_the_mean_alone_makes_of_it_what_it_makes_of_all(name: str) -> None:
    strategy = parts.load(aggregation, name)
    # All of them, and their mean, are multiples of 2^-10: nothing is rounded.
    changes = [np.arange(at, at + SIZE, dtype=np.float32) / 256 for at in range(4)]
    together, alone = _opened(strategy), _opened(strategy)
    for change, samples, named in answers(changes, [1, 1, 1, 1]):
        together.fold(change, samples, named)
    ((_, _, named),) = answers(changes[:1])
    alone.fold(np.mean(changes, axis=0, dtype=np.float64).astype(np.float32), 1, named)
    assert alone.finish(BASE).tobytes() == together.finish(BASE).tobytes()
    if hasattr(strategy, "method"):
        asked = strategy.method(strategy.Settings())
        assert not (asked.is_chained or asked.partial or asked.tells_loss or asked.interval_max)
    assert not hasattr(strategy, "fault"), "it goes by what updates tell"
