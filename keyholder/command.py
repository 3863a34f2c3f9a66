"""Hold keys of a federation's devices, and open sums of their answers, never one alone.

    fedmqtt enroll demo-kit kh-a --keyholder
    fedmqtt keyholder --credentials kh-a.toml --state kh-a --enrolled enrolled-devices

Devices mask their answers and seal the masks to several keyholders. When a round closes, the
coordinator names the clients that counted, and each keyholder adds up the masks of just those: a
list of too few, of whom the federation does not know, or a second list for the same key is refused.
No keyholder ever sees an answer. Run each where another person is in charge: what
devices keep to themselves stays so while no more keyholders than the federation tolerates work
together.

The state folder holds the private halves of round keys: keep it off backups, since a copy of it can
open what was deleted here. Never put an old one back: it does not know which lists its keys have
opened. Delete the folder instead; keys are made anew, and rounds that are open lose this keyholder.
"""

import argparse
import sys
import time
from pathlib import Path

from fedmqtt import credentials
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.credentials import CredentialsError
from fedmqtt.event_loop import EventLoop
from fedmqtt.flag_values import positive
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.lists_promise import KEEP_DAYS
from fedmqtt.messages import KEYHOLDERS_MAX
from fedmqtt.mqtt_link import BrokerUrlError
from fedmqtt.revocations import Enrolments, Revocations, RevocationsError
from fedmqtt.topics import ClientId
from keyholder.book import Book, BookError
from keyholder.listed import Mode
from keyholder.program import Keyholder, Settings
from keyholder.sums import Keeper

FLOOR = 10
_FLOOR_MAX = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, ("keyholders",))


def add_options(parser: argparse.ArgumentParser, serves: tuple[Mode, ...]) -> None:
    """`serves`: what is opened unless somebody says otherwise."""
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        required=True,
        help="as `fedmqtt enroll --keyholder` wrote it: who we are",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        required=True,
        help="folder for keys, and for what each was used for; of this program alone",
    )
    parser.add_argument(
        "--broker",
        default="",
        help="another way to the broker: mqtts://host:port; of a cluster, all its nodes: mqtts://a,b,c",
    )
    parser.add_argument(
        "--floor",
        type=_floor,
        default=FLOOR,
        metavar="N",
        help="open no sum of fewer clients, whatever the coordinator asks (%(default)s, as"
        " privacy.floor of a federation.toml is unless it says otherwise)",
    )
    parser.add_argument(
        "--tolerated",
        type=_tolerated,
        default=1,
        metavar="N",
        help="open no sum of answers of which so many keyholders together could learn one, whatever"
        " the coordinator asks: privacy.tolerated of the federation.toml (%(default)s)",
    )
    parser.add_argument(
        "--mixed-rounds",
        action="store_true",
        help="open sums of answers to several models, too, as asynchronous rounds have them: of"
        " those a coordinator that lies can read one",
    )
    parser.add_argument(
        "--keep-days",
        type=positive,
        default=KEEP_DAYS,
        metavar="D",
        help="delete keys after so many days, also where their rounds were never opened"
        " (%(default)g)",
    )
    parser.add_argument(
        "--revoked",
        type=Path,
        metavar="FILE",
        help="devices that count no more, as `fedmqtt revoke` lists them; looked at for each list",
    )
    parser.add_argument(
        "--enrolled",
        type=Path,
        metavar="FILE",
        help="the only devices that count, as the kit lists them (enrolled-devices): else whoever"
        " has the coordinator's credentials can make up the others of a list",
    )
    parser.add_argument(
        "--serve",
        choices=("keyholders", "trusted", "both", "committee"),
        default=serves[0],
        help="in which mode sums are opened: by several keyholders, by this program alone, in both"
        " of these; or, an experiment, by a committee of devices, of keys that clients hide answers"
        " under"
        " (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 when it was told to end; 2 where it cannot begin, 3 where the broker does not let it in."""
    return serve("keyholder", arguments)


def serve(command: str, arguments: argparse.Namespace) -> int:
    """`run`, by the name of this command."""

    def refuse(why: str) -> int:
        sys.stderr.write(f"fedmqtt {command}: {why}\n")
        return EXIT_USAGE

    modes: tuple[Mode, ...] = (
        ("keyholders", "trusted") if arguments.serve == "both" else (arguments.serve,)
    )
    settings = Settings(
        serves=modes,
        floor=arguments.floor,
        tolerated=arguments.tolerated,
        mixed_rounds=arguments.mixed_rounds,
        keep_s=arguments.keep_days * 24 * 3600,
    )
    folder: Path = arguments.state
    try:
        account, broker = credentials.broker_of(
            arguments.credentials, ("device",), arguments.broker
        )
        keeper = Keeper(
            federation=account.federation,
            federation_key=account.federation_key,
            name=ClientId(account.id),
            revoked=Revocations(arguments.revoked) if arguments.revoked else None,
            enrolled=Enrolments(arguments.enrolled) if arguments.enrolled else None,
        )
        if broker.seal is None:
            return refuse(
                f"credentials {arguments.credentials} hold no keys, and devices know a keyholder by"
                " its key: make a new kit, and enroll it there with --keyholder"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(folder)
        # Files are dated by this clock, and it goes on while the program does not run.
        book = Book(folder, account.federation, account.id, time.time)  # noqa: TID251
    except (CredentialsError, BrokerUrlError, RevocationsError, BookError) as bad:
        return refuse(str(bad))
    except FolderInUse as other:
        return refuse(f"state folder {other}; give each {command} a folder of its own with --state")
    except OSError as bad:
        return refuse(f"{bad.filename}: {bad.strerror}; choose another folder with --state")
    loop = EventLoop()
    loop.stop_on_signals()
    denied: list[str] = []

    def end(reason: str) -> None:
        denied.append(reason)
        loop.stop()

    program = Keyholder(loop, broker, account, book, settings, keeper, on_denied=end)
    program.start()
    loop.run()
    program.stop()
    loop.close()
    lock.release()
    if denied:
        sys.stderr.write(f"fedmqtt {command}: {denied[0]}\n")
        return EXIT_DENIED
    return 0


def _tolerated(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) < KEYHOLDERS_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected 1 to {KEYHOLDERS_MAX - 1}")


def _floor(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 9 and 2 <= int(text) <= _FLOOR_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected 2 to {_FLOOR_MAX:,} clients")
