import math
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import weights
from fedmqtt.weights import Layout, Weights, WeightsError

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
LAYOUTS = st.dictionaries(st.text(max_size=8), SHAPES, max_size=5).map(
    lambda shapes: Layout(tuple(shapes.items()))
)
NET: Weights = {
    "w": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32),
    "b": np.array([-1.0, 0.5], np.float32),
    "scale": np.array(2.0, np.float32),
}
NET_LAYOUT = weights.layout_of(NET)
GOLDEN = Path(__file__).parents[2] / "docs" / "vectors" / "weights.model"


def numbers(layout: Layout) -> weights.Array:
    return np.arange(layout.size, dtype=np.float32) - 2.5


def file_of(header: object, tail: bytes = b"") -> bytes:
    return bytes(msgpack.packb(header)) + tail


@given(LAYOUTS)
def test_what_is_written_is_read(layout: Layout) -> None:
    flat = numbers(layout)
    found, back = weights.read(weights.write(layout, flat))
    assert found == layout
    np.testing.assert_array_equal(back, flat)
    assert layout.flatten(layout.unflatten(back)).tobytes() == flat.tobytes()


def test_the_file_is_a_header_and_raw_numbers(request: pytest.FixtureRequest) -> None:
    data = weights.write(NET_LAYOUT, NET_LAYOUT.flatten(NET))
    if request.config.getoption("--rewrite"):
        GOLDEN.write_bytes(data)
    assert data == GOLDEN.read_bytes()
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    tensors = [["w", [2, 3]], ["b", [2]], ["scale", []]]
    assert unpacker.unpack() == {"format": "fedmqtt-weights-1", "tensors": tensors}
    tail = np.frombuffer(data[unpacker.tell() :], "<f4")
    assert tail.tolist() == [1, 2, 3, 4, 5, 6, -1, 0.5, 2]


def test_the_numbers_are_views_that_nobody_can_change() -> None:
    data = weights.write(NET_LAYOUT, NET_LAYOUT.flatten(NET))
    _, flat = weights.read(data)
    assert flat.base is not None
    with pytest.raises(ValueError, match="read-only"):
        NET_LAYOUT.unflatten(flat)["w"][0, 0] = 9


def test_a_fingerprint_is_of_names_shapes_and_order() -> None:
    same = Layout((("w", (2, 3)), ("b", (2,)), ("scale", ())))
    assert same.fingerprint == NET_LAYOUT.fingerprint == "a048728cc4ef6790"
    others = [
        Layout((("b", (2,)), ("w", (2, 3)), ("scale", ()))),
        Layout((("w", (3, 2)), ("b", (2,)), ("scale", ()))),
        Layout((("v", (2, 3)), ("b", (2,)), ("scale", ()))),
        Layout((("w", (2, 3)), ("b", (2,)))),
    ]
    assert len({layout.fingerprint for layout in [same, *others]}) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w": np.zeros((3, 2), np.float32)}, r"w has shape \(3, 2\), not \(2, 3\)"),
        ({"extra": np.zeros(1, np.float32)}, r"unexpected \['extra'\]"),
    ],
)
def test_other_tensors_are_named(change: Weights, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        NET_LAYOUT.flatten(NET | change)


def test_missing_tensors_are_named() -> None:
    with pytest.raises(WeightsError, match=r"missing \['b', 'scale'\]"):
        NET_LAYOUT.flatten({"w": NET["w"]})


def header(*tensors: tuple[str, list[int]], form: str = weights.FORMAT) -> object:
    return {"format": form, "tensors": [[name, shape] for name, shape in tensors]}


HOSTILE = {
    "nothing": b"",
    "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "nested lists": b"\x91" * 100_000,
    "another format": file_of(header(form="fedmqtt-weights-2")),
    "no tensors": file_of({"format": weights.FORMAT}),
    "numbers missing": file_of(header(("w", [2])), bytes(7)),
    "numbers left over": file_of(header(("w", [2])), bytes(9)),
    "a tensor larger than memory": file_of(header(("w", [2**30, 2**30]))),
    "half a million large lengths": file_of(header(("w", [2**63] * 400_000))),
    "more dimensions than arrays have": file_of(header(("w", [1] * 70)), bytes(4)),
    "one tensor twice": file_of(header(("w", [1]), ("w", [1])), bytes(8)),
    "lengths that cancel out": file_of(header(("w", [-2, -2])), bytes(16)),
    "a negative length": file_of(header(("v", [3]), ("w", [-2])), bytes(4)),
    "a length that is text": file_of({"format": weights.FORMAT, "tensors": [["w", ["2"]]]}),
    "keys that are lists": b"\x81\x90\x01",
    "text that is not UTF-8": b"\x81\xa6format\xa1\xff",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_a_weights_error(data: bytes) -> None:
    with pytest.raises(WeightsError):
        weights.read(data)


def test_a_file_cut_short_anywhere_is_a_weights_error() -> None:
    data = weights.write(NET_LAYOUT, NET_LAYOUT.flatten(NET))
    for length in range(len(data)):
        with pytest.raises(WeightsError):
            weights.read(data[:length])


@given(st.binary(max_size=100))
def test_noise_is_a_weights_error(data: bytes) -> None:
    with pytest.raises(WeightsError):
        weights.read(data)


@given(st.data())
def test_a_flipped_byte_is_weights_or_a_weights_error(data: st.DataObject) -> None:
    damaged = bytearray(weights.write(NET_LAYOUT, NET_LAYOUT.flatten(NET)))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        layout, flat = weights.read(bytes(damaged))
    except WeightsError:
        return
    assert flat.size == sum(math.prod(shape) for _, shape in layout.tensors)


def test_a_digest_is_sha_256() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert weights.digest(b"") == weights.digest(memoryview(b"")) == empty
