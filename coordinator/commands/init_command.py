"""Write a federation and a task of your own to start from: two files, ready to run.

    DIR/federation.toml   every setting, with what it means and its default
    DIR/my_task.py        a small model and its data; change it into yours

The next commands to type are printed.
"""

import argparse
import sys
from importlib import resources
from pathlib import Path

from coordinator.config import FederationConfig
from fedmqtt import settings
from fedmqtt.topics import NAME_RULE, is_name

TASK_FILE = "my_task.py"
CONFIG_FILE = "federation.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="a new or empty folder; its name becomes the federation's name",
    )


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    name = folder.resolve().name
    if not is_name(name):
        return _refuse(f"{name!r} cannot name a federation: use {NAME_RULE}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return _refuse(f"{folder} is not an empty folder; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TASK_FILE).write_text(starter_task())
        (folder / CONFIG_FILE).write_text(starter_config(name))
    except OSError as bad:
        return _refuse(f"cannot write to {folder}: {bad.strerror}")
    sys.stdout.write(_next_steps(folder, name))
    return 0


def starter_task() -> str:
    return resources.files("learning_tasks").joinpath("starter_task.py").read_text()


def starter_config(name: str) -> str:
    head = (
        "# Settings of this federation. Each line stands at its default; delete what you do not\n"
        f"# change. For one run: fedmqtt coordinator {CONFIG_FILE} --set rounds.count=5\n\n"
    )
    # Without the settings of the strategy: another one, named in its line, would not take them.
    return head + settings.render(FederationConfig(name=name, task=TASK_FILE))


def _next_steps(folder: Path, name: str) -> str:
    return f"""Wrote {folder / CONFIG_FILE} and {folder / TASK_FILE}.

Next, each in a terminal of its own, in {folder}:

  fedmqtt broker                        # or any MQTT broker you have
  fedmqtt coordinator {CONFIG_FILE}
  fedmqtt client --broker mqtt://localhost --federation {name} --id one --task {TASK_FILE}
  fedmqtt client --broker mqtt://localhost --federation {name} --id two --task {TASK_FILE}
  fedmqtt watch --federation {name}
"""


def _refuse(why: str) -> int:
    sys.stderr.write(f"fedmqtt init: {why}\n")
    return 2
