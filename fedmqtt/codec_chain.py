"""A codec as an operator writes it, "part(share=0.25)+eden+zstd": stages in the order of encoding.

    numbers ──[Subset | Largest | Factors]──▶ fewer numbers ──Numbers──▶ bytes ──[Bytes]──▶ fewer

One stage makes bytes of numbers; one may stand in front of it, one behind. Settings stand in
brackets, in TOML's spelling. Which stages there are is told by the files in `codecs/`.

`shapes` are those of the tensors that lie one after the other in the numbers, for stages that go by
them; both sides have them from the model's layout. Empty: the numbers are one vector.
"""

import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any

import msgspec
import numpy as np
from msgspec import json
from numpy.typing import NDArray

from fedmqtt import codecs, parts, settings
from fedmqtt.codec_chance import Chances
from fedmqtt.codecs import LARGEST, Bytes, Factors, Largest, Numbers, Subset
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Shapes

Front = Subset | Largest | Factors
Stage = Front | Numbers | Bytes

TEXT_MAX = 200
"""Characters: what an offer has room for."""
_STAGE = re.compile(r"\s*([a-z0-9_]+)\s*(?:\(([^()]*)\)\s*)?(\+|\Z)")
_SETTING = re.compile(r"\s*([a-z_]+)\s*=\s*([A-Za-z0-9_.+-]+)\s*")


@dataclass(frozen=True, slots=True)
class Sent:
    """What an answer's bytes say of `size` numbers."""

    values: Array
    """float32, perhaps not to be written to."""
    size: int
    places: NDArray[np.int64] | None = None
    """Where each belongs, growing; all others are 0. Of a `Subset` the same object for all answers
    of a round, as a rule. None: they are all there."""

    def full(self) -> Array:
        """float32, shape (size,), perhaps not to be written to."""
        if self.places is None:
            return self.values
        numbers = np.zeros(self.size, np.float32)
        numbers[self.places] = self.values
        return numbers


@dataclass(frozen=True, slots=True)
class Chain:
    """What both sides do to an update's numbers."""

    text: str
    """As it stands in offers and updates: one spelling for one chain."""
    numbers: Numbers
    front: Front | None = None
    squeezed: Bytes | None = None

    @property
    def remembers(self) -> bool:
        """Whether a client has to keep what it left out, for its next answer."""
        return isinstance(self.front, Largest | Factors)

    def size_bytes(self, size: int, shapes: Shapes = ()) -> int:
        """How many bytes `size` numbers become, before the last stage squeezes those."""
        kept = self._kept(size, shapes)
        return self._head_bytes(size, shapes) + self.numbers.size_bytes(kept)

    def encode(self, values: Array, chances: Chances, shapes: Shapes = ()) -> bytes | memoryview:
        """`values`: float32, shape (n,). Raises ValueError on numbers that cannot be sent."""
        largest = float(np.abs(values).max(initial=0))
        # Written so that "not a number" fails it too.
        if not largest <= LARGEST:
            what = "not finite" if not np.isfinite(largest) else f"beyond {LARGEST:.0e}"
            raise ValueError(f"has values that are {what}")
        data: bytes | memoryview
        match self.front:
            case None:
                data = self.numbers.encode(values, chances.own)
            case Subset():
                taken = self.front.take(values, chances.shared)
                data = self.numbers.encode(taken, chances.own)
            case Largest():
                places = self.front.choose(values)
                numbers = self.numbers.encode(values[places], chances.own)
                data = b"".join((self.front.write(places, values.size), numbers))
            case Factors():
                factors = self.front.factor(values, shapes, chances.shared)
                numbers = self.numbers.encode(factors, chances.own)
                # As the other side has them: what is lost there is made up for here.
                factors = self.numbers.decode(memoryview(numbers), factors.size, chances.own)
                data = b"".join((self.front.scale(values, factors, shapes), numbers))
        return data if self.squeezed is None else self.squeezed.squeeze(data)

    def decode(
        self, data: bytes | memoryview, size: int, chances: Chances, shapes: Shapes = ()
    ) -> Array:
        """float32, shape (size,), perhaps not to be written to. Raises as `unpack`."""
        return self.unpack(data, size, chances, shapes).full()

    def unpack(
        self, data: bytes | memoryview, size: int, chances: Chances, shapes: Shapes = ()
    ) -> Sent:
        """Of `size` numbers. Raises ValueError on bytes that `encode` does not make of so many.

        However hostile the bytes, it takes no more memory than eight times the `size` numbers have.
        """
        view = memoryview(data).cast("B")
        kept, head_bytes = self._kept(size, shapes), self._head_bytes(size, shapes)
        size_bytes = self.size_bytes(size, shapes)
        if self.squeezed is not None:
            view = memoryview(self.squeezed.expand(view, size_bytes))
        if len(view) != size_bytes:
            raise ValueError(f"{len(view)} bytes where {size_bytes} belong")
        values = self.numbers.decode(view[head_bytes:], kept, chances.own)
        match self.front:
            case None:
                return Sent(values, size)
            case Subset():
                return Sent(values, size, self.front.places(size, chances.shared))
            case Largest():
                return Sent(values, size, self.front.read(view[:head_bytes], size))
            case Factors():
                return Sent(self.front.multiply(view[:head_bytes], values, size, shapes), size)

    def _kept(self, size: int, shapes: Shapes) -> int:
        """How many numbers are sent."""
        match self.front:
            case None:
                return size
            case Factors():
                return self.front.kept(size, shapes)
            case _:
                return self.front.kept(size)

    def _head_bytes(self, size: int, shapes: Shapes) -> int:
        """Those that tell what the numbers are that were sent."""
        match self.front:
            case Largest():
                return self.front.size_bytes(size)
            case Factors():
                return self.front.size_bytes(size, shapes)
            case _:
                return 0


@functools.lru_cache(maxsize=16)
def read(text: str) -> Chain:
    """The chain that an operator, or an offer, names. Raises SettingsError with the choices."""
    named = [(name, _build(name, words)) for name, words in _split(text)]
    spelt = "+".join(_spelt(name, stage) for name, stage in named)
    match [stage for _, stage in named]:
        case [Numbers() as numbers]:
            return Chain(spelt, numbers)
        case [Subset() | Largest() | Factors() as front, Numbers() as numbers]:
            return Chain(spelt, numbers, front)
        case [Numbers() as numbers, Bytes() as squeezed]:
            return Chain(spelt, numbers, None, squeezed)
        case [
            Subset() | Largest() | Factors() as front,
            Numbers() as numbers,
            Bytes() as squeezed,
        ]:
            return Chain(spelt, numbers, front, squeezed)
        case _:
            raise SettingsError(
                f"codec: {text!r} has to be one of {_named(Numbers)}; in front of it may stand"
                f" {_named(Front)}, behind it {_named(Bytes)}, joined by +"
            )


def stages() -> dict[str, type[Stage]]:
    """All there are, by name."""
    return {name: parts.load(codecs, name).Stage for name in parts.names(codecs)}


def _named(kind: type[Stage] | UnionType) -> str:
    return ", ".join(name for name, stage in stages().items() if issubclass(stage, kind))


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Each stage's name and what stands in its brackets."""
    if len(text) > TEXT_MAX:
        raise SettingsError(f"codec: {len(text)} characters, more than {TEXT_MAX}")
    at, joined = 0, "+"
    while joined:
        found = _STAGE.match(text, at)
        if found is None:
            raise SettingsError(
                f"codec: {text!r} is not understood from character {at + 1} on; expected stages"
                " as in part(share=0.25)+eden+zstd"
            )
        name, words, joined = found.groups()
        yield name, words or ""
        at = found.end()


def _build(name: str, words: str) -> Stage:
    known = parts.names(codecs)
    if name not in known:
        raise SettingsError(f"codec: there is no {name!r}; choose one of: {', '.join(known)}")
    values: dict[str, Any] = {}
    for word in words.split(",") if words.strip() else []:
        found = _SETTING.fullmatch(word)
        if found is None or found[1] in values:
            raise SettingsError(f"codec: {name}({words}): expected {name}(name=value, ...)")
        values[found[1]] = _value(found[2], name)
    stage: Stage = settings.convert(values, parts.load(codecs, name).Stage, f"codec: {name}")
    return stage


def _value(word: str, name: str) -> Any:
    try:
        return tomllib.loads(f"value = {word}")["value"]
    except tomllib.TOMLDecodeError as bad:
        raise SettingsError(f"codec: {name}: {word!r} is no number, true or false") from bad


def _spelt(name: str, stage: Stage) -> str:
    """Without what is as it would be anyway."""
    fields = msgspec.structs.fields(stage)
    said = [
        f"{field.name}={json.encode(value).decode()}"
        for field in fields
        if (value := getattr(stage, field.name)) != field.default
    ]
    return f"{name}({', '.join(said)})" if said else name
