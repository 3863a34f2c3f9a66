"""What a number on a command line may be: argparse's `type`."""

import argparse
import math

_MAX = 1e9
"""In whatever unit: what is larger is a slip, and could be no timer's and no file's."""


def positive(text: str) -> float:
    """Above 0, and at most a thousand millions. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0, up to {_MAX:g}")
    return value
