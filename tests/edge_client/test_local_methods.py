"""A difference and what is remembered of it: both sides have added up the same, to the bit."""

from pathlib import Path

import numpy as np
import pytest

from edge_client import local_methods
from edge_client.remembered import NOTHING, Remembered
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance, fixed_point
from fedmqtt.messages import Method
from fedmqtt.topics import RoundId
from fedmqtt.weights import Array
from tests.edge_client.jobs import job

SIZE = 500
SHAPES = ((24, 20), (20,))
BITS = fixed_point.remembered_bits(64.0)


def asked(folder: Path, number: int, codec: str = "full", bits: int = BITS) -> Job:
    method = Method(difference=True, fraction_bits=bits)
    return job(folder, round=RoundId(number), codec=codec, method=method)


def change(number: int) -> Array:
    return np.random.default_rng(number).normal(0, 0.01, SIZE).astype(np.float32)


def arrived(of: Job, outgoing: local_methods.Outgoing) -> Array:
    chances = codec_chance.of_answer(of.seed, of.round, of.client)
    return codec_chain.read(of.codec).decode(outgoing.payload, SIZE, chances, SHAPES)


def kept(outgoing: local_methods.Outgoing) -> Remembered:
    assert outgoing.remembered is not None
    return outgoing.remembered


def test_without_a_method_the_change_itself_is_sent_and_nothing_remembered(tmp_path: Path) -> None:
    outgoing = local_methods.encode(job(tmp_path), change(1))
    np.testing.assert_array_equal(arrived(job(tmp_path), outgoing), change(1))
    assert (outgoing.since, outgoing.whole, outgoing.remembered) == (0, False, None)


@pytest.mark.parametrize("codec", ["full", "int8", "eden", "part(share=0.25,scaled=false)+eden"])
def test_the_coordinator_s_sum_is_what_is_remembered(tmp_path: Path, codec: str) -> None:
    before, total = NOTHING, np.zeros(SIZE, np.int64)
    for number in range(1, 40):
        of = asked(tmp_path, number, codec)
        outgoing = local_methods.encode(of, change(number), before)
        assert outgoing.since == before.round and not outgoing.whole
        total += fixed_point.on_grid(arrived(of, outgoing), BITS)
        before = kept(outgoing)
        assert before.round == number
        np.testing.assert_array_equal(before.arrays["counted"], total)


@pytest.mark.parametrize("codec", ["eden", "part(share=0.25,scaled=false)+eden"])
def test_a_codec_s_errors_are_made_good_by_the_next_difference(tmp_path: Path, codec: str) -> None:
    """The same change again and again: what is remembered comes ever closer to it."""
    before, wanted, errors = NOTHING, change(0), []
    for number in range(1, 120):
        before = kept(local_methods.encode(asked(tmp_path, number, codec), wanted, before))
        counted = np.ldexp(before.arrays["counted"].astype(np.float64), -BITS)
        errors.append(np.linalg.norm(counted - wanted) / np.linalg.norm(wanted))
    assert errors[0] > 0.3 and errors[-1] < 1e-3


def test_who_has_lost_it_says_so_and_sends_all(tmp_path: Path) -> None:
    lost = Remembered(round=RoundId(7), lost=True)
    outgoing = local_methods.encode(asked(tmp_path, 8), change(8), lost)
    assert (outgoing.since, outgoing.whole) == (7, True)
    np.testing.assert_array_equal(arrived(asked(tmp_path, 8), outgoing), change(8))
    assert kept(outgoing).round == 8


def test_what_is_on_another_grid_or_of_another_model_is_as_good_as_lost(tmp_path: Path) -> None:
    before = kept(local_methods.encode(asked(tmp_path, 1), change(1)))
    finer = local_methods.encode(asked(tmp_path, 2, bits=BITS + 1), change(2), before)
    longer = local_methods.encode(asked(tmp_path, 2), np.zeros(SIZE + 1, np.float32), before)
    assert [(one.since, one.whole) for one in (finer, longer)] == [(1, True)] * 2


def test_more_than_can_be_remembered_is_not_sent(tmp_path: Path) -> None:
    huge = np.full(SIZE, 100.0, np.float32)
    before = kept(local_methods.encode(asked(tmp_path, 1), huge))
    with pytest.raises(ValueError, match="beyond limits"):
        local_methods.encode(asked(tmp_path, 2), 2 * huge, before)


@pytest.mark.parametrize(
    "codec",
    [
        "topk(share=0.02)+full",
        "topk(share=0.1)+int8+zstd",
        "lowrank(rank=1)+full",
        "lowrank(rank=2)+int8+zstd",
        # Each factor in a bit: scales keep what is left out from growing.
        "lowrank(rank=4)+eden",
    ],
)
def test_all_that_arrived_and_what_was_left_out_are_all_changes_together(
    tmp_path: Path, codec: str
) -> None:
    before, came, all_of_it = NOTHING, np.zeros(SIZE), np.zeros(SIZE)
    left_out = []
    for number in range(1, 200):
        of = job(tmp_path, round=RoundId(number), codec=codec)
        outgoing = local_methods.encode(of, change(number), before, SHAPES)
        before = kept(outgoing)
        came += arrived(of, outgoing)
        all_of_it += change(number)
        left_out.append(float(np.linalg.norm(before.arrays["left out"])))
    np.testing.assert_allclose(came + before.arrays["left out"], all_of_it, atol=1e-5)
    # It does not grow without bound: what was left out becomes the largest, or the strongest.
    assert max(left_out[100:]) < 1.5 * max(left_out[:100])


@pytest.mark.parametrize("codec", ["topk(share=0.02)+full", "lowrank(rank=1)+full"])
def test_a_difference_needs_no_other_memory_of_what_a_codec_left_out(
    tmp_path: Path, codec: str
) -> None:
    # Of clients that change by the same in each round, the sum comes to be that.
    before, same = NOTHING, change(1)
    for number in range(1, 60):
        outgoing = local_methods.encode(asked(tmp_path, number, codec), same, before, SHAPES)
        before = kept(outgoing)
    assert before.arrays.keys() == {"counted"}
    counted = np.ldexp(before.arrays["counted"].astype(np.float64), -BITS)
    np.testing.assert_allclose(counted, same, atol=1e-7)


def test_an_answer_by_a_codec_without_memory_leaves_what_others_left_out(tmp_path: Path) -> None:
    method = Method(interval_max=50)
    first = job(tmp_path, codec="topk(share=0.02)+full", method=method)
    before = kept(local_methods.encode(first, change(1)))
    # Its link has become slow, and it answers by the codec for those.
    second = job(tmp_path, round=RoundId(2), codec="int8", method=method)
    after = kept(local_methods.encode(second, change(2), before))
    np.testing.assert_array_equal(after.arrays["left out"], before.arrays["left out"])
    assert after.facts["answered_last"] == 2
