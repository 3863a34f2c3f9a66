"""Whatever a task returns, an answer that leaves the trainer is one that a coordinator reads."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_client import trainer
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt.messages import Evaluation, Update, encode, read_from_client
from fedmqtt.topics import Digest, RoundId, RunId
from learning_tasks.seam import Evaluated, TaskError
from tests.edge_client.jobs import job, task_file

RUN = RunId("r")

RESULTS = {
    "a loss that is a text": ({"loss": "0.5"}, 3, "Expected `float`"),
    "a metric with a long name": ({"l" * 201: 0.5}, 3, "length <= 200"),
    "too many metrics": ({f"m{n}": 0.5 for n in range(101)}, 3, "length <= 100"),
    "no samples": ({}, 0, ">= 1"),
    "half a sample": ({}, 1.5, "Expected `int`"),
    "samples that are a text": ({}, "3", "Expected `int`"),
}


def _training(folder: Path, metrics: Any, samples: Any) -> Job:
    """With a task whose `train` says so."""
    lines = f"""
from dataclasses import replace
return replace(again(), metrics={metrics!r}, sample_count={samples!r})"""
    return job(folder, task=task_file(folder, "junk", lines))


@pytest.mark.parametrize(("metrics", "samples", "why"), RESULTS.values(), ids=RESULTS.keys())
def test_what_no_message_holds_is_told_to_the_owner(
    tmp_path: Path, metrics: Any, samples: Any, why: str
) -> None:
    wanted = _training(tmp_path, metrics, samples)
    with pytest.raises(TaskError, match=f"what the task tells of its work cannot be sent: .*{why}"):
        trainer.work(wanted, lambda fraction: None)
    assert Outbox(Path(wanted.outbox)).answers() == ((), ())


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)
_ANYTHING = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(metrics=_ANYTHING, samples=_VALUES, confusion=_ANYTHING)
@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck), database=None)
def test_measures_of_anything_are_readable_or_refused(
    metrics: Any, samples: Any, confusion: Any
) -> None:
    found = Evaluated(samples, metrics, confusion)
    try:
        measured = trainer.measures(found, "phone")
        answer = Evaluation(run=RUN, round=RoundId(1), base=Digest("a" * 64), measures=measured)
        trainer._check_readable(answer)
    except (TaskError, TypeError, OverflowError, ValueError):
        # What is no TaskError becomes "the task failed", in `trainer.run`.
        return
    assert encode(read_from_client(encode(answer))) == encode(answer)


@pytest.mark.parametrize("codec", ["full", "bfloat16", "int8", "int4+zstd", "eden"])
def test_weights_in_double_precision_are_sent_as_any_others(tmp_path: Path, codec: str) -> None:
    lines = """
from dataclasses import replace
trained = again()
return replace(trained, weights={k: v.astype("float64") for k, v in trained.weights.items()})"""
    double = job(tmp_path, task=task_file(tmp_path, "double", lines), codec=codec)
    outbox = Outbox(Path(double.outbox))
    kept = [trainer.work(one, lambda f: None) for one in (job(tmp_path, codec=codec), double)]
    payloads = []
    for answer in kept:
        update = read_from_client(outbox.read(answer))
        assert isinstance(update, Update)
        payloads.append(bytes(update.payload))
    assert payloads[0] == payloads[1]
