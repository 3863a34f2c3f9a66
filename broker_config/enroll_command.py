"""Add a device to a kit: one file that is all it needs.

    fedmqtt enroll demo-kit pi-3                         writes demo-kit/accounts/pi-3.toml
    scp demo-kit/accounts/pi-3.toml pi-3:                keep it secret on the way, too
    fedmqtt client --credentials pi-3.toml --task ...    on the device

    fedmqtt enroll demo-kit kh-a --keyholder             before the devices: their files name it

It prints how that keyholder is started. It opens no sum of fewer clients than --floor, which is at
most privacy.floor of federation.toml; for `trusted` say `fedmqtt aggregator` with the same words.
Copy the two lists to it again when devices were enrolled or revoked.

    fedmqtt enroll demo-kit carol --role operator        may give the coordinator orders, and watch
    fedmqtt enroll demo-kit worker-1 --role worker       takes in answers in the coordinator's place

A broker that is running hears of it when it is told to look again: Mosquitto by SIGHUP, as with
`pkill -HUP -x mosquitto` (with sudo where it is a service).
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from broker_config.kit import Account, Kit, KitError
from fedmqtt import credentials

MOSQUITTO = "Mosquitto, if it runs, hears of it by: pkill -HUP -x mosquitto"
"""-x: others whose names begin so, as mosquitto_sub, would end."""
_NAMES_SHOWN = 20
_FLOOR = 10
"""Of a keyholder, to begin with: `privacy.floor` where federation.toml says nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the kit's folder")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """All but the folder."""
    parser.add_argument("id", help="the device's name, like pi-3")
    parser.add_argument(
        "--role",
        choices=("device", "coordinator", "monitor", "operator", "worker"),
        help="what the account is for (a device; of one that was revoked, as before)",
    )
    parser.add_argument(
        "--keyholder",
        action="store_true",
        help="it may be given masks of answers: files that are written from now on name its key,"
        " and the coordinator's is written anew",
    )
    parser.add_argument(
        "--qr",
        action="store_true",
        help="print the file as a QR code too, for a device with a camera: let nobody else see it",
    )


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where it cannot be enrolled."""
    return enroll(arguments, MOSQUITTO)


def _by_scp(files: Sequence[Path], name: str) -> str:
    return f"scp {shlex.join(map(str, files))} {name}:"


def enroll(
    arguments: argparse.Namespace,
    look_again: str,
    fetch: Callable[[Sequence[Path], str], str] = _by_scp,
) -> int:
    """`run`, for people: `look_again` is what tells the broker of it, and `fetch` what brings these
    files of the kit to the machine of this name."""
    try:
        kit = Kit(arguments.folder)
        path = kit.enroll(arguments.id, arguments.role, keyholder=arguments.keyholder)
        account = kit.account(arguments.id)
        what = "is the account of {}" if account.keyholder else "is all that {} needs"
        sys.stdout.write(f"{path} {what.format(arguments.id)}. {look_again}\n")
        if account.keyholder:
            _tell_of_keyholder(kit, account)
            _tell_how_to_start(kit, account.id, fetch)
        if arguments.qr:
            _show(path)
    except KitError as bad:
        sys.stderr.write(f"fedmqtt enroll: {bad}\n")
        return 2
    return 0


def names(all_of_them: Sequence[str]) -> str:
    """Some of them, and how many more there are."""
    more = len(all_of_them) - _NAMES_SHOWN
    return ", ".join(all_of_them[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _tell_of_keyholder(kit: Kit, keyholder: Account) -> None:
    if before := kit.enrolled_before(keyholder):
        sys.stderr.write(
            f"fedmqtt enroll: {names(before)} were enrolled before, and mask nothing for"
            f" {keyholder.id} until their\nfiles name it: enroll them anew, or add to `keyholders`"
            f" in each\n    '{kit.pin(keyholder.id)}'\n"
        )


def _tell_how_to_start(kit: Kit, name: str, fetch: Callable[[Sequence[Path], str], str]) -> None:
    """What a person does next, in its order; docs/security.md tells why."""
    files = kit.files_of_keyholder(name)
    credentials_file, enrolled, revoked = (file.name for file in files)
    start = shlex.join(
        [
            *("fedmqtt", "keyholder", "--credentials", credentials_file, "--state", name),
            *("--enrolled", enrolled, "--revoked", revoked, "--floor", str(_FLOOR)),
        ]
    )
    sys.stdout.write(
        "Next: enroll the devices, and where the coordinator's file was copied, copy it again: they"
        " name it from now on.\nThen, on a machine of somebody else than the coordinator's:"
        f"\n    {fetch(files, name)}\n    {start}\n"
        '--floor is privacy.floor of federation.toml, or less. For privacy.aggregation = "trusted"'
        " it is\n`fedmqtt aggregator`, with the same words.\n"
    )


def _show(path: Path) -> None:
    try:
        import segno
    except ModuleNotFoundError as lacking:
        raise KitError(f"--qr needs {lacking.name}: pip install 'fedmqtt[security]'") from lacking
    try:
        # With the least redundancy: a certificate and its key just fit.
        code = segno.make(credentials.render(credentials.read(path)), error="l")
    except segno.DataOverflowError as bad:
        raise KitError(f"{path} is too long for a QR code: copy the file") from bad
    code.terminal(compact=True)
