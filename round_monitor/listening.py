"""Why a port cannot be listened at, and what to do about it."""

import errno


def refusal(host: str, port: int, bad: OSError) -> str:
    """In a sentence."""
    why = {
        errno.EADDRINUSE: "it is in use; choose another --port",
        errno.EADDRNOTAVAIL: "this machine has no such address; choose another --host",
    }.get(bad.errno or 0, bad.strerror or str(bad))
    return f"cannot listen at {host}:{port}: {why}"
