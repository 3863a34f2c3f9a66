"""SCAFFOLD against a naive one that keeps everything in one place, in float64, as in the paper."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator import local_method
from coordinator.config import FederationConfig
from coordinator.sums import strategy_memory
from coordinator.sums.answers import Answers
from edge_client import control_variates, trainer
from edge_client.control_variates import Control
from edge_client.remembered import NOTHING, Remembered
from edge_client.session import Answer
from edge_client.training_job import Job
from fedmqtt import personal, settings, weights
from fedmqtt.messages import Update
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from fleet_sim.kept_memory import KeptMemory
from fleet_sim.lab_tensors import named_answer
from learning_tasks import linear
from learning_tasks.seam import Trained
from tests.edge_client.jobs import job

RATE = 0.3
"""Of local SGD, on quadratic losses in three dimensions."""
SIZE = 3
CLIENTS = [ClientId(f"c{n}") for n in range(8)]
CENTRES = np.random.default_rng(3).normal(0, 1, (len(CLIENTS), SIZE))
CURVES = np.random.default_rng(4).uniform(0.2, 2.0, (len(CLIENTS), SIZE))
STEPS = [1 + n % 4 for n in range(len(CLIENTS))]

LAYOUT = weights.layout_of({"w": np.zeros(SIZE, np.float32)})
WHOLE = personal.division(LAYOUT, ())


def config(*words: str) -> FederationConfig:
    least = ['name="f"', 'task="learning_tasks.linear"', 'aggregation="scaffold"']
    given = [*least, f"training.learning_rate={RATE}", *words]
    return settings.read(None, given, FederationConfig)


def gradient(n: int, w: Any) -> Any:
    return CURVES[n] * (w - CENTRES[n])


@dataclass
class Naive:
    """Algorithm 1 with option II, as it is printed."""

    count: int
    w: Any = field(default_factory=lambda: np.zeros(SIZE))
    c: Any = field(default_factory=lambda: np.zeros(SIZE))
    own: dict[int, Any] = field(default_factory=dict)

    def round(self, sampled: list[int]) -> None:
        changes, of_controls = [], []
        for n in sampled:
            c_i = self.own.get(n, np.zeros(SIZE))
            y = self.w.copy()
            for _ in range(STEPS[n]):
                y = y - RATE * (gradient(n, y) - c_i + self.c)
            after = c_i - self.c + (self.w - y) / (STEPS[n] * RATE)
            changes.append(y - self.w)
            of_controls.append(after - c_i)
            self.own[n] = after
        self.w = self.w + np.mean(changes, axis=0)
        self.c = self.c + len(sampled) / self.count * np.mean(of_controls, axis=0)


@dataclass
class Ours:
    """The coordinator's half and the clients', without anything in between."""

    answers: Answers
    folder: Path
    config: FederationConfig
    w: Array = field(default_factory=lambda: np.zeros(SIZE, np.float32))
    memories: dict[int, KeptMemory] = field(default_factory=dict)
    number: int = 0

    def job_of(self, n: int) -> Job:
        return job(
            self.folder,
            client=CLIENTS[n],
            round=RoundId(self.number),
            training=local_method.training(self.config),
            method=local_method.asked(self.config),
            codec=self.config.codec,
            seed=self.config.seed,
        )

    def memory_of(self, n: int) -> KeptMemory:
        return self.memories.setdefault(n, KeptMemory())

    def trained(self, n: int) -> tuple[Update, Answer]:
        """An answer, and what is remembered when it is counted."""
        wanted, before = self.job_of(n), self.memory_of(n).committed
        begun = control_variates.begin(wanted, WHOLE, self.answers.control, before)
        assert begun is not None
        correction = begun.correction(WHOLE, RATE)["w"]
        y = self.w.copy()
        for _ in range(STEPS[n]):
            y -= np.float32(RATE) * (gradient(n, y).astype(np.float32) + correction)
        result = Trained({"w": y}, 10 + n, {}, STEPS[n], corrected=("w",))
        update, kept = trainer.update(wanted, WHOLE, self.w, result, None, before, begun)
        assert kept is not None
        named = named_answer(update)
        self.memory_of(n).keep(named, kept)
        return update, named

    def take(self, n: int, update: Update, *, staleness: int = 0) -> None:
        assert not self.answers.check(CLIENTS[n], update)
        self.answers.fold(CLIENTS[n], update, evaluates=False, staleness=staleness)
        self.answers.let_go()

    def receipt(self, n: int, named: Answer) -> None:
        self.memory_of(n).settle(named, True, self.answers.counted_last(CLIENTS[n]))

    def open(self) -> None:
        self.number += 1
        self.answers.begin(20, RoundId(self.number))

    def close(self) -> None:
        self.w = self.answers.finish(self.w)
        self.answers.end()

    def round(self, sampled: list[int]) -> None:
        self.open()
        sent = {n: self.trained(n) for n in sampled}
        for n, (update, named) in reversed(sent.items()):
            self.take(n, update)
            self.receipt(n, named)
        self.close()


def ours(folder: Path, *words: str) -> Ours:
    of = config(*words)
    disk = Path(tempfile.mkdtemp(prefix="disk-", dir=folder))
    return Ours(Answers(of, SIZE, 20, disk), folder, of)


def samples(rounds: int, each: int, clients: int = len(CLIENTS)) -> Iterator[list[int]]:
    chance = np.random.default_rng(7)
    for _ in range(rounds):
        yield sorted(chance.choice(clients, each, replace=False).tolist())


def optimum() -> Any:
    return (CURVES * CENTRES).sum(axis=0) / CURVES.sum(axis=0)


@pytest.mark.parametrize("each", [8, 3, 1])
def test_it_is_the_paper_s_algorithm_where_the_count_of_clients_is_told(
    tmp_path: Path, each: int
) -> None:
    here, naive = ours(tmp_path, "aggregation_settings.clients=8"), Naive(8)
    for sampled in samples(60, each):
        here.round(sampled)
        naive.round(sampled)
        np.testing.assert_allclose(here.w, naive.w, atol=2e-5)
        control = here.answers.control
        assert control is not None
        np.testing.assert_allclose(control / RATE, naive.c, atol=2e-5)


def test_clients_that_differ_and_make_other_numbers_of_steps_come_to_the_common_minimum(
    tmp_path: Path,
) -> None:
    here = ours(tmp_path)
    for sampled in samples(300, 4):
        here.round(sampled)
    # Averaging ends elsewhere: that is client drift.
    drifted = np.zeros(SIZE)
    for sampled in samples(300, 8):
        ends = []
        for n in sampled:
            y = drifted.copy()
            for _ in range(STEPS[n]):
                y -= RATE * gradient(n, y)
            ends.append(y)
        drifted = np.mean(ends, axis=0)
    assert np.abs(here.w - optimum()).max() < 1e-4
    assert np.abs(drifted - optimum()).max() > 0.05


def own_controls(here: Ours) -> dict[int, Any]:
    """What each device remembers, in whole units."""
    return {
        n: memory.committed.arrays["counted"].astype(np.int64)
        for n, memory in here.memories.items()
        if memory.committed is not NOTHING
    }


def total(here: Ours) -> Any:
    return here.answers.memory["sum"]


@pytest.mark.parametrize("codec", ["full", "int8", "eden", "bfloat16+zstd"])
def test_the_control_is_the_mean_of_what_devices_remember_to_the_bit_by_any_codec(
    tmp_path: Path, codec: str
) -> None:
    here = ours(tmp_path, f'codec="{codec}"')
    for sampled in samples(30, 3):
        here.round(sampled)
        np.testing.assert_array_equal(total(here), sum(own_controls(here).values()))
    remembered = own_controls(here)
    bits = here.job_of(0).method.fraction_bits
    mean = np.ldexp(sum(remembered.values()) / len(remembered), -bits)
    control = here.answers.control
    assert control is not None
    np.testing.assert_allclose(control, mean, rtol=1e-6)


def test_who_is_new_is_not_corrected_and_counts_from_then_on(tmp_path: Path) -> None:
    here = ours(tmp_path)
    here.round([0, 1])
    control = here.answers.control
    assert control is not None and control.any()
    begun = control_variates.begin(here.job_of(5), WHOLE, control, NOTHING)
    assert begun is not None and not begun.correction(WHOLE, RATE)["w"].any()
    zero = ours(tmp_path, "aggregation_settings.clients=8")
    begun = control_variates.begin(zero.job_of(5), WHOLE, control, NOTHING)
    assert begun is not None
    np.testing.assert_allclose(begun.correction(WHOLE, RATE)["w"], control / RATE, rtol=1e-6)


def test_an_answer_that_is_lost_changes_nothing_on_the_device(tmp_path: Path) -> None:
    here = ours(tmp_path)
    here.round([0, 1, 2])
    before = own_controls(here)
    here.open()
    lost = here.trained(0)
    update, named = here.trained(1)
    here.take(1, update)
    # Neither answer is heard of on its device: the one is lost, and of the other the receipt.
    here.close()
    assert {n: array.tolist() for n, array in own_controls(here).items()} == {
        n: array.tolist() for n, array in before.items()
    }
    # The next answer of the one goes on from there; the other's does not fit, and is told so.
    here.open()
    fitting, unfitting = here.trained(0), here.trained(1)
    here.take(0, fitting[0])
    here.receipt(0, fitting[1])
    fault = here.answers.check(CLIENTS[1], unfitting[0])
    assert "goes by round 1 as the last that was counted; it was 2" in fault
    # It hears of the first at last, and has what the coordinator counted.
    here.memory_of(1).settle(unfitting[1], False, here.answers.counted_last(CLIENTS[1]))
    here.receipt(1, named)
    here.close()
    here.round([1])
    np.testing.assert_array_equal(total(here), sum(own_controls(here).values()))
    assert lost[0].round == 2


def test_who_lost_its_memory_begins_anew_and_does_not_count_twice(tmp_path: Path) -> None:
    here = ours(tmp_path)
    here.round([0, 1])
    here.memories[0].committed = Remembered(round=RoundId(1), lost=True)
    here.round([0])
    np.testing.assert_array_equal(total(here), sum(own_controls(here).values()))


def test_from_scaffold_to_mifa_in_one_run_costs_no_answer(tmp_path: Path) -> None:
    here, mifa = ours(tmp_path), config('aggregation="mifa"')
    here.round([0, 1])
    # So the coordinator that begins with other settings remembers nothing; the devices do.
    assert local_method.remembering(mifa) != local_method.remembering(here.config)
    after = Ours(Answers(mifa, SIZE, 20, tmp_path), tmp_path, mifa, memories=here.memories)
    after.number = here.number
    after.open()
    change = np.array([0.5, -0.25, 2.0], np.float32)
    result = Trained({"w": change}, 10, {}, 1)
    before = after.memory_of(0).committed
    update, _ = trainer.update(after.job_of(0), WHOLE, after.w, result, None, before, None)
    assert update.whole and update.since == 1
    after.take(0, update)
    after.close()
    np.testing.assert_array_equal(after.w, change)
    assert after.answers.counted_last(CLIENTS[0]) == 2


def test_the_control_of_who_is_away_for_long_is_taken_out_and_it_begins_anew(
    tmp_path: Path,
) -> None:
    here = ours(tmp_path, "aggregation_settings.expire_rounds=2")
    for sampled in [[0, 1], [1], [1], [1]]:
        here.round(sampled)
    np.testing.assert_array_equal(total(here), own_controls(here)[1])
    here.open()
    update, named = here.trained(0)
    assert "it was 0" in here.answers.check(CLIENTS[0], update)
    here.memory_of(0).settle(named, False, here.answers.counted_last(CLIENTS[0]))
    here.close()
    here.round([0])
    np.testing.assert_array_equal(total(here), sum(own_controls(here).values()))


def test_another_learning_rate_makes_all_controls_begin_anew(tmp_path: Path) -> None:
    of, other = config(), config("training.learning_rate=0.1")
    assert local_method.remembering(of) != local_method.remembering(other)
    here = ours(tmp_path)
    here.round([0])
    wanted = job(tmp_path, method=local_method.asked(other), training=local_method.training(other))
    published = np.ones(SIZE, np.float32)
    begun = control_variates.begin(wanted, WHOLE, published, here.memories[0].committed)
    assert begun == Control(published, published)


def test_a_round_that_keeps_its_model_keeps_what_clients_were_told_has_counted(
    tmp_path: Path,
) -> None:
    here = ours(tmp_path)
    here.open()
    update, named = here.trained(3)
    here.take(3, update)
    here.receipt(3, named)
    here.answers.keep()
    here.answers.end()
    np.testing.assert_array_equal(total(here), own_controls(here)[3])


def test_a_restart_in_the_middle_of_a_round_changes_no_bit(tmp_path: Path) -> None:
    here, of = ours(tmp_path), config()
    (its_disk,) = tmp_path.glob("disk-*")
    (tmp_path / "memory").mkdir()
    for sampled in samples(5, 4):
        here.open()
        sent = {n: here.trained(n) for n in sampled}
        for n, (update, named) in sent.items():
            here.take(n, update)
            here.receipt(n, named)
        memory = dict(here.answers.memory)
        if memory:
            named_file = strategy_memory.save(tmp_path, str(here.number), "scaffold", memory)
            memory = strategy_memory.load(tmp_path, named_file)
        # With a disk as it is now: what lies there of each client is named by the memory.
        disk = Path(shutil.copytree(its_disk, tmp_path / f"again-{here.number}"))
        again = Ours(Answers(of, SIZE, 20, disk, memory), tmp_path, of, here.w.copy())
        again.number = here.number
        again.answers.begin(20, RoundId(again.number))
        for n, (update, _) in reversed(sent.items()):
            again.take(n, update)
        again.close()
        here.close()
        assert again.w.tobytes() == here.w.tobytes()
        ahead, control = again.answers.control, here.answers.control
        assert ahead is not None and control is not None and ahead.tobytes() == control.tobytes()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("training.momentum=0.9", r"training\.momentum: with aggregation = 'scaffold'"),
        ("training.proximal=0.1", r"training\.proximal: with aggregation = 'scaffold'"),
        ('codec="part(share=0.25,scaled=false)+eden"', "without part and topk"),
        ('codec="topk(share=0.1)+full"', "without part and topk"),
    ],
)
def test_what_it_cannot_work_with_is_refused_in_a_sentence(word: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Answers(config(word), SIZE, 20)


def test_hostile_halves_are_refused(tmp_path: Path) -> None:
    here = ours(tmp_path, "limits.change_max=1.0")
    here.open()
    good, _ = here.trained(0)

    def fault(*numbers: float) -> str:
        payload = memoryview(np.array(numbers, "<f4").tobytes())
        wrong = {name: getattr(good, name) for name in good.__struct_fields__}
        return here.answers.check(CLIENTS[0], Update(**(wrong | {"payload": payload})))

    assert "12 bytes where 24 belong" in fault(0, 0, 0)
    assert "36 bytes where 24 belong" in fault(*[0] * 9)
    assert "not finite" in fault(0, 0, 0, 0, np.nan, 0)
    assert "limits.change_max" in fault(0, 0, 0, 0, 1.5, 0)
    assert not fault(0, 0, 1, 0, 1, 0)


def test_a_hostile_client_cannot_pile_up_its_control(tmp_path: Path) -> None:
    here = ours(tmp_path, "limits.change_max=1.0")
    faults = []
    for number in range(1, 5):
        here.open()
        good, _ = here.trained(0)
        wrong = {name: getattr(good, name) for name in good.__struct_fields__}
        payload = memoryview(np.array([0, 0, 0, 1, 1, 1], "<f4").tobytes())
        update = Update(**(wrong | {"payload": payload, "since": RoundId(number - 1)}))
        faults.append(here.answers.check(CLIENTS[0], update))
        if not faults[-1]:
            here.answers.fold(CLIENTS[0], update, evaluates=False)
        here.answers.let_go()
        here.close()
    assert faults[0] == "" and "more than twice limits.change_max" in faults[1]


def test_what_no_step_moves_has_no_control() -> None:
    layout = weights.layout_of(linear.initial_weights(0))
    division = personal.division(layout, ())
    ones = np.ones(layout.size, np.float32)
    trained = Trained(linear.initial_weights(0), 10, {}, 2, corrected=("weight",))
    after = Control(ones, 3 * ones).after(division, 4 * ones, trained)
    named = layout.unflatten(after)
    assert not named["bias"].any() and not named["weight"].any()
    after = Control(ones, 4 * ones).after(division, 4 * ones, trained)
    assert (layout.unflatten(after)["weight"] == 1).all()
