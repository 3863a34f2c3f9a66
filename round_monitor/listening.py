"""Why a port cannot be listened at, and what to do about it."""

import errno


def refusal(host: str, port: int, bad: OSError) -> str:
    """In a sentence."""
    if bad.errno == errno.EADDRINUSE:
        return f"cannot listen at {host}:{port}: it is in use; choose another --port"
    return f"cannot listen at {host}:{port}: {bad.strerror or bad}"
