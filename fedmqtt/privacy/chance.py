"""Where noise comes from: bits that nobody can guess, and the same again for who has their key.

No number generator made for simulations comes near noise that hides somebody: the states of those
can be computed from what they gave.
"""

import hashlib
from collections.abc import Callable

Bits = Callable[[int], bytes]
"""So many bytes more."""

KEY_BYTES = 32
_BLOCK_BYTES = 1 << 16


def keyed(key: bytes, *context: bytes) -> Bits:
    """One stream for each context: SHAKE-256 of key, context and a counter, block after block.

    Without the key, of at least `KEY_BYTES`, it is told from true chance by nobody, whatever is
    known of the streams of other contexts. Contexts are told apart wherever one field ends.
    """
    if len(key) < KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes, not {KEY_BYTES} or more")
    said = b"".join(len(field).to_bytes(8, "little") + field for field in (key, *context))
    began = hashlib.shake_256(said)
    buffer, used, blocks = b"", 0, 0

    def bits(count: int) -> bytes:
        nonlocal buffer, used, blocks
        taken = [buffer[used : used + count]]
        missing = count - len(taken[0])
        used += len(taken[0])
        while missing > 0:
            block = began.copy()
            block.update(blocks.to_bytes(8, "little"))
            buffer, blocks = block.digest(_BLOCK_BYTES), blocks + 1
            used = min(missing, _BLOCK_BYTES)
            taken.append(buffer[:used])
            missing -= used
        return b"".join(taken)

    return bits
