"""Who is in quarantine, and why; let a client in again, or shut one out.

  fedmqtt quarantine                                   who is in quarantine, until when, and why
  fedmqtt quarantine lift pi-3                         it may take part again, and begins anew
  fedmqtt quarantine lift --all
  fedmqtt quarantine add pi-3 --for 2h --why "drops its samples"

Works on a run's folder, whether its coordinator runs or not: one that runs notices within a second.
Without --run it is the unfinished run in the folder `runs`.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.intake import quarantine, quarantine_file
from coordinator.intake.quarantine import REASON_MAX, Add, Lift, Moment, Term
from coordinator.persistence import ledgers
from coordinator.persistence.run_errors import LedgerError
from fedmqtt.command_line import EXIT_USAGE
from fedmqtt.effects import Seconds
from fedmqtt.logs import printable
from fedmqtt.topics import NAME_RULE, ClientId, is_name

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])")
_BY_HAND = "by hand"


class _Mistake(Exception):
    """What was asked for cannot be done; says why, and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_run(parser, default=None)
    _add_json(parser, default=False)
    actions = parser.add_subparsers(dest="action", metavar="list | lift | add")
    # Said after the action too, where it must not hide what was said before it.
    _add_run(listing := actions.add_parser("list", help="the default"), argparse.SUPPRESS)
    _add_json(listing, argparse.SUPPRESS)
    lift = actions.add_parser("lift", help="let a client take part again")
    lift.add_argument("clients", nargs="*", metavar="ID", help="like pi-3")
    lift.add_argument("--all", action="store_true", help="everybody")
    add = actions.add_parser("add", help="shut a client out")
    add.add_argument("client", metavar="ID", help="like pi-3")
    add.add_argument("--for", dest="span", metavar="2h", help="as 90s, 30m, 2h, 7d; else for good")
    add.add_argument("--why", default=_BY_HAND, help="for its owner, and for all who look")
    for one in (lift, add):
        _add_run(one, argparse.SUPPRESS)


def _add_run(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--run", type=Path, metavar="DIR", default=default, help="a run's folder")


def _add_json(parser: argparse.ArgumentParser, default: str | bool) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="list as JSON")


def run(arguments: argparse.Namespace) -> int:
    """0; 2 where it cannot be done."""
    try:
        folder = _folder(arguments.run)
        match arguments.action:
            case "lift":
                _lift(folder, arguments.clients, everybody=arguments.all)
            case "add":
                _add(folder, arguments.client, arguments.span, arguments.why)
            case _:
                _list(folder, as_json=arguments.json)
    except (_Mistake, LedgerError, OSError) as bad:
        sys.stderr.write(f"fedmqtt quarantine: {bad}\n")
        return EXIT_USAGE
    return 0


def _list(folder: Path, *, as_json: bool) -> None:
    terms = quarantine_file.read(folder, _now()).terms
    if as_json:
        sys.stdout.write(json.dumps([_shown(*one) for one in terms.items()]) + "\n")
    elif not terms:
        sys.stdout.write(f"nobody is in quarantine in {folder}\n")
    else:
        sys.stdout.writelines(_lines(terms))


def _lift(folder: Path, clients: list[str], *, everybody: bool) -> None:
    if everybody == bool(clients):
        raise _Mistake("either the clients to lift, or --all")
    inside = quarantine_file.read(folder, _now()).terms
    wanted = list(inside) if everybody else [_client(one) for one in clients]
    for client in wanted:
        if client not in inside:
            others = f"in quarantine: {', '.join(inside)}" if inside else "nobody is"
            raise _Mistake(f"{client} is not in quarantine; {others}")
    for client in wanted:
        quarantine_file.give(folder, Lift(client=client))
        sys.stdout.write(f"{client} may take part again\n")
    if not wanted:
        sys.stdout.write(f"nobody is in quarantine in {folder}\n")


def _add(folder: Path, name: str, span: str | None, why: str) -> None:
    client, now = _client(name), _now()
    until = None if span is None else now + _seconds(span)
    term = Term(began=now, until=until, why=why.strip()[:REASON_MAX] or _BY_HAND)
    quarantine_file.give(folder, Add(client=client, term=term))
    sys.stdout.write(
        f"{client} is in quarantine {quarantine.until(term, now)}: {printable(term.why)}\n"
    )


def _client(name: str) -> ClientId:
    if not is_name(name):
        raise _Mistake(f"{name!r} is no client's name: those are {NAME_RULE}")
    return ClientId(name)


def _seconds(span: str) -> Seconds:
    found = _SPAN.fullmatch(span)
    if found is None or float(found[1]) == 0:
        raise _Mistake(
            f"--for {span!r}: expected a span of time as 90s, 30m, 2h or 7d, of nine digits at most"
        )
    return float(found[1]) * _UNITS[found[2]]


def _folder(chosen: Path | None) -> Path:
    if chosen is not None:
        # Where its ledger is on a server, its model tells that it has begun.
        if not (ledgers.has_begun(chosen) or (chosen / "model.safetensors").exists()):
            raise _Mistake(f"{chosen} holds no run: give the folder that has its ledger.db")
        return chosen
    unfinished = sorted(path.parent for path in Path("runs").glob("*/ledger.db"))
    unfinished = [folder for folder in unfinished if ledgers.is_unfinished(folder)]
    match unfinished:
        case []:
            raise _Mistake("there is no unfinished run in runs: give its folder with --run")
        case [folder]:
            return folder
        case _:
            named = ", ".join(map(str, unfinished))
            raise _Mistake(f"there are several unfinished runs: choose one with --run: {named}")


def _lines(terms: Mapping[ClientId, Term]) -> list[str]:
    now, width = _now(), max(map(len, terms))
    return [
        f"{client:{width}}  {quarantine.until(term, now)}: {printable(term.why)}\n"
        for client, term in terms.items()
    ]


def _shown(client: ClientId, term: Term) -> dict[str, Any]:
    return {
        "client": client,
        "since": _iso(term.began),
        "until": None if term.until is None else _iso(term.until),
        "why": term.why,
    }


def _iso(moment: Moment) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _now() -> Moment:
    # The clock of the coordinator's machine, by which quarantines begin and end.
    return time.time()  # noqa: TID251
