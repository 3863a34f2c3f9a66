"""What clients are given follows the coordinator's own model, in few bytes and without drifting."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from coordinator.models import downlink, published_model
from coordinator.models.downlink import following, read
from coordinator.models.published_model import PublishedModel
from fedmqtt import codec_chain, control, deltas, weights
from fedmqtt.codecs import LARGEST, Numbers, Subset
from fedmqtt.messages import BASE_BYTES, DELTAS_MAX
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout

SIZE = 5000
LAYOUT = Layout((("w", (60, 80)), ("b", (200,))))

FRONT = {"part": "part(share=0.4)"}
NUMBERS = [name for name, stage in codec_chain.stages().items() if issubclass(stage, Numbers)]
SUBSETS = [name for name, stage in codec_chain.stages().items() if issubclass(stage, Subset)]
CODECS = [
    *(name for name in NUMBERS if name != downlink.FULL),
    *(f"{FRONT.get(front, front)}+{name}" for front in SUBSETS for name in NUMBERS),
    "int4+zstd",
    "lowrank(rank=8)+int8",
    "lowrank(rank=8)+int4+zstd",
]


def normal(size: int = SIZE, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def spiky(size: int = SIZE) -> Array:
    values = np.full(size, 0.03, np.float32)
    values[:1] = 3
    return values


def first(flat: Array | None = None, layout: Layout = LAYOUT) -> PublishedModel:
    flat = np.zeros(layout.size, np.float32) if flat is None else flat
    return published_model.make(layout, flat, 0, 1024)


def followed(models: list[Array], codec: str) -> list[PublishedModel]:
    found = [first()]
    for flat in models:
        found.append(following(found[-1], flat, read(codec)))
    return found


def walk(count: int) -> list[Array]:
    return list(np.cumsum([normal(seed=n) for n in range(count)], axis=0, dtype=np.float32))


@pytest.mark.parametrize("codec", CODECS)
def test_who_follows_by_deltas_has_what_the_offer_names(codec: str) -> None:
    published = followed(walk(4), codec)
    for old, new in pairwise(published):
        newest = new.deltas[-1]
        assert newest.ref.changes(old.ref.digest)
        assert newest.ref.digest == weights.digest(newest.file)
        assert newest.ref.size_bytes == len(newest.file)
        _, held = weights.read(old.file)
        made = weights.write(LAYOUT, deltas.apply(held, newest.file, LAYOUT.shapes))
        assert weights.digest(made) == new.ref.digest
        assert made == new.file and len(made) == new.ref.size_bytes
        assert new.published.tobytes() == made[-4 * SIZE :]
        assert new.ref.deltas == tuple(delta.ref for delta in new.deltas)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("goal", [normal, spiky])
def test_what_was_lost_comes_with_the_next(codec: str, goal: Callable[[], Array]) -> None:
    """Once the coordinator's model stands still, clients come to have it."""
    models = followed([goal()] * 60, codec)
    lost = [float(np.linalg.norm(one.flat - one.published)) for one in models]
    # Each delta is nearer than none, but for the last digits.
    assert all(after <= before + 1e-4 for before, after in pairwise(lost[1:]))
    assert lost[60] <= 1e-2 * float(np.linalg.norm(goal()))
    assert all(one.flat.tobytes() == goal().tobytes() for one in models[1:])


@pytest.mark.parametrize("codec", ["int8", "int4", "eden", "part(share=0.4)+int4"])
def test_errors_do_not_add_up_over_rounds(codec: str) -> None:
    """Without feedback they would after 100 rounds be ten times those of one."""
    lost = [float(np.linalg.norm(one.flat - one.published)) for one in followed(walk(100), codec)]
    assert max(lost[50:]) <= 1.5 * max(lost[10:50])


def test_the_coordinators_own_model_is_never_rounded() -> None:
    models = walk(5)
    for flat, one in zip(models, followed(models, "eden")[1:], strict=True):
        assert one.flat.tobytes() == flat.tobytes()
        assert one.digest == weights.digest(weights.write(LAYOUT, flat))
        assert one.is_off


@pytest.mark.parametrize("codec", CODECS)
def test_layers_that_stay_on_devices_and_running_variances_bear_any_codec(codec: str) -> None:
    layout = Layout((("w", (SIZE,)), ("own", (300,)), ("bn.running_var", (124,))))
    chance = np.random.default_rng(1)
    flat = np.concatenate([normal(), np.full(300, 1e-2), np.full(124, 1e-2)]).astype(np.float32)
    model = first(flat, layout)
    for n in range(5):
        flat = flat.copy()
        flat[:SIZE] += 0.05 * normal(seed=n)
        flat[SIZE + 300 :] = np.abs(chance.normal(0, 1e-2, 124))
        before, model = model, following(model, flat, read(codec))
        if model.deltas:
            made = deltas.apply(before.published, model.deltas[-1].file, before.layout.shapes)
            assert made.tobytes() == model.published.tobytes()
        held = layout.unflatten(model.published)
        np.testing.assert_array_equal(held["own"], np.float32(1e-2))
        assert held["bn.running_var"].min() >= 0


def test_full_sends_each_model_as_it_is() -> None:
    for flat, one in zip(walk(3), followed(walk(3), "full")[1:], strict=True):
        assert one.published.tobytes() == flat.tobytes()
        assert not one.is_off and not one.deltas and not one.ref.deltas


def test_a_model_that_comes_with_its_offer_is_not_coded() -> None:
    layout = Layout((("w", (1000,)),))
    old = first(layout=layout)
    new = following(old, normal(1000), read("eden"))
    assert not new.is_off and not new.deltas


def test_a_codec_that_has_no_bytes_for_a_change_sends_the_model_whole_and_begins_anew() -> None:
    models = [normal(), normal() + np.float32(70_000), normal() + np.float32(70_001)]
    one, two, three = followed(models, "float16")[1:]
    assert len(one.deltas) == 1
    assert not two.deltas and not two.is_off
    assert len(three.deltas) == 1 and three.deltas[0].ref.changes(two.ref.digest)


def test_numbers_that_no_codec_takes_are_sent_whole() -> None:
    (new,) = followed([normal() * np.float32(10 * LARGEST)], "int8")[1:]
    assert not new.deltas and not new.is_off


def test_a_model_that_stays_the_same_needs_no_delta() -> None:
    *_, before, after = followed([normal()] * 100, "int8")
    assert before.ref.digest == after.ref.digest
    assert [delta.ref for delta in before.deltas] == [delta.ref for delta in after.deltas]
    assert after.trained_rounds == before.trained_rounds + 1


def test_the_sign_of_a_zero_makes_no_other_model() -> None:
    start = np.full(SIZE, -0.0, np.float32)
    old = following(first(start), start + np.float32(1), read("int8"))
    minus = following(old, old.published.copy(), read("int8"))
    same = following(first(start), start.copy(), read("int8"))
    assert same.ref.digest == first(start).ref.digest and not same.deltas
    assert minus.ref.digest == old.ref.digest and minus.ref.deltas == old.ref.deltas


@pytest.mark.parametrize(
    ("codec", "kept"),
    [
        # 1.25 kB each, of 20 kB, whose 64th has room for a list of six.
        ("part(share=0.25)+int8", 6),
        # 5 kB: four would be the whole model.
        ("int8", 3),
        # Never less than the one that most clients want, while it is less than the model.
        ("bfloat16", 1),
        ("full+zstd", 1),
    ],
)
def test_deltas_are_kept_while_they_are_less_than_the_model(codec: str, kept: int) -> None:
    published = followed(walk(12), codec)
    counts = [len(one.deltas) for one in published]
    assert counts == [min(n, kept) for n in range(13)]
    newest = published[-1]
    assert sum(delta.ref.size_bytes for delta in newest.deltas) < newest.ref.size_bytes
    # The oldest of them starts from the model of so many rounds ago.
    assert newest.deltas[0].ref.changes(published[-1 - kept].ref.digest)


def test_of_a_large_model_no_more_are_listed_than_an_offer_has_room_for() -> None:
    layout = Layout((("w", (40_000,)),))
    model = first(layout=layout)
    for n in range(DELTAS_MAX + 3):
        model = following(model, normal(40_000, n), read("eden"))
    assert len(model.deltas) == DELTAS_MAX


def test_a_codec_that_is_not_there_is_told_by_the_settings_name() -> None:
    with pytest.raises(SettingsError, match=r"^downlink_codec: there is no 'gzip'"):
        read("gzip")


def test_deltas_go_out_first_and_those_that_lie_there_not_again() -> None:
    (model,) = followed(walk(2), "int8")[2:]
    wholly: list[str] = []
    old, new = (delta.ref.digest for delta in model.deltas)
    sent = [
        part.address.digest  # type: ignore[union-attr]
        for part in published_model.parts(model, lambda: True, {old}, wholly.append)
    ]
    assert list(dict.fromkeys(sent)) == [new, model.ref.digest]
    assert wholly == [new]
    assert [ref.digest for ref in model.refs()] == [old, new, model.ref.digest]
    assert len(model.deltas[0].ref.base) == BASE_BYTES


def test_a_control_goes_out_behind_the_model_and_comes_with_its_deltas() -> None:
    flats, controls = walk(4), walk(4)[::-1]
    old = published_model.make(LAYOUT, flats[0], 0, 1024, controls[0])
    assert (old.digest, old.ref.fingerprint) == (first(flats[0]).digest, LAYOUT.fingerprint)
    for flat, its_control in zip(flats[1:], controls[1:], strict=True):
        new = following(old, flat, read("int8"), its_control)
        assert new.flat is flat and new.layout == LAYOUT
        layout, held = weights.read(old.file)
        made = weights.write(layout, deltas.apply(held, new.deltas[-1].file, layout.shapes))
        assert made == new.file and weights.digest(made) == new.ref.digest
        own, numbers, came = control.split(*weights.read(made))
        assert own == LAYOUT and came is not None
        np.testing.assert_allclose(numbers, flat, atol=0.2)
        np.testing.assert_allclose(came, its_control, atol=0.2)
        old = new
    # With a strategy that has none it is not there any more.
    plain = following(old, flats[0], read("int8"))
    assert plain.file == first(flats[0]).file


def test_a_model_with_a_tensor_of_the_controls_name_is_refused_in_a_sentence() -> None:
    layout = Layout(((control.NAME, (3,)),))
    flat = np.zeros(3, np.float32)
    with pytest.raises(SettingsError, match="give the tensor another name"):
        published_model.make(layout, flat, 0, 1024, flat)
