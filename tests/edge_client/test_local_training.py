"""What a federation asks beyond plain local SGD: done, or refused in a sentence; never left out."""

import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from coordinator.models import published_model
from edge_client import local_training, personal_layers, trainer
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance, personal, weights
from fedmqtt.messages import (
    Evaluation,
    Method,
    Training,
)
from fedmqtt.topics import RoundId, RunId
from learning_tasks import linear
from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError, Trained
from tests.edge_client.jobs import ANN, answer_to, flat, job, update_to

LAYOUT = weights.layout_of(linear.initial_weights(0))
GRADIENT, PARTIAL = Method(sends="gradient"), Method(partial=True)
OWN_BIAS = Method(personal=("bias",))


def data(purpose: str = "train") -> Any:
    return linear.load_data(Path("none"), ANN, purpose)


def a_task(**others: Any) -> Any:
    """The linear task as somebody else would write it, who knows of nothing but plain SGD."""
    plain = {name: getattr(linear, name) for name in ("train", "evaluate", "load_data")}
    return SimpleNamespace(**(plain | others))


def trained_by(task: Any, training: Training, method: Method) -> Trained:
    return local_training.train(
        task, linear.initial_weights(0), data(), training, method, 0, lambda fraction: None
    )


@pytest.mark.parametrize(
    ("training", "method", "said"),
    [
        (Training(proximal=0.1), Method(), "'proximal' in its LOCAL_METHODS"),
        (Training(), PARTIAL, "'steps' in its LOCAL_METHODS"),
        (Training(), Method(control="from_mean"), "'correction' in its LOCAL_METHODS"),
        (Training(), GRADIENT, r"define gradient\(weights, data, training, seed, progress\)"),
    ],
)
def test_a_task_that_does_not_know_what_is_asked_says_what_to_add(
    training: Training, method: Method, said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        trained_by(a_task(), training, method)
    knowing = a_task(LOCAL_METHODS=linear.LOCAL_METHODS, gradient=linear.gradient)
    trained_by(knowing, training, method)


def test_a_task_that_says_it_counts_steps_and_does_not_is_found_out() -> None:
    def uncounted(*arguments: Any) -> Trained:
        return replace(linear.train(*arguments), steps=0)

    with pytest.raises(TaskError, match=r"Trained\.steps"):
        trained_by(a_task(LOCAL_METHODS=("steps",), train=uncounted), Training(), PARTIAL)


def test_the_loss_is_told_of_the_base_on_the_training_samples() -> None:
    found = trained_by(a_task(), Training(), Method(tells_loss=True))
    # Zeros, and three classes: nobody knows anything.
    assert found.base_loss == pytest.approx(math.log(3))
    assert found.metrics["loss"] < math.log(3)


def test_a_task_without_a_loss_says_so() -> None:
    def nameless(*arguments: Any) -> Any:
        return replace(linear.evaluate(*arguments), metrics={"accuracy": 1.0})

    with pytest.raises(TaskError, match="measures no 'loss'"):
        trained_by(a_task(evaluate=nameless), Training(), Method(tells_loss=True))


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_gap_in_the_data_to_evaluate_on_is_told_and_no_metric_is_sent(epochs: int) -> None:
    """Of the model as it came, and of one that was fine-tuned alone."""
    whole, calls = data("evaluate"), []
    gap = linear.Samples(whole.inputs * np.nan, whole.classes)

    def broken_at_last(weights: Any, _data: Any) -> Any:
        calls.append(weights)
        return linear.evaluate(weights, gap if len(calls) > epochs else whole)

    method = Method(fine_tune_epochs=epochs)
    words = (a_task(evaluate=broken_at_last), linear.initial_weights(0), None, Training(), method)
    with pytest.raises(TaskError, match=r"loss of .* data is nan: look for .* not finite"):
        local_training.evaluate(*words, 0, data, lambda fraction: None)
    assert len(calls) == epochs + 1


def test_a_metric_that_is_no_number_is_told() -> None:
    def in_words(weights: Any, own: Any) -> Any:
        said: Any = {"loss": "low"}
        return replace(linear.evaluate(weights, own), metrics=said)

    own = data("evaluate")
    words = (a_task(evaluate=in_words), linear.initial_weights(0), own, Training(), Method())
    with pytest.raises(TaskError, match="gives loss as 'low': no number"):
        local_training.evaluate(*words, 0, data, lambda fraction: None)


def test_a_gradient_travels_as_the_change_that_a_step_of_1_makes(tmp_path: Path) -> None:
    found = update_to(job(tmp_path, method=GRADIENT))
    slope = linear.gradient(linear.initial_weights(0), data(), Training(), 0, lambda f: None)
    np.testing.assert_array_equal(flat(found.payload), -LAYOUT.flatten(slope.weights))
    assert (found.method, found.steps) == ("gradient", 1)


def test_an_update_says_how_it_was_made(tmp_path: Path) -> None:
    found = update_to(job(tmp_path, training=Training(proximal=0.5, epochs=3), method=PARTIAL))
    assert (found.method, found.steps) == ("proximal=0.5 partial", 12)
    assert update_to(job(tmp_path)).method == ""


def test_who_has_no_time_makes_one_step_and_says_so(tmp_path: Path) -> None:
    training = Training(epochs=1000, batch_size=6)
    found = update_to(job(tmp_path, training=training, method=PARTIAL, stop_at=0.0))
    assert found.steps == 1
    # That of the first batch, and not of what it would have come to.
    whole = update_to(job(tmp_path, training=training, method=PARTIAL, steps_max=1))
    assert flat(found.payload).tobytes() == flat(whole.payload).tobytes()


def test_somebody_who_stops_it_is_heard_however_much_time_there_is(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(fraction: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        trainer.work(job(tmp_path, method=PARTIAL, stop_at=1e12, steps_max=3), stop)


# Layers of its own


def personal_job(folder: Path, **changes: Any) -> Job:
    given = {"method": OWN_BIAS, "memory": str(folder / "memory")}
    return job(folder, **(given | changes))


def own_bias(folder: Path, run: str = "r") -> Any:
    division = personal.division(LAYOUT, OWN_BIAS.personal)
    return personal_layers.read(folder / "memory", RunId(run), division)


def test_layers_of_its_own_are_trained_kept_and_never_sent(tmp_path: Path) -> None:
    found = update_to(personal_job(tmp_path))
    plain = update_to(job(tmp_path))
    np.testing.assert_array_equal(flat(found.payload), flat(plain.payload)[:12])
    np.testing.assert_array_equal(own_bias(tmp_path), flat(plain.payload)[12:])
    # The model's, so that it is known what model the update is for.
    assert found.fingerprint == plain.fingerprint


def test_factors_are_of_the_layers_that_travel(tmp_path: Path) -> None:
    plain = flat(update_to(job(tmp_path, outbox=str(tmp_path / "plain"))).payload)[:12]
    found = update_to(personal_job(tmp_path, codec="lowrank(rank=1)+full"))
    shapes = personal.division(LAYOUT, OWN_BIAS.personal).shared.shapes
    assert shapes == ((4, 3),)
    chances = codec_chance.of_answer(7, found.round, ANN)
    sent = codec_chain.read(found.codec).decode(found.payload, 12, chances, shapes)
    least = _beyond_rank_1(plain.reshape(4, 3))
    assert 0.999 * least <= np.linalg.norm(plain - sent) <= 1.05 * least


def _beyond_rank_1(matrix: weights.Array) -> float:
    return float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[1:]))


def test_the_next_round_goes_on_with_them(tmp_path: Path) -> None:
    update_to(personal_job(tmp_path))
    first = own_bias(tmp_path)
    wanted = personal_job(tmp_path, round=RoundId(2))
    found = update_to(wanted)
    start = linear.initial_weights(0) | {"bias": first}
    seed = trainer.seed_of(wanted)
    by_hand = linear.train(start, data(), Training(), seed, lambda fraction: None).weights
    np.testing.assert_array_equal(flat(found.payload), by_hand["weight"].ravel())
    np.testing.assert_array_equal(own_bias(tmp_path), by_hand["bias"])


def test_a_device_measures_the_model_with_its_own_layers(tmp_path: Path) -> None:
    wanted = personal_job(tmp_path, purpose="evaluate")
    before = answer_to(wanted)
    update_to(personal_job(tmp_path))
    after = answer_to(wanted)
    assert isinstance(before, Evaluation) and isinstance(after, Evaluation)
    by_hand = linear.evaluate(linear.initial_weights(0), data("evaluate"))
    assert before.measures.metrics == by_hand.metrics
    with_own = linear.initial_weights(0) | {"bias": own_bias(tmp_path)}
    assert after.measures.metrics == linear.evaluate(with_own, data("evaluate")).metrics
    assert after.measures.metrics != before.measures.metrics


def test_a_model_is_measured_with_the_layers_that_were_trained_in_another_run(
    tmp_path: Path,
) -> None:
    update_to(personal_job(tmp_path))
    trained = answer_to(personal_job(tmp_path, purpose="evaluate"))
    wanted = personal_job(tmp_path, purpose="evaluate", run=RunId("evaluation"))
    found = answer_to(wanted)
    assert isinstance(found, Evaluation) and isinstance(trained, Evaluation)
    assert found.measures == trained.measures
    # Of several that fit, the newest. One of other layers does not fit.
    division = personal.division(LAYOUT, OWN_BIAS.personal)
    memory, newest = tmp_path / "memory", np.array([3, 2, 1], np.float32)
    old = (memory / "r.personal").rename(memory / "old")
    personal_layers.keep(memory, RunId("a"), division, newest)
    old.rename(memory / "r.personal")
    other = personal.division(LAYOUT, ["weight"])
    others = tmp_path / "others"
    personal_layers.keep(others, RunId("z"), other, np.ones(12, np.float32))
    (others / "z.personal").rename(memory / "z.personal")
    for name, moment in (("r", 1), ("a", 2), ("z", 3)):
        os.utime(memory / f"{name}.personal", (moment, moment))
    with_newest = answer_to(wanted)
    assert isinstance(with_newest, Evaluation)
    start = linear.initial_weights(0) | {"bias": newest}
    assert with_newest.measures.metrics == linear.evaluate(start, data("evaluate")).metrics


def test_training_that_was_not_finished_keeps_nothing(tmp_path: Path) -> None:
    def stop(fraction: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.work(personal_job(tmp_path), stop)
    assert own_bias(tmp_path) is None


def test_another_run_begins_with_its_models_layers_and_takes_their_place(tmp_path: Path) -> None:
    update_to(personal_job(tmp_path))
    assert own_bias(tmp_path, "other") is None
    update_to(personal_job(tmp_path, run=RunId("other")))
    assert own_bias(tmp_path, "other") is not None
    assert [one.name for one in (tmp_path / "memory").iterdir()] == ["other.personal"]


def test_a_gradient_step_is_taken_on_the_device_where_a_layer_stays_there(tmp_path: Path) -> None:
    method = Method(sends="gradient", personal=("bias",))
    found = update_to(personal_job(tmp_path, method=method, training=Training(learning_rate=0.5)))
    slope = linear.gradient(linear.initial_weights(0), data(), Training(), 0, lambda f: None)
    np.testing.assert_array_equal(flat(found.payload), -slope.weights["weight"].ravel())
    np.testing.assert_array_equal(own_bias(tmp_path), -0.5 * slope.weights["bias"])


_NORMALISED = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from learning_tasks import linear

CLASS_NAMES = ("a", "b", "c")

def build_model():
    torch.manual_seed(1)
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))

def load_data(data_dir, client, purpose):
    found = linear.load_data(data_dir, client, purpose)
    return TensorDataset(torch.from_numpy(found.inputs), torch.from_numpy(found.classes))

def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
"""


def test_running_statistics_of_ones_own_are_as_the_pass_over_the_data_leaves_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "normalised.py"
    path.write_text(_NORMALISED)
    task = load_task(str(path))
    start = task.initial_weights(0)
    layout = weights.layout_of(start)
    file = weights.write(layout, layout.flatten(start))
    (tmp_path / "normalised.model").write_bytes(file)
    wanted = personal_job(
        tmp_path,
        task=str(path),
        method=Method(sends="gradient", personal=("0.*",)),
        training=Training(learning_rate=0.5),
        model_path=str(tmp_path / "normalised.model"),
        base=weights.digest(file),
        fingerprint=layout.fingerprint,
    )
    update_to(wanted)
    data = task.load_data(tmp_path, ANN, "train")
    gradient = task.gradient  # type: ignore[attr-defined]
    found = gradient(start, data, Training(), trainer.seed_of(wanted), lambda f: None)
    assert found.statistics == {"0.running_mean", "0.running_var"}
    division = personal.division(layout, ("0.*",))
    kept = personal_layers.read(tmp_path / "memory", RunId("r"), division)
    assert kept is not None
    for name, array in division.personal.unflatten(kept).items():
        share = 1.0 if name in found.statistics else 0.5
        np.testing.assert_allclose(array, start[name] - share * found.weights[name], rtol=1e-6)
        assert not np.array_equal(array, start[name])


@pytest.mark.parametrize("spoil", ["torn", "flipped", "empty", "foreign"])
def test_a_file_that_is_not_as_it_was_written_is_taken_for_none(
    tmp_path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    division = personal.division(LAYOUT, OWN_BIAS.personal)
    personal_layers.keep(tmp_path, RunId("r"), division, np.ones(3, np.float32))
    path = tmp_path / "r.personal"
    whole = path.read_bytes()
    match spoil:
        case "torn":
            path.write_bytes(whole[:-1])
        case "flipped":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "empty":
            path.write_bytes(b"")
        case _:
            other = personal.division(LAYOUT, ["weight"])
            personal_layers.keep(tmp_path, RunId("r"), other, np.ones(12, np.float32))
    assert personal_layers.read(tmp_path, RunId("r"), division) is None
    assert "r.personal" in caplog.text and "anew" in caplog.text


# Fine-tuning


def test_who_measures_trains_a_copy_first_and_tells_both(tmp_path: Path) -> None:
    wanted = job(tmp_path, purpose="evaluate", method=Method(fine_tune_epochs=2))
    found = answer_to(wanted)
    assert isinstance(found, Evaluation)
    before = linear.evaluate(linear.initial_weights(0), data("evaluate"))
    seed = trainer.seed_of(wanted)
    tuned = linear.train(
        linear.initial_weights(0), data(), Training(epochs=2), seed, lambda fraction: None
    )
    after = linear.evaluate(tuned.weights, data("evaluate"))
    said = found.measures
    assert {name: said.metrics[name] for name in ("accuracy", "loss")} == after.metrics
    assert said.metrics["accuracy_before"] == before.metrics["accuracy"]
    assert said.metrics["loss_before"] == before.metrics["loss"]
    assert said.sample_count == 30
    assert said.confusion == tuple(map(tuple, after.confusion or ()))


def test_a_copy_that_was_trained_to_measure_is_not_what_training_begins_with(
    tmp_path: Path,
) -> None:
    tuning = Method(fine_tune_epochs=2)
    both = update_to(job(tmp_path, measure_base=True, method=tuning))
    assert flat(both.payload).tobytes() == flat(update_to(job(tmp_path)).payload).tobytes()
    alone = answer_to(job(tmp_path, purpose="evaluate", method=tuning))
    assert isinstance(alone, Evaluation)
    assert both.measures == alone.measures


def test_without_a_control_there_is_nothing_to_correct_by(tmp_path: Path) -> None:
    asked = Method(control="from_mean", fraction_bits=24)
    with pytest.raises(TaskError, match="came without the control"):
        trainer.work(job(tmp_path, method=asked), lambda fraction: None)


def test_a_control_is_none_of_the_models_business_where_none_is_asked_for(tmp_path: Path) -> None:
    """To evaluate, or for who describes its data, it is as if it had not come."""
    plain = job(tmp_path, purpose="evaluate")
    found = answer_to(plain)
    initial = linear.initial_weights(0)
    model = published_model.make(LAYOUT, LAYOUT.flatten(initial), 0, 1024, np.ones(15, np.float32))
    Path(plain.model_path).write_bytes(model.file)
    again = answer_to(structs.replace(plain, outbox=str(tmp_path / "again")))
    assert isinstance(found, Evaluation) and isinstance(again, Evaluation)
    assert again.measures == found.measures
