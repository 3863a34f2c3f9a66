"""What counts in a round: checked whole before any of it is added, added once it is accepted."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import aggregation
from coordinator.aggregation import KeepModel
from coordinator.config import FederationConfig, Limits, SlowLinks, TrainingSettings
from coordinator.rounds import Named
from coordinator.sums.answers import Answers
from fedmqtt import codec_chain, codec_chance
from fedmqtt.messages import Measures, Update
from fedmqtt.settings import SettingsError
from fedmqtt.status_pages import CodecCount
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Shapes

ANN, BOB = ClientId("ann"), ClientId("bob")
DIGEST = "0" * 64


def config(**more: Any) -> FederationConfig:
    return FederationConfig(name="ward-7", task="learning_tasks.linear", **more)


def update(change: list[float], samples: int = 1, **more: Any) -> Update:
    fields = {"codec": "full", "payload": memoryview(np.array(change, "<f4").tobytes())} | more
    fields |= {"run": "run-1", "round": 1, "base": DIGEST, "fingerprint": "f"}
    return Update(sample_count=samples, **fields)


def test_updates_weigh_by_their_samples() -> None:
    answers = Answers(config(), size=2, terms_max=10)
    answers.begin(terms_max=2)
    for client, one in ((ANN, update([1.0, 0.0], samples=3)), (BOB, update([5.0, 4.0]))):
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
    assert answers.samples == 4
    # (3 * 1 + 5) / 4 and (3 * 0 + 4) / 4, on a base of 10.
    assert answers.finish(np.full(2, 10, np.float32)).tolist() == [12.0, 11.0]


def test_what_was_checked_and_not_accepted_adds_nothing() -> None:
    answers = Answers(config(), size=1, terms_max=10)
    answers.begin(terms_max=2)
    assert answers.check(ANN, update([7.0])) == ""
    answers.let_go()
    one = update([1.0])
    assert answers.check(ANN, one) == ""
    answers.fold(ANN, one, evaluates=False)
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [1.0]


def test_each_round_begins_at_nothing() -> None:
    answers = Answers(config(), size=1, terms_max=10)
    base = np.zeros(1, np.float32)
    for change in (1.0, 3.0):
        answers.begin(terms_max=1)
        one = update([change], metrics={"loss": change})
        assert answers.check(ANN, one) == ""
        answers.fold(ANN, one, evaluates=False)
        assert answers.finish(base).tolist() == [change]
        assert answers.train_metrics() == {"loss": change}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (update([1.0], wire=9), "wire version 9, not 1"),
        (update([1.0], codec="gzip"), "codec 'gzip', not 'full'"),
        (update([1.0], samples=101), "claims 101 samples; limits.samples_max is 100"),
        (update([1.0, 2.0]), "tensors of other shapes: 8 bytes where 4 belong"),
        (update([float("nan")]), "has values that are not finite"),
        (update([float("-inf")]), "has values that are not finite"),
        (update([-2.5]), "changes a parameter by 2.5; limits.change_max is 2"),
    ],
)
def test_what_cannot_count_is_told_why(wrong: Update, reason: str) -> None:
    answers = Answers(config(limits=Limits(change_max=2.0, samples_max=100)), size=1, terms_max=10)
    answers.begin(terms_max=1)
    assert answers.check(ANN, wrong) == reason


def test_bytes_are_read_by_the_chance_of_who_sent_them_and_when() -> None:
    few = codec_chain.read("eden+zstd")
    answers = Answers(config(codec="eden + zstd(level=3)", seed=9), size=300, terms_max=10)
    change = np.linspace(-1, 1, 300, dtype=np.float32)
    chances = codec_chance.of_answer(9, RoundId(1), ANN)
    one = update([], codec=few.text, payload=memoryview(few.encode(change, chances)))
    found = {}
    for client in (ANN, BOB):
        answers.begin(terms_max=1)
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
        found[client] = answers.finish(np.zeros(300, np.float32))
    np.testing.assert_allclose(found[ANN], few.decode(one.payload, 300, chances), rtol=1e-6)
    # In his name the signs mean another direction.
    norm = float(np.linalg.norm(change))
    assert found[ANN] @ change > 0.9 * norm**2 > 0.5 * norm**2 > abs(found[BOB] @ change)


def test_few_bytes_cannot_hide_large_changes() -> None:
    few = codec_chain.read("part(share=0.1)+eden+zstd")
    change = np.zeros(1000, np.float32)
    chances = codec_chance.of_answer(0, RoundId(1), ANN)
    payload = memoryview(few.encode(change + np.float32(1.5), chances))
    answers = Answers(
        config(codec=few.text, limits=Limits(change_max=2.0)), size=1000, terms_max=10
    )
    answers.begin(terms_max=1)
    fault = answers.check(ANN, update([], codec=few.text, payload=payload))
    assert fault.endswith("limits.change_max is 2")


@pytest.mark.parametrize("aggregation_", ["fedavg", "median"])
def test_a_part_of_the_numbers_counts_whether_or_not_the_strategy_takes_parts(
    aggregation_: str,
) -> None:
    few = codec_chain.read("part(share=0.3)+full")
    answers = Answers(config(codec=few.text, aggregation=aggregation_), size=50, terms_max=10)
    change = np.linspace(-1, 1, 50, dtype=np.float32)
    chances = codec_chance.of_answer(0, RoundId(1), ANN)
    one = update([], codec=few.text, payload=memoryview(few.encode(change, chances)))
    answers.begin(terms_max=1)
    assert answers.check(ANN, one) == ""
    answers.fold(ANN, one, evaluates=False)
    came = few.decode(one.payload, 50, chances)
    np.testing.assert_allclose(answers.finish(np.zeros(50, np.float32)), came, rtol=1e-6)


def test_a_codec_of_factors_goes_by_the_shapes_of_the_model() -> None:
    few, shapes = codec_chain.read("lowrank(rank=1)+full"), ((12, 10), (5,))
    answers = Answers(config(codec=few.text), size=125, terms_max=10, shapes=shapes)
    change = np.concatenate([np.outer(np.arange(12), np.arange(10)).ravel(), np.ones(5)]) / 128
    chances = codec_chance.of_answer(0, RoundId(1), ANN)

    def sent(shapes: Shapes) -> Update:
        payload = few.encode(change.astype(np.float32), chances, shapes)
        return update([], codec=few.text, payload=memoryview(payload))

    answers.begin(terms_max=1)
    assert answers.check(ANN, sent(())).startswith("tensors of other shapes: ")
    one = sent(shapes)
    assert one.payload.nbytes == 4 * (12 + 10 + 5) + 4 * 2
    assert answers.check(ANN, one) == ""
    answers.fold(ANN, one, evaluates=False)
    np.testing.assert_allclose(answers.finish(np.zeros(125, np.float32)), change, atol=1e-6)


def test_clients_may_answer_by_either_codec_that_the_offer_names_and_by_no_other() -> None:
    chosen = config(codec="full", slow_links=SlowLinks(codec="int8 + zstd(level=3)"))
    answers = Answers(chosen, size=4, terms_max=10)
    answers.begin(terms_max=2)
    change = np.full(4, 0.5, np.float32)
    for client, text in ((ANN, "full"), (BOB, "int8+zstd")):
        chances = codec_chance.of_answer(0, RoundId(1), client)
        payload = memoryview(codec_chain.read(text).encode(change, chances))
        one = update([], codec=text, payload=payload)
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
    np.testing.assert_allclose(answers.finish(np.zeros(4, np.float32)), change, rtol=1e-2)
    assert answers.codecs["full"] == CodecCount(updates=1, bytes=16)
    assert answers.codecs["int8+zstd"].updates == 1
    other = update([0.5] * 4, codec="int8")
    assert answers.check(ANN, other) == "codec 'int8', not 'full' or 'int8+zstd'"


def test_measures_count_of_those_who_were_asked() -> None:
    answers = Answers(config(), size=1, terms_max=10)
    answers.begin(terms_max=2)
    one = update([1.0], measures=Measures(sample_count=2, confusion=((1, 1), (0, 0))))
    for client, evaluates in ((ANN, True), (BOB, False)):
        assert answers.check(ANN, one) == ""
        answers.fold(client, one, evaluates=evaluates)
    figures = answers.figures()
    assert figures is not None
    assert (figures.clients, figures.samples, figures.metrics["accuracy"]) == (1, 2, 0.5)


def test_bounds_that_no_sum_can_hold_are_refused_at_start() -> None:
    with pytest.raises(SettingsError, match=r"do not fit 64 bits"):
        Answers(config(limits=Limits(change_max=1e9, samples_max=2**28)), size=1, terms_max=10)


def folded(answers: Answers, base: Array, change: list[float], number: int = 1) -> Array:
    answers.begin(4, RoundId(number))
    for client in (ANN, BOB):
        one = update(change)
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
    return answers.finish(base)


def test_what_a_strategy_remembers_is_there_in_the_next_round_and_after_a_restart() -> None:
    chosen = config(aggregation="fedavgm", aggregation_settings={"rate": 1.0, "momentum": 0.5})
    zeros = np.zeros(1, np.float32)
    answers = Answers(chosen, size=1, terms_max=4)
    assert folded(answers, zeros, [2.0]).tolist() == [2.0]
    remembered = dict(answers.memory)
    assert folded(answers, zeros, [2.0]).tolist() == [3.0]
    again = Answers(chosen, size=1, terms_max=4, memory=remembered)
    assert folded(again, zeros, [2.0]).tolist() == [3.0]


_INVERSE = """
import numpy as np
from msgspec import Struct

class Settings(Struct):
    pass

class Inverse:
    def __init__(self, given):
        self.given = given
        self.total = 0.0

    def fold(self, change, sample_count, named):
        self.total = self.total + change

    def finish(self, base):
        self.given.memory["seen"] = np.ones(1, np.float32)
        return base + 1 / self.total

def build(settings, round_):
    return Inverse(round_)
"""


def test_a_strategy_whose_model_is_not_finite_keeps_the_model_and_remembers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inverse.py").write_text(_INVERSE)
    monkeypatch.setattr(aggregation, "__path__", [*aggregation.__path__, str(tmp_path)])
    answers = Answers(config(aggregation="inverse"), size=2, terms_max=4)
    base = np.ones(2, np.float32)
    with pytest.raises(KeepModel, match="values that are not finite"):
        folded(answers, base, [4.0, 0.0])
    assert answers.memory == {}
    assert folded(answers, base, [4.0, 2.0]).tolist() == [1.125, 1.25]
    assert answers.memory.keys() == {"seen"}


def test_each_round_has_a_chance_of_its_own_which_is_the_same_again() -> None:
    chosen = config(
        aggregation="median", aggregation_settings={"before": ["bucketing"], "f": 0}, seed=3
    )
    base = np.zeros(1, np.float32)

    def model(answers: Answers, number: int) -> float:
        answers.begin(9, RoundId(number))
        for n in range(9):
            one, client = update([float(2**n) / 16]), ClientId(f"client-{n}")
            assert answers.check(client, one) == ""
            answers.fold(client, one, evaluates=False)
        return float(answers.finish(base)[0])

    first, second = ([model(Answers(chosen, 1, 9), n) for n in range(12)] for _ in range(2))
    assert first == second and len(set(first)) > 3


# Differences to what was counted


def adding_up(**more: Any) -> Answers:
    answers = Answers(config(aggregation="mifa", **more), size=1, terms_max=10)
    answers.begin(terms_max=10, number=RoundId(1))
    return answers


def difference(change: float, number: int, since: int) -> Update:
    return msgspec.structs.replace(update([change]), round=RoundId(number), since=RoundId(since))


def test_a_difference_counts_only_if_it_is_one_to_what_was_counted_last() -> None:
    answers = adding_up()
    first = difference(3.0, 1, since=0)
    assert answers.check(ANN, first) == "" and answers.counted_last(ANN) == 0
    answers.fold(ANN, first, evaluates=False)
    assert answers.counted_last(ANN) == 1
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [3.0]
    answers.end()
    answers.begin(terms_max=10, number=RoundId(2))
    assert "goes by round 0 as the last that was counted; it was 1" in answers.check(
        ANN, difference(1.0, 2, since=0)
    )
    second = difference(-1.0, 2, since=1)
    assert answers.check(ANN, second) == "" and answers.counted_last(BOB) == 0
    answers.fold(ANN, second, evaluates=False)
    # Ann's change is 2 now.
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [2.0]


def test_who_was_counted_by_another_strategy_and_sends_all_anew_counts_at_once() -> None:
    answers = adding_up()
    whole = msgspec.structs.replace(difference(3.0, 7, since=5), whole=True)
    assert answers.check(ANN, whole) == ""
    answers.fold(ANN, whole, evaluates=False)
    assert answers.counted_last(ANN) == 7
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [3.0]
    answers.end()
    answers.begin(terms_max=10, number=RoundId(8))
    # Once: what was counted now is what the next has to be a difference to.
    again = msgspec.structs.replace(difference(3.0, 8, since=5), whole=True)
    assert "goes by round 5 as the last that was counted; it was 7" in answers.check(ANN, again)
    assert answers.check(ANN, difference(-1.0, 8, since=7)) == ""


def test_a_difference_to_what_is_not_in_the_sum_any_more_is_told_why() -> None:
    fault = adding_up().check(ANN, difference(1.0, 7, since=5))
    assert fault == (
        "goes by round 5 as the last that was counted; it was 0: what it gave before is not in the"
        " sum any more, as it was away for too long or the settings have changed; with its next"
        " answer it begins anew"
    )


def test_a_round_that_keeps_its_model_does_not_lose_what_clients_remember() -> None:
    answers = adding_up()
    one = difference(3.0, 1, since=0)
    assert answers.check(ANN, one) == ""
    answers.fold(ANN, one, evaluates=False)
    answers.keep()
    answers.end()
    assert answers.counted_last(ANN) == 1
    answers.begin(terms_max=10, number=RoundId(2))
    two = difference(1.0, 2, since=0)
    assert answers.check(BOB, two) == ""
    answers.fold(BOB, two, evaluates=False)
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [2.0]


def test_an_answer_that_was_accepted_and_is_left_out_was_never_counted() -> None:
    answers = adding_up()
    late = Named(ANN, RoundId(1))
    answers.take(late)
    assert answers.counted_last(ANN) == 1
    answers.leave_out(late)
    assert answers.counted_last(ANN) == 0


def test_a_late_answer_that_waits_counts_with_the_newer_one_before_it() -> None:
    answers = adding_up()
    early = difference(1.0, 1, since=0)
    answers.take(Named(ANN, RoundId(1)))
    newer = difference(5.0, 2, since=1)
    assert answers.check(ANN, newer) == ""
    answers.fold(ANN, newer, evaluates=False)
    answers.finish(np.zeros(1, np.float32))
    answers.end()
    answers.begin(terms_max=10, number=RoundId(3))
    assert answers.counted_last(ANN) == 2
    assert answers.check(ANN, early) == ""
    answers.fold(ANN, early, evaluates=False, staleness=2)
    assert answers.finish(np.zeros(1, np.float32)).tolist() == [6.0]


def test_strategies_without_differences_neither_check_nor_tell() -> None:
    answers = Answers(config(), size=1, terms_max=10)
    answers.begin(terms_max=2)
    assert answers.check(ANN, difference(1.0, 1, since=7)) == ""
    assert answers.counted_last(ANN) is None


def test_a_codec_that_multiplies_is_refused_where_differences_are_added_up() -> None:
    with pytest.raises(SettingsError, match="scaled=false"):
        adding_up(codec="part(share=0.5)+eden")
    adding_up(codec="part(share=0.5,scaled=false)+eden")


def test_other_limits_make_another_grid_and_all_is_learned_anew() -> None:
    answers = adding_up()
    one = difference(3.0, 1, since=0)
    assert answers.check(ANN, one) == ""
    answers.fold(ANN, one, evaluates=False)
    answers.finish(np.zeros(1, np.float32))
    wider = Limits(change_max=1000.0)
    for limits, counted in ((Limits(), 1), (wider, 0)):
        again = config(aggregation="mifa", limits=limits)
        memory = dict(answers.memory)
        assert Answers(again, 1, 10, memory=memory).counted_last(ANN) == counted


@pytest.mark.parametrize("interval", [0.5, 50.5, float("nan"), float("inf")])
def test_nobody_claims_to_be_there_more_seldom_than_is_taken(interval: float) -> None:
    answers = Answers(config(aggregation="fedau"), size=1, terms_max=10)
    answers.begin(terms_max=2)
    assert answers.check(ANN, update([1.0], interval=50.0)) == ""
    fault = answers.check(ANN, update([1.0], interval=interval))
    assert f"takes part every {interval} rounds" in fault and "1 to 50 are taken" in fault


@pytest.mark.parametrize(
    ("aggregation_", "said"),
    [("fedsgd", "not by 'gradient'"), ("fedprox", "not by 'proximal=0.01'")],
)
def test_an_older_program_that_did_not_do_what_was_asked_is_found_out(
    aggregation_: str, said: str
) -> None:
    answers = Answers(config(aggregation=aggregation_), size=1, terms_max=10)
    answers.begin(terms_max=2)
    fault = answers.check(ANN, update([1.0]))
    assert fault.startswith("was made by 'plain local SGD', ") and said in fault
    asked = said.split("'")[1]
    assert answers.check(ANN, update([1.0], method=asked)) == ""


def test_nor_does_anything_count_that_was_not_asked_for() -> None:
    answers = Answers(config(), size=1, terms_max=10)
    answers.begin(terms_max=2)
    fault = answers.check(ANN, update([1.0], method="gradient"))
    assert fault.startswith("was made by 'gradient', not by 'plain local SGD'")


def test_what_a_strategy_needs_of_an_update_and_does_not_get_is_told_to_its_sender() -> None:
    answers = Answers(config(aggregation="qfedavg"), size=1, terms_max=10)
    answers.begin(terms_max=2)
    lossless = update([1.0], method="tells-loss")
    assert "tells a loss of None before training" in answers.check(ANN, lossless)


def test_a_late_answer_of_partial_work_counts_for_less_and_for_the_steps_that_it_made() -> None:
    # Two steps a pass: 64 samples in batches of 32.
    training = TrainingSettings(batch_size=32)
    answers = Answers(config(aggregation="fednova", training=training), size=1, terms_max=10)
    answers.begin(terms_max=2)
    for client, samples, steps, change, staleness in ((ANN, 64, 2, 4.0, 0), (BOB, 64, 1, 4.0, 3)):
        one = update([change], samples, method="partial", steps=steps)
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False, staleness=staleness)
    # Bob's 64 samples count as 32 after 3 rounds. The mean change of a step, times mean steps.
    expected = (64 * 2 + 32 * 4) / 96 * (64 * 2 + 32 * 1) / 96
    assert answers.finish(np.zeros(1, np.float32)) == pytest.approx(expected)
