"""The service `kit` of docker-compose.yml: a kit made on the first start, its files handed out.

    /federation/kit/kit/               the kit itself, with its CA's key: for this service alone
    /federation/broker/                what Mosquitto reads, copied from kit/broker
    /federation/accounts/coordinator/  coordinator.toml, revoked-devices
                         monitor/      monitor.toml
                         operator/     operator.toml
                         demo/         those of the clients that `prepare` was told to enroll
                         kh-a/ ...     kh-a.toml, enrolled-devices, revoked-devices: of a keyholder

Each of the folders is a volume of its own, so that nobody holds another's keys. All belongs to the
user of the images, as whom Mosquitto runs there too: keys and passwords are mode 0600.

    docker compose run --rm kit enroll pi-3      and `revoke`
    docker compose exec broker kill -HUP 1       Mosquitto reads its files again
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from broker_config import enroll_command, kit, kit_command, revoke_command
from broker_config.kit import COORDINATOR, MONITOR, OPERATOR, Kit, KitError, Plan

_AT = Path("/federation")
_KIT = _AT / "kit" / "kit"
"""Within the volume, so that it can be made beside its place and moved there."""
_HANDED = _AT / "accounts"
_LOOK_AGAIN = "The broker hears of it by: docker compose exec broker kill -HUP 1"
_REFUSED = "The service `coordinator` refuses what it signs from now on, by itself."
_ANEW = "To begin anew, without accounts, runs and models: docker compose down --volumes"
_NOT_HANDED = (
    "hears of it when enrolled-devices and revoked-devices are copied to it; where it is a service"
    " here,\nagain with COMPOSE_FILE=docker-compose.yml:docker-compose.keyholders.yml"
)
_MADE_LATER = ("federation_key", "accounts")
"""Of a plan: what no words ask for."""


def main(words: Sequence[str]) -> int:
    """Exit code: 0, or 2 where it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="kit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="make the kit if there is none; hand files out")
    kit_command.add_options(prepare)
    prepare.add_argument(
        "--enroll", action="append", default=[], metavar="NAME", help="also, when the kit is made"
    )
    prepare.add_argument(
        "--keyholder", action="append", default=[], metavar="NAME", help="the same, before those"
    )
    enroll_command.add_options(commands.add_parser("enroll", help="add a device"))
    revoke_command.add_options(commands.add_parser("revoke", help="end a device's account"))
    # The kit's commands name a folder; here there is one.
    parser.set_defaults(folder=_KIT)
    arguments = parser.parse_args(words or ["--help"])
    try:
        return _prepare(arguments) if arguments.command == "prepare" else _change(arguments)
    except (KitError, OSError) as bad:
        sys.stderr.write(f"kit: {bad}\n")
        return 2


def _prepare(arguments: argparse.Namespace) -> int:
    # The machine's own name may be one of those that are always given.
    arguments.host = list(dict.fromkeys(arguments.host))
    wanted = kit_command.plan(arguments)
    if _KIT.exists():
        _compare(Kit(_KIT).plan, wanted, arguments)
    else:
        _make(arguments, wanted)
    _hand_out_to_servers()
    _copy_those_there([_account(name) for name in arguments.enroll], _HANDED / "demo")
    return 0


def _compare(is_: Plan, wanted: Plan, arguments: argparse.Namespace) -> None:
    """Say what a kit is left with, where other words ask for something else. Raises KitError where
    it is of another federation: nothing that was handed out would work."""
    differ = [
        f"  {name} is {has!r}, and not {asked!r}\n"
        for name in Plan.__struct_fields__
        if name not in _MADE_LATER
        and (has := getattr(is_, name)) != (asked := getattr(wanted, name))
    ]
    if is_.federation != wanted.federation:
        raise KitError(f"the kit in {_KIT} was made for another:\n{''.join(differ)}{_ANEW}")
    sys.stdout.write(f"the kit in {_KIT} is left as it is\n")
    if differ:
        sys.stderr.write(f"kit: it was made once, with other words:\n{''.join(differ)}{_ANEW}\n")
    known = {one.id for one in is_.accounts}
    asked = [f"{name} --keyholder" for name in arguments.keyholder] + arguments.enroll
    # A kit of before there were orders; one that was ended is known still.
    asked.append(f"{OPERATOR} --role operator")
    for words in asked:
        if (name := words.partition(" ")[0]) not in known:
            sys.stderr.write(
                f"kit: {name} has no account: docker compose run --rm kit enroll {words}\n"
            )


def _make(arguments: argparse.Namespace, wanted: Plan) -> None:
    """Whole or not at all: one that was interrupted begins again."""
    making = _KIT.with_name("making")
    shutil.rmtree(making, ignore_errors=True)
    made = kit.create(making, wanted)
    # First: who is enrolled after them knows them.
    for name in arguments.keyholder:
        made.enroll(name, keyholder=True)
    for name in arguments.enroll:
        made.enroll(name)
    making.rename(_KIT)
    sys.stdout.write(f"made a kit for federation {arguments.federation} in {_KIT}\n")


def _change(arguments: argparse.Namespace) -> int:
    if arguments.command == "enroll":
        code = enroll_command.enroll(arguments, _LOOK_AGAIN, _fetched)
    else:
        code = revoke_command.revoke(arguments, _LOOK_AGAIN, _REFUSED)
    if code == 0:
        _hand_out_to_servers()
        # Who was handed an account and has another by now has that one. Of one that ended the
        # file stays, which is good for nothing: it tells whom to hand the next.
        for old in _HANDED.joinpath("demo").glob("*.toml"):
            if _account(old.stem).exists():
                _put(_account(old.stem), old.parent)
    return code


def _fetched(files: Sequence[Path], _name: str) -> str:
    return "\n    ".join(f"docker compose cp kit:{file} ." for file in files)


def _hand_out_to_servers() -> None:
    _copy(sorted((_KIT / "broker").iterdir()), _AT / "broker")
    coordinators = [_account(COORDINATOR), _KIT / "revoked-devices"]
    _copy_those_there(coordinators, _HANDED / COORDINATOR)
    _copy_those_there([_account(MONITOR)], _HANDED / MONITOR)
    # A compose file of before there were orders has no volume for it.
    if os.access(_HANDED / OPERATOR, os.W_OK):
        _copy_those_there([_account(OPERATOR)], _HANDED / OPERATOR)
    made = Kit(_KIT)
    for name in (pin.partition(" ")[0] for pin in made.plan.pins):
        _hand_out_to_keyholder(made, name)


def _hand_out_to_keyholder(made: Kit, name: str) -> None:
    folder = _HANDED / name
    if not os.access(folder, os.W_OK):
        # There is none, or the image's own in the place of a volume: that is read-only.
        sys.stderr.write(f"kit: {name} {_NOT_HANDED}\n")
        return
    _copy_those_there(made.files_of_keyholder(name), folder)


def _account(name: str) -> Path:
    return _KIT / "accounts" / f"{name}.toml"


def _copy_those_there(files: Sequence[Path], folder: Path) -> None:
    """Not all are: of an account that was ended there is no file."""
    _copy([file for file in files if file.exists()], folder)


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Make these the folder's files."""
    for file in files:
        _put(file, folder)
    wanted = {file.name for file in files}
    for old in folder.iterdir():
        if old.name not in wanted:
            old.unlink()


def _put(file: Path, folder: Path) -> None:
    """By rename, for its owner's eyes alone."""
    part = folder / f".{file.name}.part"
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    shutil.copyfile(file, part)
    part.replace(folder / file.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
