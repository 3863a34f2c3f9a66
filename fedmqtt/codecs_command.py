"""The stages of which a codec is made, each with one line about it and with its settings.

A codec is a chain of them, in the order of encoding: codec = "part(share=0.25)+eden+zstd" in
federation.toml, for updates; downlink_codec = "int4", for models. One makes bytes of numbers;
before it one may choose numbers, behind it one may make fewer bytes. docs/codecs.md says what each
costs and saves.
"""

import argparse
import inspect
import sys
from collections.abc import Iterator

from fedmqtt import codec_chain, settings
from fedmqtt.codec_chain import Stage
from fedmqtt.codecs import Bytes, Factors, Largest, Numbers, Subset

_KINDS: dict[type[Stage], str] = {
    Subset: "In front, if wanted: which numbers are sent",
    Largest: "Or in front, with a memory on the device: the largest are sent",
    Factors: "Or in front, with such a memory too: what matrices are made of is sent",
    Numbers: "One of these: numbers to bytes",
    Bytes: "Behind, if wanted: fewer bytes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(options: argparse.Namespace) -> int:
    sys.stdout.write("\n".join(_lines()) + "\n")
    return 0


def _lines() -> Iterator[str]:
    known = codec_chain.stages()
    width = max(map(len, known))
    for kind, title in _KINDS.items():
        yield f"{title}."
        for name, stage in known.items():
            if issubclass(stage, kind):
                yield f"  {name:<{width}}  {_first_sentence(stage)}"
                for field in settings.described(stage):
                    yield f"  {'':<{width}}    {field}"
        yield ""
    yield 'Example: codec = "part(share=0.25)+eden+zstd"'


def _first_sentence(stage: type[Stage]) -> str:
    text = inspect.getdoc(inspect.getmodule(stage)) or ""
    return text.split("\n\n")[0].replace("\n", " ")
