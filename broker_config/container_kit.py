"""The service `kit` of docker-compose.yml: a kit made on the first start, its files handed out.

    /federation/kit/kit/               the kit itself, with its CA's key: for this service alone
    /federation/broker/                what Mosquitto reads, copied from kit/broker
    /federation/accounts/coordinator/  coordinator.toml
                         monitor/      monitor.toml
                         demo/         those of the clients that `prepare` was told to enroll

Each of the folders is a volume of its own, so that nobody holds another's keys. All belongs to the
user of the images, as whom Mosquitto runs there too: keys and passwords are mode 0600.

    docker compose run --rm kit enroll pi-3      and `revoke`
    docker compose exec broker kill -HUP 1       Mosquitto reads its files again
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from broker_config import enroll_command, kit, kit_command, revoke_command
from broker_config.kit import COORDINATOR, MONITOR, Kit, KitError

_AT = Path("/federation")
_KIT = _AT / "kit" / "kit"
"""Within the volume, so that it can be made beside its place and moved there."""
_LOOK_AGAIN = "The broker hears of it by: docker compose exec broker kill -HUP 1\n"

_Run = Callable[[argparse.Namespace], int]


def main(words: Sequence[str]) -> int:
    """Exit code: 0, or 2 where it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="kit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="make the kit if there is none; hand files out")
    kit_command.add_arguments(prepare)
    prepare.add_argument(
        "--enroll", action="append", default=[], metavar="NAME", help="also, when the kit is made"
    )
    enroll_command.add_arguments(commands.add_parser("enroll", help="add a device"))
    revoke_command.add_arguments(commands.add_parser("revoke", help="end a device's account"))
    arguments = parser.parse_args(_with_folder(words))
    try:
        if arguments.command == "prepare":
            return _prepare(arguments)
        run = enroll_command.run if arguments.command == "enroll" else revoke_command.run
        return _change(arguments, run)
    except (KitError, OSError) as bad:
        sys.stderr.write(f"kit: {bad}\n")
        return 2


def _with_folder(words: Sequence[str]) -> list[str]:
    """The kit's commands name a folder first; here there is one."""
    command, *others = [*words] or ["--help"]
    return [command, *others] if command.startswith("-") else [command, str(_KIT), *others]


def _prepare(arguments: argparse.Namespace) -> int:
    if _KIT.exists():
        sys.stdout.write(f"the kit in {_KIT} is left as it is\n")
    else:
        _make(arguments)
    _hand_out_broker()
    accounts = _KIT / "accounts"
    handed = {COORDINATOR: [COORDINATOR], MONITOR: [MONITOR], "demo": arguments.enroll}
    for folder, names in handed.items():
        files = [accounts / f"{name}.toml" for name in names]
        _copy([file for file in files if file.exists()], _AT / "accounts" / folder)
    return 0


def _make(arguments: argparse.Namespace) -> None:
    """Whole or not at all: one that was interrupted begins again."""
    making = _KIT.with_name("making")
    # The machine's own name may be one of those that are always given.
    arguments.host = list(dict.fromkeys(arguments.host))
    shutil.rmtree(making, ignore_errors=True)
    made = kit.create(making, kit_command.plan(arguments))
    for name in arguments.enroll:
        made.enroll(name)
    making.rename(_KIT)
    sys.stdout.write(f"made a kit for federation {arguments.federation} in {_KIT}\n")


def _change(arguments: argparse.Namespace, run: _Run) -> int:
    Kit(arguments.folder)
    code = run(arguments)
    if code == 0:
        _hand_out_broker()
        sys.stdout.write(_LOOK_AGAIN)
    return code


def _hand_out_broker() -> None:
    _copy(sorted((_KIT / "broker").iterdir()), _AT / "broker")


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Make these the folder's files, each by rename, for their owner's eyes alone."""
    for file in files:
        part = folder / f".{file.name}.part"
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        shutil.copyfile(file, part)
        part.replace(folder / file.name)
    wanted = {file.name for file in files}
    for old in folder.iterdir():
        if old.name not in wanted:
            old.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
