# A notebook has no terminals. Here is what stands for them: `%%terminal` runs a command and waits
# for it, `%%terminal bob` starts one in the background, and `%terminal bob` shows what it has said
# since. Words after the name are waited for. All end with the notebook.
import atexit
import os
import subprocess
import sys
import time
from pathlib import Path

from IPython.core.magic import register_line_cell_magic

# Jupyter tells programs that they have a screen, on which they would draw bars that move.
os.environ.pop("FORCE_COLOR", None)
_running: dict[str, subprocess.Popen[bytes]] = {}
_read: dict[str, int] = {}


@register_line_cell_magic
def terminal(line: str, command: str | None = None) -> None:
    name, _, words = line.partition(" ")
    if command is not None and not name:
        _wait_for(command)
        return
    if command is not None:
        _start(name, command)
    _show(name, words)


def _wait_for(command: str) -> None:
    out, err = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(["bash", "-ec", command], stdout=out, stderr=err, text=True) as process:
        assert process.stdout is not None
        for said in process.stdout:
            print(said, end="")
    if process.returncode:
        raise SystemExit(f"it ended with {process.returncode}")


def _start(name: str, command: str) -> None:
    _end(name)
    with Path(f"{name}.log").open("wb") as log:
        # `exec`: what is ended is the program, and not a shell around it.
        words = ["bash", "-c", f"exec {command}"]
        _running[name] = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    _read[name] = 0


def _show(name: str, words: str) -> None:
    """What is new, as soon as `words` are in it."""
    log, give_up_at = Path(f"{name}.log"), time.monotonic() + 120
    while words not in (said := log.read_text()[_read[name] :]):
        if _running[name].poll() is not None or time.monotonic() > give_up_at:
            sys.stdout.write(said)
            raise SystemExit(f"{name} did not say: {words}")
        time.sleep(0.05)
    sys.stdout.write(said)
    _read[name] += len(said)


def _end(name: str) -> None:
    """As Ctrl-C does."""
    if (process := _running.pop(name, None)) is not None:
        process.terminate()
        process.wait(60)


@atexit.register
def _end_all() -> None:
    for name in reversed(list(_running)):
        _end(name)
