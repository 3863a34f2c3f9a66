"""Programs to whom a file's permissions apply also where the tests are root's."""

import sys

_WITHOUT_POWERS = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
libc = ctypes.CDLL(None)
for power in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    # Of who is not root this fails, and has nothing to drop.
    libc.prctl(PR_CAPBSET_DROP, power, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def as_owner(*command: str) -> list[str]:
    return [sys.executable, "-c", _WITHOUT_POWERS, *command]
