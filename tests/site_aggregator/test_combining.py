"""What a site hands up under a mask: the sum of its devices' words, or a mean that counts."""

import hashlib
from dataclasses import replace

import msgspec
import numpy as np
from msgspec import structs

from coordinator.sites.above import AsMasked, CameTo, Words
from coordinator.sites.words import WordSum
from edge_client.training_job import Job, Mask
from fedmqtt.masking import packing, values
from fedmqtt.masking.values import MeanChange
from fedmqtt.messages import Entry, Masking, Measures, SumOf, Training, Update
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array
from site_aggregator import combining
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import BASE, FEDERATION, ROUND, RUN, Answer

SEED, SIZE = 11, 300
NORTH = ClientId("north")
HOW = cohort.masking(clients_max=8, weight_max=10, samples_max=100, value_bits=14)
SAMPLES = {"ann": 100, "bob": 40, "cat": 10}
"""They count for 10, 4 and 1."""


def change(name: str) -> Array:
    return np.random.default_rng(ord(name[0])).normal(0, 0.1, SIZE).astype(np.float32)


def job(how: Masking = HOW) -> Job:
    key, _ = cohort.credentials(NORTH)
    mask = Mask(masking=msgspec.msgpack.encode(how), federation=FEDERATION, signing_key=key)
    return Job(
        client=NORTH,
        purpose="train",
        task="t",
        data_dir=".",
        model_path="",
        outbox="",
        run=RUN,
        round=ROUND,
        base=BASE,
        measure_base=False,
        fingerprint="f",
        training=Training(),
        codec="full",
        seed=SEED,
        mask=mask,
    )


def words(how: Masking = HOW) -> Words:
    made = WordSum(AsMasked(how, SEED, ROUND), SIZE)
    for name, samples in SAMPLES.items():
        made.add(ClientId(name), change(name), samples, None)
    return made.found


def came_to(found: Words | None) -> CameTo:
    mean = sum(change(name) * np.float32(its / 150) for name, its in SAMPLES.items())
    return CameTo(
        round=ROUND,
        base=BASE,
        made_model=True,
        reason="cohort complete",
        clients=len(SAMPLES),
        samples=150,
        exact=None,
        words=found,
        before=np.zeros(SIZE, np.float32),
        after=np.asarray(mean, np.float32),
        train_metrics={"loss": 0.5},
        figures=None,
    )


def opened(update: Update, how: Masking = HOW) -> packing.Words:
    """What keyholders would, were it alone."""
    assert update.masked is not None
    assert update.sample_count == 1 and update.metrics == {}
    assert not isinstance(update.sum_of, SumOf)
    payload = bytes(update.payload)
    entry = Entry(NORTH, 1, hashlib.sha256(payload).digest(), update.masked, *cohort.author(NORTH))
    nothing = np.empty(0, np.uint32)
    return cohort.opened(how, SIZE, (0, 1, 2), [Answer(entry, payload, nothing)])


def told(update: Update, how: Masking = HOW) -> MeanChange:
    return values.from_sum(how, opened(update, how), SIZE, 1, cohort.chances(NORTH).shared)


def test_of_one_round_it_is_the_sum_of_its_devices_words() -> None:
    found = words()
    before = found.numbers.copy()
    update = combining.one_round(job(), came_to(found), None)
    body, kept = opened(update)[:SIZE], np.uint32(2**HOW.bits - 1)
    assert (body & kept).tolist() == (before[:SIZE] & kept).tolist()
    assert opened(update)[SIZE:].tolist() == before[SIZE:].tolist() == [15, 0, 0, 3]
    # They may be asked for again.
    assert found.numbers.tolist() == before.tolist()


def test_of_several_it_is_how_far_it_has_come_for_what_its_devices_count() -> None:
    start = np.full(SIZE, 0.125, np.float32)
    mean = told(combining.several(job(), came_to(words()), start, None))
    assert (mean.weight, mean.clients) == (15, 3)
    assert np.allclose(mean.change, came_to(None).after - start, atol=1e-3)


def test_a_mean_tells_of_norms_and_clipping_as_so_many_devices() -> None:
    """Ranges go by how large values are on average over devices: a mean is of all of its own."""
    adaptive = structs.replace(HOW, rotate=True, block_norms=4, norm_max=0.01)
    mean = told(combining.one_round(job(adaptive), came_to(None), None), adaptive)
    exact = told(combining.one_round(job(adaptive), came_to(words(adaptive)), None), adaptive)
    assert mean.clients == exact.clients == 3
    assert mean.norms_clipped == exact.norms_clipped == 3
    assert np.allclose(mean.block_norms, exact.block_norms, rtol=0.5)


def test_what_devices_measured_does_not_go_up_where_the_owner_does_not_want_it() -> None:
    measuring = structs.replace(HOW, metrics=("loss",))
    made = WordSum(AsMasked(measuring, SEED, ROUND), SIZE)
    for name, samples in SAMPLES.items():
        found = Measures(sample_count=10, metrics={"loss": 0.5})
        made.add(ClientId(name), change(name), samples, found)
    for tells, clients in ((True, 3), (False, 0)):
        update = combining.one_round(job(measuring), came_to(made.found), None, tells=tells)
        mean = told(update, measuring)
        assert mean.measured is not None and mean.measured.clients == clients
        assert (mean.weight, mean.clients) == (15, 3)


def test_words_that_are_not_for_what_is_asked_now_are_not_handed_up() -> None:
    """Another masking of the same round: the coordinator went on with other settings."""
    other = structs.replace(HOW, weight_max=2)
    mean = told(combining.one_round(job(other), came_to(words()), None), other)
    # One for each, as nobody has told more by this one.
    assert (mean.weight, mean.clients) == (3, 3)
    few = structs.replace(HOW, clients_max=2)
    mean = told(combining.one_round(job(few), came_to(words()), None), few)
    assert (mean.weight, mean.clients) == (2, 2)
    assert np.allclose(mean.change, came_to(None).after, atol=1e-3)


def test_where_each_answer_is_of_one_it_is_the_mean_as_of_one_client() -> None:
    alone = structs.replace(HOW, clients_max=1)
    mean = told(combining.one_round(job(alone), came_to(None), None), alone)
    assert (mean.weight, mean.clients) == (10, 1)
    assert np.allclose(mean.change, came_to(None).after, atol=1e-3)


def test_by_other_keyholders_it_is_the_same_sum() -> None:
    two = structs.replace(HOW, keyholders=HOW.keyholders[:2])
    update = combining.one_round(job(two), came_to(words()), None)
    assert update.masked is not None and len(update.masked.sealed) == 2
    asked = AsMasked(two, SEED, ROUND)
    again = combining.one_round(job(two), came_to(replace(words(), how=asked)), None)
    # Under a mask of its own each time.
    assert bytes(again.payload) != bytes(update.payload)
