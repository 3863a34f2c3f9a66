"""Bring a federation's status to the tools that you have, from its broker's topics.

home-assistant describes the topics to Home Assistant, once; all others run until Ctrl-C, and go on
when a broker that was away is back. docs/exporting.md has a section for each.
"""

import argparse
import inspect
import sys

from fedmqtt import federation_flags, parts
from fedmqtt.command_line import EXIT_USAGE
from round_monitor import export
from round_monitor.exporting import ExportError

_OURS = {"fedmqtt", "round_monitor"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    targets = parser.add_subparsers(dest="target", metavar="TARGET", required=True)
    for name in parts.names(export):
        target = parts.load(export, name)
        text = inspect.getdoc(target) or ""
        one = targets.add_parser(
            name.replace("_", "-"),
            help=_first_sentence(text),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        federation_flags.add_arguments(one, f"{target.ROLES[0]}s")
        target.add_arguments(one)


def run(arguments: argparse.Namespace) -> int:
    """0 after Ctrl-C, or when all is written; 1 if it cannot be written, 2 if it cannot be asked
    for, 3 if the broker does not let us in."""
    command = f"fedmqtt export {arguments.target}"
    target = parts.load(export, arguments.target.replace("-", "_"))
    try:
        federation, broker = federation_flags.find(arguments, target.ROLES)
        target.run(federation, broker, arguments)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in _OURS:
            raise
        return _fail(
            f"{command} needs the package {package!r}: pip install 'fedmqtt[{target.EXTRA}]'",
            EXIT_USAGE,
        )
    except ValueError as wrong:
        return _fail(f"{command}: {wrong}", EXIT_USAGE)
    except ExportError as bad:
        return _fail(f"{command}: {bad}", bad.exit_code)
    return 0


def _first_sentence(text: str) -> str:
    """Of a docstring, after its tool's name."""
    return " ".join(text.partition(": ")[2].split()).partition(". ")[0].rstrip(".")


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code
