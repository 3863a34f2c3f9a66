"""What an offer promises where answers are hidden under short keys of a ring, and a committee opens
the sum of those keys: `privacy.aggregation = "committee"`, an experiment. Pure, known to agents.

    y = 2^guard * m + a*s + e        modulo 2^(bits + guard), in blocks of `KEY` numbers
    |s|, |e| <= SHORT_MAX            of each number of key and error

Of `TERMS_MAX` answers or fewer the sum of the errors stays below half of 2^guard, always: so
rounding gives the sum of m exactly. The sum of the keys stays below the same bound, and is sent
modulo 2^guard. See `fedmqtt/masking/committee.py`, and docs/committee.md for why these numbers.
"""

from fedmqtt.messages import Masking

KEY = 2048
"""Degree of the ring, and numbers of a key."""
SHORT_MAX = 32
"""Of a number of a key, or of an error, of either sign: 32 less ones among 64 random bits."""
TERMS_MAX = 511
"""Answers in a sum: so many bytes, each above the guard bits, add up below 2^32."""
WORD_BITS = 32


def guard_bits(terms: int) -> int:
    """So many that the sum of this many errors is less than half of 2^guard."""
    return (2 * SHORT_MAX * terms).bit_length()


GUARD_MAX = guard_bits(TERMS_MAX)


def is_by_committee(masking: Masking) -> bool:
    return masking.mode == "committee"


def opened(masking: Masking, body: int, tail: int) -> tuple[int, int, int]:
    """What keyholders add up masks of: how many packed words, how many whole ones, and the bits of
    a packed one. Under an answer of `body` values and a tail: all of it, but with a committee the
    client's key alone."""
    return (KEY, 0, masking.guard) if is_by_committee(masking) else (body, tail, masking.bits)


def fault(masking: Masking) -> str:
    """Why it promises nothing though it says so, in a sentence; empty where nothing is wrong."""
    if not is_by_committee(masking):
        return "guard bits are of a committee's masks, and there is none" if masking.guard else ""
    if not guard_bits(1) <= masking.guard <= GUARD_MAX:
        return (
            f"with a committee there are {guard_bits(1)} to {GUARD_MAX} guard bits, not"
            f" {masking.guard}"
        )
    if masking.bits + masking.guard > WORD_BITS:
        total = masking.bits + masking.guard
        return f"{total} bits, {masking.guard} of them to guard sums: {WORD_BITS} are the most"
    if masking.noise or masking.lists_max != 1 or masking.times_max != 1:
        return "with a committee there is no noise by keyholders, and a key opens one list, once"
    return ""
