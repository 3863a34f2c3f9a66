"""What a number on a command line may be: argparse's `type`."""

import argparse
import math

from fedmqtt.topics import ROUND_MAX

_MAX = 1e9
"""In whatever unit: what is larger is a slip, and could be no timer's and no file's."""
_PORT_MAX = 65535


def positive(text: str) -> float:
    """Above 0, and at most a thousand millions. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0, up to {_MAX:g}")
    return value


def round_number(text: str) -> int:
    """From 0, which is before the first. Raises ArgumentTypeError."""
    if text.isascii() and text.isdigit() and int(text) <= ROUND_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no round: expected a whole number from 0")


def port(text: str) -> int:
    """0 is any that is free. Raises ArgumentTypeError."""
    if text.isascii() and text.isdigit() and int(text) <= _PORT_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: expected 0 to {_PORT_MAX}")
