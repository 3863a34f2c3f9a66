"""One job of the trainer, done in this process: what it leaves in the outbox."""

from pathlib import Path

import numpy as np
import pytest

from edge_client import remembered, trainer
from edge_client.device_memory import DeviceMemory
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance
from fedmqtt.messages import Evaluation, Method, Training, Update, read_from_client
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId, RunId
from fedmqtt.weights import Array, WeightsError, layout_of
from learning_tasks import linear
from learning_tasks.seam import TaskError
from tests.edge_client.jobs import ANN, answer_to, flat, job, task_file, update_to
from tests.edge_client.little_disk import little_disk


def test_an_update_is_what_training_changed(tmp_path: Path) -> None:
    wanted = job(tmp_path, training=Training(epochs=2))
    update = update_to(wanted)
    data = linear.load_data(tmp_path, ANN, "train")
    seed = trainer.seed_of(wanted)
    trained = linear.train(
        linear.initial_weights(0), data, wanted.training, seed, lambda fraction: None
    )
    # The linear task begins with zeros, so what changed is all there is.
    expected = np.concatenate([trained.weights["weight"].ravel(), trained.weights["bias"]])
    assert np.array_equal(flat(update.payload), expected)
    assert (update.run, update.round, update.base) == (wanted.run, 1, wanted.base)
    assert update.sample_count == 60
    assert update.fingerprint == wanted.fingerprint
    assert update.metrics == trained.metrics
    assert update.measures is None


def test_the_same_job_gives_the_same_answer_to_the_bit(tmp_path: Path) -> None:
    first, again = (trainer.work(job(tmp_path), lambda fraction: None) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    "changes", [{"round": RoundId(2)}, {"client": ClientId("bob")}, {"seed": 8}]
)
def test_no_two_jobs_share_their_chance(tmp_path: Path, changes: dict[str, object]) -> None:
    seeds = {trainer.seed_of(job(tmp_path)), trainer.seed_of(job(tmp_path, **changes))}
    assert len(seeds) == 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_evaluation_measures_the_base(tmp_path: Path) -> None:
    answer = answer_to(job(tmp_path, purpose="evaluate"))
    assert isinstance(answer, Evaluation)
    expected = linear.evaluate(
        linear.initial_weights(0), linear.load_data(tmp_path, ANN, "evaluate")
    )
    assert answer.measures.metrics == expected.metrics
    assert answer.measures.sample_count == 30
    assert answer.measures.confusion is not None
    assert sum(map(sum, answer.measures.confusion)) == 30


def test_who_is_asked_for_both_measures_the_base_before_training(tmp_path: Path) -> None:
    alone = answer_to(job(tmp_path, purpose="evaluate"))
    both = update_to(job(tmp_path, measure_base=True))
    assert isinstance(alone, Evaluation)
    assert both.measures == alone.measures
    assert flat(both.payload).any()


def test_the_mapped_base_is_not_written_to(tmp_path: Path) -> None:
    spoil = task_file(tmp_path, "spoils", 'weights["bias"][0] = 1')
    with pytest.raises(ValueError, match="read-only"):
        answer_to(job(tmp_path, task=spoil))


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    wanted = job(tmp_path)
    Path(wanted.model_path).write_bytes(b"\xc1 no model")
    with pytest.raises(WeightsError, match="no weights header"):
        answer_to(wanted)


def test_a_model_that_was_taken_away_meanwhile_is_told_in_words(tmp_path: Path) -> None:
    wanted = job(tmp_path)
    Path(wanted.model_path).unlink()
    with pytest.raises(TaskError, match="is not there any more"):
        answer_to(wanted)


def test_an_unknown_codec_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    eager = task_file(tmp_path, "eager", 'raise AssertionError("trained")')
    with pytest.raises(SettingsError, match="codec: there is no 'zip'; choose one of: bfloat16,"):
        answer_to(job(tmp_path, task=eager, codec="zip"))


@pytest.mark.parametrize("codec", ["full", "part(share=0.25)+eden+zstd"])
def test_a_change_that_is_no_number_is_told_and_not_sent(tmp_path: Path, codec: str) -> None:
    spoil = "found = again(); found.weights['bias'][0] = float('nan'); return found"
    lost = task_file(tmp_path, "lost", spoil)
    with pytest.raises(TaskError, match="cannot be sent: it has values that are not finite"):
        answer_to(job(tmp_path, task=lost, codec=codec))


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    wanted = job(tmp_path)
    with (
        little_disk(16),
        pytest.raises(TaskError, match=r"^the answer cannot be kept in .*outbox: File too large$"),
    ):
        trainer.work(wanted, lambda fraction: None)
    assert list(Path(wanted.outbox).iterdir()) == []


def test_a_task_that_hands_back_other_tensors_is_refused(tmp_path: Path) -> None:
    lines = "trained = again(); del trained.weights['bias']; return trained"
    with pytest.raises(WeightsError, match=r"tensors differ: missing \['bias'\]"):
        answer_to(job(tmp_path, task=task_file(tmp_path, "forgets", lines)))


def _adding_up(folder: Path, number: int) -> Job:
    method = Method(difference=True, fraction_bits=24)
    return job(folder, round=RoundId(number), method=method, memory=str(folder / "memory"))


def test_what_is_remembered_with_an_answer_is_there_before_it_and_used_when_it_counted(
    tmp_path: Path,
) -> None:
    first = trainer.work(_adding_up(tmp_path, 1), lambda fraction: None)
    outbox, memory = Outbox(tmp_path / "outbox"), DeviceMemory(tmp_path / "memory")
    pending = f"{first.run}-1-{first.digest}.pending"
    assert [path.name for path in memory.folder.iterdir()] == [pending]
    whole = read_from_client(outbox.read(first))
    assert isinstance(whole, Update) and (whole.since, whole.whole) == (0, False)

    memory.settle(first, accepted=True, counted=RoundId(1))
    second = update_to(_adding_up(tmp_path, 2))
    assert second.since == 1
    counted = remembered.read(memory, first.run).arrays["counted"]
    np.testing.assert_array_equal(counted, np.rint(flat(whole.payload) * 2.0**24))
    # Together they are what a trainer with no memory would have sent.
    alone = update_to(job(tmp_path, round=RoundId(2), outbox=str(tmp_path / "other")))
    both = np.ldexp(counted.astype(np.float64), -24) + flat(second.payload)
    np.testing.assert_allclose(both, flat(alone.payload), atol=1e-7)


def test_nobody_answers_a_round_twice_and_remembers_both(tmp_path: Path) -> None:
    trainer.work(_adding_up(tmp_path, 1), lambda fraction: None)
    with pytest.raises(TaskError, match="answered already"):
        trainer.work(_adding_up(tmp_path, 1), lambda fraction: None)


def test_a_disk_without_room_for_what_is_remembered_has_none_for_the_answer(
    tmp_path: Path,
) -> None:
    (tmp_path / "memory").write_bytes(b"in its place")
    with pytest.raises(TaskError, match="memory"):
        trainer.work(_adding_up(tmp_path, 1), lambda fraction: None)
    assert Outbox(tmp_path / "outbox").answers() == ((), ())


def _feeding_back(folder: Path, number: int, codec: str = "topk(share=0.3)+full") -> Job:
    return job(folder, round=RoundId(number), codec=codec, memory=str(folder / "memory"))


def _sent(update: Update) -> Array:
    chances = codec_chance.of_answer(7, update.round, ANN)
    layout = layout_of(linear.initial_weights(0))
    codec = codec_chain.read(update.codec)
    return codec.decode(update.payload, layout.size, chances, layout.shapes)


@pytest.mark.parametrize("codec", ["topk(share=0.3)+full", "lowrank(rank=1)+full"])
def test_what_a_codec_left_out_goes_with_a_later_answer_once_the_one_before_has_counted(
    tmp_path: Path, codec: str
) -> None:
    outbox, memory = Outbox(tmp_path / "outbox"), DeviceMemory(tmp_path / "memory")

    def answer(number: int, accepted: bool) -> Array:
        made = trainer.work(_feeding_back(tmp_path, number, codec), lambda fraction: None)
        update = read_from_client(outbox.read(made))
        assert isinstance(update, Update)
        memory.settle(made, accepted=accepted, counted=None)
        outbox.forget(made)
        return _sent(update)

    def change(number: int) -> Array:
        alone = tmp_path / f"alone-{number}"
        update = update_to(job(tmp_path, round=RoundId(number), outbox=str(alone)))
        whole: Array = flat(update.payload)
        return whole

    def left_out() -> Array:
        found: Array = remembered.read(memory, RunId("r")).arrays["left out"]
        return found

    first = answer(1, accepted=True)
    np.testing.assert_allclose(first + left_out(), change(1), atol=1e-7)
    before = left_out().copy()
    assert np.count_nonzero(before)
    # It is refused: nothing of it was counted, and nothing is remembered of it.
    refused = answer(2, accepted=False)
    assert np.count_nonzero(refused)
    np.testing.assert_array_equal(left_out(), before)
    third = answer(3, accepted=True)
    np.testing.assert_allclose(third + left_out(), change(3) + before, atol=1e-7)


def test_what_was_left_out_of_another_model_is_nothing(tmp_path: Path) -> None:
    memory = DeviceMemory(tmp_path / "memory")
    made = trainer.work(_feeding_back(tmp_path, 1), lambda fraction: None)
    strange = {"left out": np.ones(3, np.float32)}
    remembered.keep(memory, made, remembered.Remembered(round=RoundId(1), arrays=strange))
    memory.settle(made, accepted=True, counted=None)
    second = update_to(_feeding_back(tmp_path, 2))
    alone = flat(update_to(job(tmp_path, round=RoundId(2), outbox=str(tmp_path / "o"))).payload)
    sent = _sent(second)
    np.testing.assert_array_equal(sent[sent != 0], alone[sent != 0])
