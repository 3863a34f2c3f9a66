"""Models in fewer bytes on their way down: each as a coded change of the one that clients hold.

    coordinator's own numbers    w(n-1) ──round──▶ w(n)
                                                    │  encode(w(n) - p(n-1)): the delta
    published, what clients have p(n-1) ────────────┴──decode, add──▶ p(n)

Clients train from p(n), and what they change is added to w(n). What encoding lost, w(n) - p(n), is
in the next delta: error feedback at the server, so that errors do not add up over rounds. Tang et
al., "DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-Pass Error-Compensated
Compression", ICML 2019 (the server's half; here the two models are the memory of the error).

p(n) is also there whole, for who holds none of the models before. Who missed some rounds takes
several deltas: the newest are kept that are fewer bytes than the whole model.
"""

import numpy as np

from coordinator.models import published_model
from coordinator.models.published_model import PublishedModel
from fedmqtt import codec_chain, deltas, weights
from fedmqtt import control as controls
from fedmqtt.codec_chain import Chain
from fedmqtt.codecs import LARGEST
from fedmqtt.deltas import Delta
from fedmqtt.messages import BASE_BYTES, DELTAS_MAX, SMALL_MODEL_BYTES, DeltaRef
from fedmqtt.settings import SettingsError
from fedmqtt.topics import Digest
from fedmqtt.weights import Array

FULL = "full"

_LISTED_BYTES = 50
"""Of a delta in an offer."""
_LISTED_SHARE = 64
"""All of them are a 64th of the model at most: every client reads them, and few fetch."""


def read(codec: str) -> Chain | None:
    """The codec of deltas; None where models go out as they are. Raises SettingsError."""
    try:
        chain = codec_chain.read(codec)
    except SettingsError as bad:
        raise SettingsError(f"downlink_codec: {str(bad).removeprefix('codec: ')}") from bad
    return None if chain.text == FULL else chain


def following(
    old: PublishedModel, flat: Array, chain: Chain | None, control: Array | None = None
) -> PublishedModel:
    """The model after `old`, of the coordinator's own numbers `flat`, shape (size,), and with this
    control, where there is one.

    A model that comes with its offer goes out as it is, and so does one that the codec has no bytes
    for.
    """
    trained, chunk_bytes = old.trained_rounds + 1, old.ref.chunk_bytes
    wanted = published_model.beside(flat, control)
    is_alike = old.published.size == wanted.size
    if chain is not None and is_alike and len(old.file) > SMALL_MODEL_BYTES:
        try:
            shapes = controls.beside(old.layout, wanted.size - old.layout.size).shapes
            file, published = deltas.write(
                chain, old.ref.digest, trained, old.published, wanted, shapes
            )
        except ValueError:
            return published_model.make(old.layout, flat, trained, chunk_bytes, control)
        if np.abs(published).max(initial=0) <= LARGEST:
            newest = Delta(_ref(old.ref.digest, file), file)
            kept = _kept((*old.deltas, newest), len(old.file))
            if np.array_equal(published, old.published):
                # Too small a change for any number: nobody needs a file for the sign of a zero.
                published, kept = old.published, old.deltas
            return published_model.make_off(old.layout, flat, published, kept, trained, chunk_bytes)
    return published_model.make(old.layout, flat, trained, chunk_bytes, control)


def _ref(base: Digest, file: bytes) -> DeltaRef:
    sha256 = bytes.fromhex(weights.digest(file))
    return DeltaRef(bytes.fromhex(base)[:BASE_BYTES], sha256, len(file))


def _kept(chain: tuple[Delta, ...], whole_bytes: int) -> tuple[Delta, ...]:
    """The newest of them that are worth it: together they are less than the whole model."""
    most = min(DELTAS_MAX, max(1, whole_bytes // (_LISTED_SHARE * _LISTED_BYTES)))
    kept: list[Delta] = []
    total = 0
    for delta in reversed(chain):
        total += delta.ref.size_bytes
        if len(kept) == most or total >= whole_bytes:
            break
        kept.append(delta)
    return tuple(reversed(kept))
