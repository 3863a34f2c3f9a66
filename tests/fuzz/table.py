"""All decoders that are tried with hostile bytes, by name."""

from tests.fuzz import files, numbers, settings, wire
from tests.fuzz.decoder import Decoder

DECODERS: dict[str, Decoder] = {
    one.name: one
    for group in (wire.DECODERS, numbers.DECODERS, files.DECODERS, settings.DECODERS)
    for one in group
}
