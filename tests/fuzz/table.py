"""All decoders that are tried with hostile bytes, by name."""

from tests.fuzz import files, masked, numbers, settings, signed, wire
from tests.fuzz.decoder import Decoder

DECODERS: dict[str, Decoder] = {
    one.name: one
    for part in (wire, signed, masked, numbers, files, settings)
    for one in part.DECODERS
}
