"""Products modulo 2^32 and x^2048 + 1 of whole polynomials, one factor short: exact, by FFTs in
floating point.

    a = low + 2^16 * high,   -2^15 <= low, high <= 2^15        both at once: low + i * high
    p = ifft(fft(low_j + i*high_j, twisted) * fft(s, twisted)), untwisted, to the nearest whole
    a * s = Re p + 2^16 * Im p        modulo 2^32

The twist by exp(i*pi*j/n) makes the product modulo x^n + 1 of the one modulo x^n - 1 that FFTs
give.

Why nearest is right: an FFT product of length n = 2^k in doubles is off by less than

    |x| * |y| * ((1 + eps)^(3k) * (1 + eps*sqrt(5))^(3k + 1) * (1 + root)^(3k) - 1)

in every number, |.| the Euclidean norms, eps = 2^-53, root the error of the roots of unity. With
the twists, as one layer more at each end (k = 13), and root = 4 * eps, that is less than
300 * eps * |x| * |y|. Here |x| <= sqrt(2048) * 2^15.5, and |y| <= sqrt(2048) * FACTOR_MAX: 0.053
at most, and rounding forgives 0.5. Source of the bound: Percival, "Rapid multiplication modulo the
sum and difference of highly composite numbers", Math. Comp. 72, 2003; as in Brent,
Percival, Zimmermann, "Error bounds on complex floating-point multiplication", Math. Comp. 76,
2007. numpy's FFT works in larger steps than the bound's, with fewer roundings. `products` looks at
how far from whole numbers it came out, and would rather stop than be wrong.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmqtt.committee_promise import KEY
from fedmqtt.masking.packing import Words

Wholes = NDArray[np.int64]

FACTOR_MAX = 2**14
"""Of a number of the short factor, of either sign."""
_OFF_MAX = 0.25
_HALF = 16

_TWIST = np.exp(1j * np.pi * np.arange(KEY) / KEY)
_UNTWIST = np.conj(_TWIST)


class Factor(NamedTuple):
    """A short polynomial, made ready for many products."""

    spectrum: NDArray[np.complex128]


def factor(short: Wholes) -> Factor:
    """`short`: shape (2048,), from the constant up, at most `FACTOR_MAX` of either sign."""
    assert short.shape == (KEY,)
    assert int(np.abs(short).max()) <= FACTOR_MAX
    return Factor(np.fft.fft(short * _TWIST))


def products(polynomials: Words, by: Factor) -> Words:
    """Each of these times the factor, shape (count, 2048), modulo 2^32."""
    assert polynomials.shape[1:] == (KEY,)
    halves = np.empty(polynomials.shape, np.complex128)
    # Both between -2^15 and 2^15, so that norms, and with them the error, are small.
    low = polynomials.astype(np.uint16).view(np.int16)
    halves.real = low
    halves.imag = (polynomials - low.astype(np.uint32)).view(np.int32) >> _HALF
    halves *= _TWIST
    spectra = np.fft.fft(halves, axis=1)
    spectra *= by.spectrum
    found = np.fft.ifft(spectra, axis=1)
    found *= _UNTWIST
    parts = found.view(np.float64)
    nearest = np.rint(parts)
    parts -= nearest
    assert float(max(parts.max(), -parts.min())) < _OFF_MAX, "a product is not exact"
    # Their lowest 32 bits, whatever their sign.
    wholes = nearest.astype(np.int64).astype(np.uint32)
    product: Words = wholes[:, 0::2] + (wholes[:, 1::2] << np.uint32(_HALF))
    return product
