"""The task without torch: one step by hand, clients that differ, and a federation that learns."""

import math
from pathlib import Path

import numpy as np
import pytest

from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from learning_tasks import linear
from learning_tasks.linear import Samples
from learning_tasks.seam import Task, TaskError

TASK: Task = linear  # the type checker reads this as: the module has all four functions


def _silent(fraction: float) -> None:
    pass


def test_the_first_step_is_softmax_minus_one_hot() -> None:
    sample = Samples(np.array([[1, 0, 0, 2]], np.float32), np.array([1]))
    training = Training(epochs=1, batch_size=1, learning_rate=0.3)
    trained = linear.train(linear.initial_weights(0), sample, training, 0, _silent)
    # All three classes at 1/3: the error is (1/3, -2/3, 1/3), times the input, times -0.3.
    assert trained.weights["bias"] == pytest.approx([-0.1, 0.2, -0.1])
    assert trained.weights["weight"][3] == pytest.approx([-0.2, 0.4, -0.2])
    assert trained.weights["weight"][1] == pytest.approx([0, 0, 0])
    assert trained.sample_count == 1


def test_an_untrained_model_is_as_good_as_a_guess() -> None:
    evaluated = linear.evaluate(
        linear.initial_weights(0), Samples(np.ones((3, 4), np.float32), np.array([0, 1, 2]))
    )
    assert evaluated.metrics["loss"] == pytest.approx(math.log(3))
    assert evaluated.metrics["accuracy"] == pytest.approx(1 / 3)
    assert evaluated.confusion == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_a_client_always_draws_the_same_data_and_no_two_clients_do() -> None:
    ann, again = (linear.load_data(Path("none"), "ann", "train") for _ in range(2))
    bob = linear.load_data(Path("none"), "bob", "train")
    held_out = linear.load_data(Path("none"), "ann", "evaluate")
    assert np.array_equal(ann.inputs, again.inputs)
    assert not np.array_equal(ann.inputs, bob.inputs)
    assert not np.isin(held_out.inputs, ann.inputs).all(axis=1).any()


def test_every_fifth_row_of_a_file_is_kept_for_evaluation(tmp_path: Path) -> None:
    rows = [f"{i},0,0,0,{i % 3}" for i in range(10)]
    (tmp_path / "ann.csv").write_text("\n".join(rows))
    train = linear.load_data(tmp_path, "ann", "train")
    evaluate = linear.load_data(tmp_path, "ann", "evaluate")
    assert train.inputs[:, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert evaluate.inputs[:, 0].tolist() == [4, 9]
    assert evaluate.classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,c,d,e", "not a table of numbers"),
        ("1,2,3,0", "needs 4 numbers and a class"),
        ("1,2,3,4,3", "a class below 3"),
        ("1,2,3,4,0", "no row to evaluate with"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "ann.csv").write_text(text)
    with pytest.raises(TaskError, match=rf"ann\.csv.*{said}"):
        linear.load_data(tmp_path, "ann", "evaluate")


def test_weights_that_are_not_finite_are_not_sent() -> None:
    sample = Samples(np.array([[math.inf, 0, 0, 0]], np.float32), np.array([0]))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(TaskError, match="lower the learning rate"),
    ):
        linear.train(linear.initial_weights(0), sample, Training(), 0, _silent)


def test_three_clients_learn_together_what_holds_for_a_fourth() -> None:
    weights = linear.initial_weights(0)
    for round_number in range(5):
        weights = _mean(
            [
                linear.train(
                    weights,
                    linear.load_data(Path("none"), client, "train"),
                    Training(),
                    round_number,
                    _silent,
                ).weights
                for client in ("ann", "bob", "cat")
            ]
        )
    evaluated = linear.evaluate(weights, linear.load_data(Path("none"), "dan", "evaluate"))
    assert evaluated.metrics["accuracy"] >= 0.8


def _mean(answers: list[Weights]) -> Weights:
    return {name: np.mean([a[name] for a in answers], axis=0) for name in answers[0]}
