"""What a device tells of its data when it is asked, and what it refuses to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_client import describing, trainer
from edge_client.outbox import Outbox
from fedmqtt import codec_chain, codec_chance, data_query, weights
from fedmqtt.data_query import CategoryQuery, NumberQuery, NumberSums, Queries
from fedmqtt.messages import Update, read_from_client
from fedmqtt.weights import Weights
from learning_tasks import linear
from learning_tasks.seam import TaskError
from tests.edge_client.jobs import ANN, job

QUERY = NumberQuery(4, 3)
NAMED = {"x": (), "kind": ("a", "b")}


def asked(queries: Queries) -> Weights:
    return data_query.layout(queries).unflatten(data_query.write_queries(queries))


def test_a_trainer_answers_questions_with_sums_over_its_data(tmp_path: Path) -> None:
    queries: Queries = {"measurement 2": QUERY, "class": CategoryQuery(3)}
    layout = data_query.layout(queries)
    file = weights.write(layout, data_query.write_queries(queries))
    (tmp_path / "questions").write_bytes(file)
    wanted = job(
        tmp_path,
        purpose="describe",
        model_path=str(tmp_path / "questions"),
        base=weights.digest(file),
        fingerprint=layout.fingerprint,
        codec="full+zstd",
    )
    kept = trainer.work(wanted, lambda fraction: None)
    update = read_from_client(Outbox(Path(wanted.outbox)).read(kept))
    assert isinstance(update, Update)
    assert (update.sample_count, update.fingerprint) == (60, layout.fingerprint)
    assert update.metrics == {} and update.measures is None
    chances = codec_chance.of_answer(wanted.seed, wanted.round, ANN)
    flat = codec_chain.read("full+zstd").decode(update.payload, layout.size, chances)
    assert data_query.fault(queries, flat, 60) == ""
    data = linear.load_data(tmp_path, ANN, "train")
    expected = {
        "measurement 2": data_query.sums_of(QUERY, data.inputs[:, 1].astype(float)),
        "class": data_query.sums_of(CategoryQuery(3), data.classes.astype(float)),
    }
    assert data_query.read_sums(queries, flat) == expected


def test_a_feature_that_the_data_lacks_has_no_samples() -> None:
    flat, samples = describing.answer(
        asked({"x": QUERY, "kind": CategoryQuery(2)}), NAMED, {"kind": [1, 1]}
    )
    found = data_query.read_sums({"x": QUERY, "kind": CategoryQuery(2)}, flat)
    assert samples == 2
    assert isinstance(found["x"], NumberSums) and found["x"].clients == 0


def test_a_device_without_any_data_has_nothing_to_say() -> None:
    with pytest.raises(TaskError, match="there is no sample of any feature"):
        describing.answer(asked({"x": QUERY}), NAMED, {})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, np.nan, np.inf], "'x' has 2 values that are not finite: correct the data"),
        ([[1.0, 2.0]], r"'x' has shape \(1, 2\): one number a sample"),
        (["warm"], "'x' is not made of numbers"),
        ([1e20], r"'x' has a value of 1e\+20; at most 1.84e\+19 can be described"),
        (3.0, r"'x' has shape \(\)"),
    ],
)
def test_data_that_cannot_be_summed_up_is_refused_with_a_sentence(values: Any, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        describing.answer(asked({"x": QUERY}), NAMED, {"x": values})


@pytest.mark.parametrize("values", [[0, 2], [-1], [0.5]])
def test_a_value_that_is_no_category_is_refused(values: list[float]) -> None:
    with pytest.raises(TaskError, match="'kind' has a value that is no category: 0 to 1"):
        describing.answer(asked({"kind": CategoryQuery(2)}), NAMED, {"kind": values})


def test_only_what_the_task_names_is_told() -> None:
    with pytest.raises(TaskError, match="asks for the feature 'age'; this client's task has: x, k"):
        describing.answer(asked({"age": QUERY}), NAMED, {"age": [1.0], "x": [1.0]})
    with pytest.raises(TaskError, match="asks for 3 categories of 'kind'; this client's task has"):
        describing.answer(asked({"kind": CategoryQuery(3)}), NAMED, {"kind": [1]})
    with pytest.raises(TaskError, match="asks for 0 categories of 'kind'"):
        describing.answer(asked({"kind": QUERY}), NAMED, {"kind": [1]})
    with pytest.raises(TaskError, match="asks what cannot be answered"):
        describing.answer({"w": np.zeros(3, np.float32)}, NAMED, {"x": [1.0]})
