"""How hard it is, as far as the usual estimate goes, to read an answer under a committee's key.

    python experiments/committee_hardness.py

Prints one line of JSON for each modulus and deviation: the block size of the lattice reduction that
the primal attack needs, and 0.292 (0.265) times it, as the logarithm to base 2 of its cost,
classical (quantum). Neither polynomial factors are counted nor memory: it is to be compared, not to
be relied on. Deviation 4 is that of a key and its error. Who knows the sum of the keys and of the
errors of n clients that keep to the rules, and those of all others, has less to find: as if the
deviation were 4 * sqrt((n - 1) / (2 * n)) or more, 2 for n = 2 (docs/committee.md).

Method: Alkim, Ducas, Poeppelmann, Schwabe, "Post-quantum key exchange - a new hope", USENIX
Security 2016, section 6.3: with d = n + m + 1 and the root factor delta of block size b, a lattice
of m samples is enough where sqrt(b) * sigma <= delta^(2b - d - 1) * q^(m / d). Key and error have
one deviation here, so the embedding has one scale. delta: Chen's thesis, Paris 2013.
"""

import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fedmqtt.committee_promise import KEY, WORD_BITS

CLASSICAL, QUANTUM = 0.292, 0.265
DEVIATION = 4.0
_BLOCK_MIN = 60
"""Below it delta is no good."""


def main() -> int:
    for bits in (24, 28, WORD_BITS):
        for honest in (2, 10, 1000):
            deviation = DEVIATION * math.sqrt((honest - 1) / (2 * honest))
            block = block_size(KEY, bits, deviation)
            line = {
                "ring": KEY,
                "modulus_bits": bits,
                "honest_clients": honest,
                "deviation": round(deviation, 2),
                "block_size": block,
                "classical_bits": math.floor(CLASSICAL * block),
                "quantum_bits": math.floor(QUANTUM * block),
            }
            sys.stdout.write(json.dumps(line) + "\n")
    return 0


def block_size(dimension: int, modulus_bits: float, deviation: float) -> int:
    """The least with which some number of samples is enough."""
    return next(
        block
        for block in range(_BLOCK_MIN, 3 * dimension)
        if _is_enough(block, dimension, modulus_bits, deviation)
    )


def _is_enough(block: int, dimension: int, modulus_bits: float, deviation: float) -> bool:
    log_delta = math.log2((math.pi * block) ** (1 / block) * block / (2 * math.pi * math.e))
    log_delta /= 2 * (block - 1)
    wanted = math.log2(block) / 2 + math.log2(deviation)
    lattices = ((samples, dimension + samples + 1) for samples in range(1, 2 * dimension, 8))
    return any(
        wanted <= (2 * block - total - 1) * log_delta + modulus_bits * samples / total
        for samples, total in lattices
    )


if __name__ == "__main__":
    sys.exit(main())
