"""What sums of masks tell together: of which answers a combination can be read, by linear algebra.

An answer is its numbers plus a mask of each seed, all modulo 2^b. Who knows, for each seed, the
masks' combination with some whole coefficients, reads the numbers' combination with those. For one
seed the combinations that it knows are those of the rows that it was answered, a row being how
often each answer is in a sum; of a seed that somebody gave away it knows all of them.

Modulo 2^b an even coefficient hides its answer's highest bits, and 2^(b-1) leaves the lowest alone.
So it is asked of which answers the lowest bit of a sum can be read: every combination, times some
power of two, comes to such a one, of the same answers or of some of them. Those are the words of a
binary code: of the lattice that the rows span, with the half of whatever in it is even, and with
the half of that (`_saturated`), all modulo 2.
"""

from collections.abc import Collection, Iterable, Sequence

Row = tuple[int, ...]


def fewest(
    of_seeds: Sequence[Iterable[Row] | None],
    count: int,
    own: Collection[int] = (),
    foreseen: Collection[int] = (),
) -> int | None:
    """Of how few of `count` answers a combination is known, not all of which are one's own; None
    where of none is.

    `of_seeds`: of each seed the rows whose sums were told; None where all its masks are known.
    `foreseen`: answers that are known before they come, and are not counted: they hide no other.
    """
    known = [_saturated(rows) for rows in of_seeds if rows is not None]
    counted = sum(1 << at for at in range(count) if at not in foreseen)
    others = sum(1 << at for at in range(count) if at not in own and at not in foreseen)
    if not known:
        return 1 if others else None
    smallest = min(known, key=len)
    words = [word for word in _words(smallest) if all(_spans(basis, word) for basis in known)]
    return min(((word & counted).bit_count() for word in words if word & others), default=None)


def _saturated(rows: Iterable[Row]) -> list[int]:
    """As bits, independent vectors: all that these rows span modulo 2, divided as they may be."""
    waiting = [row for row in rows if any(row)]
    # Each with what it is modulo 2 once those before it are taken away, and of those which.
    basis: list[tuple[int, Row]] = []
    while waiting:
        row = waiting.pop()
        bits = _bits(row)
        for word, other in basis:
            if bits ^ word < bits:
                row = tuple(one - two for one, two in zip(row, other, strict=True))
                bits ^= word
        if bits:
            basis.append((bits, row))
            basis.sort(reverse=True)
        elif any(row):
            # Even in each place: half of it is known as well.
            waiting.append(tuple(value // 2 for value in row))
    return [word for word, _ in basis]


def _words(basis: Sequence[int]) -> list[int]:
    """All but the empty one."""
    words = [0]
    for one in basis:
        words += [one ^ other for other in words]
    return words[1:]


def _spans(basis: Sequence[int], word: int) -> bool:
    for one in basis:
        word = min(word, word ^ one)
    return not word


def _bits(row: Row) -> int:
    return sum((value & 1) << at for at, value in enumerate(row))
