"""What leaves the trainer where answers are masked: a sum's term, and nothing of this device."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from edge_client import trainer
from edge_client.training_job import Job, Mask
from fedmqtt import codec_chance, envelope, signing, weights
from fedmqtt.envelope import Author
from fedmqtt.masking import attested, masks, measured, packing, values
from fedmqtt.masking.measured import MeasuredSum
from fedmqtt.messages import Entry, Masking, Method, Update
from fedmqtt.topics import ClientId, Digest
from learning_tasks.seam import TaskError
from tests.edge_client.jobs import ANN, flat, job, model_file, task_file, update_to
from tests.edge_client.masks import FEDERATION, keys_of, masking, trusted

FEDERATION_KEY, OWN_KEY = signing.new_key(), signing.new_key()
PUBLIC = signing.public_key(OWN_KEY)
TICKET = signing.ticket(FEDERATION_KEY, FEDERATION, ANN, PUBLIC)
AUTHOR = Author(signing.as_bytes(PUBLIC), signing.as_bytes(TICKET, envelope.TICKET_BYTES))
SIZE = 15
"""Of the linear task's model."""


def _masked_job(folder: Path, masked: Masking, **changes: Any) -> Job:
    mask = Mask(
        masking=msgspec.msgpack.encode(masked),
        federation=FEDERATION,
        signing_key=OWN_KEY,
    )
    return job(folder, mask=mask, **changes)


def _words(update: Update, masked: Masking, body: int) -> packing.Words:
    tail = values.tail_size(masked, body)
    return packing.from_payload(update.payload, body, tail, masked.bits)


def _opened(update: Update, masked: Masking, body: int = SIZE) -> packing.Words:
    """What was masked, modulo 2^bits and 2^32, as all its keyholders together could see it."""
    words = _words(update, masked, body)
    assert update.masked is not None
    for seed in keys_of(update.masked, masked, ANN, update.base):
        masks.add_mask(words, seed, -1)
    words[:body] &= np.uint32(2**masked.bits - 1)
    return words


@pytest.mark.parametrize(
    "masked",
    [masking(), masking(weight_max=100, samples_max=120), trusted(bits=31, value_bits=24)],
)
def test_under_the_masks_is_what_training_changed(tmp_path: Path, masked: Masking) -> None:
    plain = flat(update_to(job(tmp_path, outbox=str(tmp_path / "plain"))).payload)
    update = update_to(_masked_job(tmp_path, masked))
    weight = 50 if masked.weight_max == 100 else 1
    step = masked.weight_max * masked.change_max / (2 ** (masked.value_bits - 1) - 1)
    opened = _opened(update, masked)
    found = values.centred(opened[:SIZE], masked.bits)
    np.testing.assert_array_equal(found, np.rint(plain * (weight / step)))
    assert list(opened[SIZE:]) == [weight, 0, 0]


def test_all_else_that_an_update_may_say_is_left_out(tmp_path: Path) -> None:
    # What it would say in plain words: 60 samples, and a metric.
    plain = update_to(job(tmp_path, outbox=str(tmp_path / "plain")))
    assert plain.sample_count == 60 and plain.metrics
    update = update_to(_masked_job(tmp_path, masking()))
    nothing_more = Update(
        run=update.run,
        round=update.round,
        base=plain.base,
        fingerprint=plain.fingerprint,
        sample_count=1,
        codec="full",
        masked=update.masked,
        payload=update.payload,
    )
    assert update == nothing_more


def test_two_devices_of_which_one_has_more_data_cannot_be_told_apart(tmp_path: Path) -> None:
    lengths, heads = [], []
    for samples in ("1", "200"):
        lines = f"from dataclasses import replace\nreturn replace(again(), sample_count={samples})"
        task = task_file(tmp_path, f"has{samples}", lines)
        wanted = _masked_job(tmp_path, masking(weight_max=100, samples_max=100), task=task)
        update = update_to(structs.replace(wanted, outbox=str(tmp_path / samples)))
        assert _opened(update, masking())[SIZE] == int(samples if samples == "1" else 100)
        lengths.append(len(update.payload))
        heads.append(structs.replace(update, masked=None, payload=memoryview(b"")))
    assert lengths[0] == lengths[1] and heads[0] == heads[1]


MEASURED = masking(metrics=("loss", "accuracy", "mae"), classes=3)


def _measured(update: Update) -> MeasuredSum:
    found = measured.from_sum(MEASURED, _opened(update, MEASURED))
    assert found is not None
    return found


def test_what_it_measures_is_under_the_mask_and_nowhere_else(tmp_path: Path) -> None:
    plain = update_to(job(tmp_path, outbox=str(tmp_path / "plain"), measure_base=True))
    assert plain.measures is not None and plain.measures.sample_count == 30
    update = update_to(_masked_job(tmp_path, MEASURED, measure_base=True))
    assert update.measures is None and update.metrics == {} and update.sample_count == 1
    found = _measured(update)
    assert (found.clients, found.clipped, found.samples) == (1, 0, 30)
    assert found.confusion == plain.measures.confusion and found.classified == 1
    for name in ("loss", "accuracy"):
        assert abs(found.metrics[name].mean - plain.measures.metrics[name]) <= 2**-25
    assert found.metrics["mae"].clients == 0


def test_who_is_not_to_measure_sends_as_much_and_counts_nowhere(tmp_path: Path) -> None:
    of_both = [
        update_to(
            _masked_job(tmp_path, MEASURED, measure_base=does, outbox=str(tmp_path / str(does)))
        )
        for does in (True, False)
    ]
    assert len({len(update.payload) for update in of_both}) == 1
    assert not _opened(of_both[1], MEASURED)[SIZE + values.COUNTS :].any()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("lost", 'raise TaskError("no data to measure with")'),
        ("odd", 'from dataclasses import replace; return replace(found, metrics={"loss": "low"})'),
    ],
)
def test_who_cannot_measure_trains_all_the_same_and_says_so_at_home(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, lines: str
) -> None:
    task = Path(task_file(tmp_path, name, "pass"))
    evaluate = f"""
def evaluate(weights, data):
    found = linear.evaluate(weights, data[1])
    {lines}
"""
    task.write_text(task.read_text() + evaluate)
    update = update_to(_masked_job(tmp_path, MEASURED, task=str(task), measure_base=True))
    assert _measured(update).clients == 0 and _opened(update, MEASURED)[:SIZE].any()
    assert "round 1 is not measured: " in capfd.readouterr().err
    # Where it is told in the clear, it is asked alone, and what is wrong is its answer.
    with pytest.raises(TaskError):
        update_to(job(tmp_path, task=str(task), measure_base=True))


def test_nothing_of_it_is_on_the_disk_before_it_is_masked(tmp_path: Path) -> None:
    plain = update_to(job(tmp_path, outbox=str(tmp_path / "plain")))
    numbers = flat(plain.payload)
    wanted = _masked_job(tmp_path, masking(), outbox=str(tmp_path / "masked"))
    update = update_to(wanted)
    chances = codec_chance.of_answer(wanted.seed, wanted.round, ANN)
    words = values.to_words(masking(), numbers, 60, chances)
    planted = [numbers.tobytes(), words.tobytes(), packing.pack(words, 24)]
    kept = [path.read_bytes() for path in (tmp_path / "masked").rglob("*") if path.is_file()]
    assert kept and any(bytes(update.payload) in data for data in kept)
    for data in kept:
        # Any four numbers of it would do.
        assert not any(one[at : at + 16] in data for one in planted for at in range(0, 44, 4))


def test_each_answer_has_masks_of_its_own(tmp_path: Path) -> None:
    first, again = (
        update_to(_masked_job(tmp_path, masking(), outbox=str(tmp_path / name))) for name in "ab"
    )
    assert first.masked is not None and again.masked is not None
    assert first.masked.exchange != again.masked.exchange
    both = [_words(update, masking(), SIZE) for update in (first, again)]
    assert not np.any(both[0] == both[1])
    np.testing.assert_array_equal(_opened(first, masking()), _opened(again, masking()))


def test_it_is_signed_by_the_device_that_made_it(tmp_path: Path) -> None:
    update = update_to(_masked_job(tmp_path, masking()))
    assert update.masked is not None
    federation, how = signing.public_key(FEDERATION_KEY), attested.masking_digest(masking())
    entry = Entry(ANN, 1, hashlib.sha256(update.payload).digest(), update.masked, *AUTHOR)
    is_for = (FEDERATION, federation, update.run, update.round)
    attested.check(*is_for, update.base, how, entry)
    for base, masked, of in (
        (Digest("b" * 64), how, entry),
        (update.base, attested.masking_digest(masking(floor=2)), entry),
        (update.base, how, Entry(ANN, 1, bytes(32), update.masked, *AUTHOR)),
        (update.base, how, Entry(ClientId("bob"), 1, entry.payload, update.masked, *AUTHOR)),
    ):
        with pytest.raises(attested.NotAttested):
            attested.check(*is_for, base, masked, of)


def test_layers_that_stay_on_the_device_are_not_masked_but_left_out(tmp_path: Path) -> None:
    personal = Method(personal=("bias",))
    update = update_to(
        _masked_job(tmp_path, masking(), method=personal, memory=str(tmp_path / "memory"))
    )
    other = {"outbox": str(tmp_path / "plain"), "memory": str(tmp_path / "other")}
    plain = update_to(job(tmp_path, method=personal, **other))
    found = values.centred(_opened(update, masking(), 12)[:12], masking().bits)
    step = masking().change_max / (2 ** (masking().value_bits - 1) - 1)
    np.testing.assert_allclose(found * step, flat(plain.payload), atol=step / 2)


def test_what_is_no_number_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    spoil = "found = again(); found.weights['bias'][0] = float('nan'); return found"
    wanted = _masked_job(tmp_path, masking(), task=task_file(tmp_path, "lost", spoil))
    with pytest.raises(TaskError, match=r"^what training changed cannot be masked: .*not finite"):
        update_to(wanted)
    assert not list(Path(wanted.outbox).glob("*"))


def test_a_model_that_is_built_otherwise_than_its_offer_says_is_not_trained(
    tmp_path: Path,
) -> None:
    wanted = job(tmp_path, task=task_file(tmp_path, "eager", 'raise AssertionError("trained")'))
    named = {"weight": np.zeros((4, 3), np.float32), "leak": np.zeros(3, np.float32)}
    layout = weights.layout_of(named)
    Path(wanted.model_path).write_bytes(weights.write(layout, layout.flatten(named)))
    with pytest.raises(TaskError, match=f"the model is not built as .* {layout.fingerprint}$"):
        trainer.work(wanted, lambda fraction: None)
    Path(wanted.model_path).write_bytes(model_file())
    with pytest.raises(AssertionError, match="trained"):
        trainer.work(wanted, lambda fraction: None)


def test_a_mask_does_not_tell_its_key() -> None:
    told = repr(Mask(masking=b"", federation="demo", signing_key=OWN_KEY))
    assert OWN_KEY not in told
