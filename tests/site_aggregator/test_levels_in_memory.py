"""Two levels make the model of one to the last bit, also of answers in few bits that leave the rest
on the devices, and of models of which layers stay there."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from coordinator import local_method
from coordinator.config import (
    FederationConfig,
    Limits,
    Rounds,
    Sites,
    TrainingSettings,
    Tuning,
)
from coordinator.sites import totals
from coordinator.sites.above import CameTo
from coordinator.sums.answers import Answers
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance, personal
from fedmqtt.messages import Update, method_name
from fedmqtt.personal import Division
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array, Layout
from site_aggregator import combining, terms
from tests.updates import update

LAYOUT = Layout((("conv.weight", (8, 6)), ("bn.scale", (4,)), ("head.weight", (6, 3))))
BASE = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
FOUR = RoundId(4)
SITES = {"north": ("ann", "bob", "cat"), "south": ("dan",)}
ALONE = ("eve", "fay")
SAMPLES = {"ann": 3, "bob": 50, "cat": 7, "dan": 1, "eve": 20, "fay": 11}
FLAT_TERMS, CENTRE_TERMS = 24, 8
"""Answers that the sums have room for: as many devices, where a site stands for three."""


def config(codec: str, patterns: tuple[str, ...], clients_max: int = 0) -> FederationConfig:
    return FederationConfig(
        name="all",
        task="t",
        seed=3,
        codec=codec,
        training=TrainingSettings(personal=patterns),
        limits=Limits(change_max=64.0, samples_max=1000),
        sites=Sites(clients_max=clients_max),
    )


def job(centre: FederationConfig, bits: int) -> Job:
    """What the agent of a site makes of the centre's offer."""
    return Job(
        client=ClientId("north"),
        purpose="train",
        task="t",
        data_dir=".",
        model_path="",
        outbox="",
        run=RunId("r.1"),
        round=FOUR,
        base=Digest("0" * 64),
        measure_base=False,
        fingerprint="f",
        training=local_method.training(centre),
        method=local_method.asked(centre),
        codec=centre.codec,
        seed=centre.seed,
        closes_at=1e9,
        sites=totals.terms(centre, bits),
    )


def answer(of: FederationConfig, division: Division, device: str) -> Update:
    """A device's, by the codec and the chance that its coordinator asks for."""
    changes = np.random.default_rng(SAMPLES[device]).normal(size=division.size)
    chain = codec_chain.read(of.codec)
    chances = codec_chance.of_answer(of.seed, FOUR, ClientId(device))
    shapes = tuple(shape for _, shape in division.shared.tensors)
    payload = chain.encode(changes.astype(np.float32), chances, shapes)
    return update(
        FOUR,
        codec=chain.text,
        payload=memoryview(payload),
        sample_count=SAMPLES[device],
        method=method_name(local_method.training(of), local_method.asked(of)),
    )


def taken_in(
    of: FederationConfig,
    division: Division,
    terms_max: int,
    said: Mapping[str, Update],
    bits: int | None = None,
) -> Answers:
    shapes = tuple(shape for _, shape in division.shared.tensors)
    answers = Answers(of, division.size, terms_max, shapes=shapes, bits=lambda: bits)
    answers.begin(terms_max, FOUR)
    for name, one in said.items():
        assert answers.check(ClientId(name), one) == ""
        answers.fold(ClientId(name), one, evaluates=False, staleness=0)
        answers.let_go()
    return answers


def handed_up(
    centre: FederationConfig, division: Division, base: Array, bits: int, devices: Sequence[str]
) -> Update:
    """As a site does it, by the settings that it makes of what the centre asks."""
    asked = job(centre, bits)
    own = terms.devices_settings(
        FederationConfig(
            name="ward",
            task="t",
            rounds=Rounds(cohort=3, over_selection=1.0),
            tuning=Tuning(enabled=False),
        ),
        asked,
    )
    assert personal.division(LAYOUT, own.training.personal) == division
    answers = taken_in(
        own, division, len(devices), {one: answer(own, division, one) for one in devices}, bits
    )
    what = CameTo(
        round=FOUR,
        base=asked.base,
        made_model=True,
        reason="cohort complete",
        clients=len(devices),
        samples=answers.samples,
        exact=answers.exact(),
        before=base,
        after=answers.finish(base),
        train_metrics={},
        figures=None,
    )
    return combining.one_round(asked, what, None)


def both(codec: str, patterns: tuple[str, ...]) -> tuple[Array, Array]:
    """The model of one level, and of two."""
    division = personal.division(LAYOUT, patterns)
    base = division.shared_of(BASE)
    one, two = config(codec, patterns), config(codec, patterns, clients_max=3)
    said = {device: answer(one, division, device) for device in SAMPLES}
    flat = taken_in(one, division, FLAT_TERMS, said)
    bits = taken_in(two, division, CENTRE_TERMS, {}).bits
    assert bits == flat.bits
    up = {name: handed_up(two, division, base, bits, its) for name, its in SITES.items()}
    centre = taken_in(two, division, CENTRE_TERMS, up | {one: said[one] for one in ALONE})
    assert centre.samples == flat.samples == sum(SAMPLES.values())
    made = [division.with_shared(BASE, each.finish(base)) for each in (flat, centre)]
    assert not np.array_equal(made[0], BASE)
    return made[0], made[1]


@pytest.mark.parametrize("codec", ["topk(share=0.25)+int8", "lowrank(rank=1)+int8", "full"])
def test_what_devices_send_in_few_bits_adds_up_the_same(codec: str) -> None:
    flat, levels = both(codec, ())
    assert levels.tobytes() == flat.tobytes()


@pytest.mark.parametrize("codec", ["full", "lowrank(rank=1)+int8"])
def test_layers_that_stay_on_devices_stay_there_below_a_site_too(codec: str) -> None:
    flat, levels = both(codec, ("bn.*",))
    assert levels.tobytes() == flat.tobytes()
    division = personal.division(LAYOUT, ("bn.*",))
    assert division.personal_of(levels).tolist() == division.personal_of(BASE).tolist()
    assert levels[0] != BASE[0]


def test_a_sum_with_the_layers_that_stay_is_refused_where_they_do() -> None:
    """As by a site that began before the centre's operator kept them on devices."""
    whole, kept = (personal.division(LAYOUT, patterns) for patterns in ((), ("bn.*",)))
    before, now = config("full", (), 3), config("full", ("bn.*",), 3)
    bits = taken_in(now, kept, CENTRE_TERMS, {}).bits
    late = handed_up(before, whole, BASE, bits, SITES["north"])
    centre = taken_in(now, kept, CENTRE_TERMS, {})
    assert centre.check(ClientId("north"), late) != ""
