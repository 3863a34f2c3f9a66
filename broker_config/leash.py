"""Run a program that must not outlive its parent: it is ended when our stdin closes.

    python leash.py mosquitto -c mosquitto.conf

The parent keeps the other end of the pipe. However the parent goes, the system closes that end.
"""

import os
import subprocess
import sys
import threading

_ENDS_WITHIN_S = 5.0


def main(command: list[str]) -> int:
    """Run the command to its end; its exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_stdin, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_stdin(process: subprocess.Popen[bytes]) -> None:
    # Not through sys.stdin: its lock, held here, would abort the interpreter when it ends first.
    while os.read(0, 4096):
        pass
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
