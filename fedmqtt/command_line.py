"""What follows `fedmqtt`: finds each program's own command by name, and imports only that one.

A device's agent must not pay for the coordinator's imports, nor need what they need.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fedmqtt import __version__, logs

EXIT_USAGE = 2
"""A wrong option or configuration: nothing was started. Also argparse's."""
EXIT_DENIED = 3
"""The broker does not let us in, or is not the one it should be: to try again is of no use."""
EXIT_INTERRUPTED = 130
"""Ended by Ctrl-C before it was done, as shells count it: 128 + SIGINT."""

COMMANDS = {
    "demo": ("fleet_sim.demo", "a whole federation on this machine: 46 phones and watches"),
    "init": (
        "coordinator.commands.init_command",
        "write a federation and a task of your own to start from",
    ),
    "coordinator": ("coordinator.command", "run a federation's rounds"),
    "worker": ("coordinator.workers.command", "take in a part of the answers, for a coordinator"),
    "client": ("edge_client.command", "take part with this device's own data"),
    "site": ("site_aggregator.command", "take part with devices of your own, as one client"),
    "keyholder": ("keyholder.command", "open sums of masked answers, with other keyholders"),
    "aggregator": ("keyholder.aggregator_command", "open them alone, trusted by all devices"),
    "watch": ("round_monitor.command", "see a federation at work, from its broker's topics"),
    "dashboard": ("round_monitor.dashboard_command", "the same in a browser: one page, live"),
    "export": (
        "round_monitor.export_command",
        "its status for Home Assistant, Prometheus, TensorBoard, MLflow, or as JSON lines",
    ),
    "health": ("coordinator.commands.health_command", "does a federation's coordinator answer?"),
    "pause": (
        "coordinator.commands.pause_command",
        "open no more rounds until resume: an operator's order",
    ),
    "resume": ("coordinator.commands.resume_command", "open rounds again"),
    "stop": ("coordinator.commands.stop_command", "end the run when its open round has closed"),
    "rollback": (
        "coordinator.commands.rollback_command",
        "go back to the model of an earlier round",
    ),
    "invite": ("coordinator.commands.invite_command", "have a client invited to the next round"),
    "report": (
        "round_monitor.report_command",
        "one page from one or several runs, to look at offline",
    ),
    "evaluate": (
        "coordinator.commands.evaluate_command",
        "how well a model does on the clients' data",
    ),
    "statistics": (
        "coordinator.commands.statistics_command",
        "describe the clients' data, without a model",
    ),
    "quarantine": (
        "coordinator.commands.quarantine_command",
        "clients that are left out for a while",
    ),
    "simulate": ("fleet_sim.simulate_command", "a fleet you do not own yet, in virtual time"),
    "broker": ("broker_config.command", "a small broker to try things with"),
    "broker-kit": (
        "broker_config.kit_command",
        "all that a secure federation's broker needs: CA, accounts, rules",
    ),
    "enroll": ("broker_config.enroll_command", "an account for one device, as one file"),
    "revoke": ("broker_config.revoke_command", "end a device's account"),
    "doctor": ("broker_config.doctor_command", "is this broker, and this account, good for it?"),
    "strategies": (
        "coordinator.commands.strategies_command",
        "the ways to make a model of answers",
    ),
    "selections": (
        "coordinator.commands.selections_command",
        "the ways to select clients, with settings",
    ),
    "codecs": ("fedmqtt.codecs_command", "what an update's numbers can be sent as"),
}
"""Subcommand: the module with its `add_arguments` and `run`, and one line of help."""


def run(words: Sequence[str]) -> int:
    """Exit code of the command that these words name."""
    if not words or words[0] not in COMMANDS:
        return _without_command(words)
    module_name, summary = COMMANDS[words[0]]
    try:
        with _ended_by_ctrl_c():
            command = importlib.import_module(module_name)  # noqa: TID251
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in _OURS:
            raise
        return _lacking(words[0], missing.name or "")
    parser = argparse.ArgumentParser(
        prog=f"fedmqtt {words[0]}",
        description=command.__doc__ or summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    _add_log_arguments(parser)
    parsed = parser.parse_args(words[1:])
    logs.set_up(verbose=parsed.verbose, as_json=parsed.json_logs)
    return int(command.run(parsed))


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """At once: nothing runs yet that would have to come to an orderly end.

    An exception, as Python makes one of Ctrl-C, may crash an extension module that is being loaded.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # Whoever started us in the background does not want us to hear of it.
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_OURS = {name.partition(".")[0] for name, _ in COMMANDS.values()} | {"fedmqtt", "learning_tasks"}

EXTRAS = {
    "demo": "demo",
    "simulate": "demo",
    "coordinator": "coordinator",
    "client": "train",
    "keyholder": "keyholder",
    "aggregator": "keyholder",
    "watch": "monitor",
    "dashboard": "dashboard",
    "report": "monitor",
    "broker": "broker",
    "broker-kit": "security",
    "enroll": "security",
    "revoke": "security",
    "codecs": "coordinator",
    "init": "coordinator",
    "worker": "coordinator",
    "site": "coordinator",
    "evaluate": "coordinator",
    "quarantine": "coordinator",
    "selections": "coordinator",
    "statistics": "coordinator",
    "strategies": "coordinator",
}
"""Subcommand: what it needs beside the `dependencies` of pyproject.toml; others need no more."""


def _lacking(command: str, module: str) -> int:
    package = f"'fedmqtt[{EXTRAS[command]}]'" if command in EXTRAS else "fedmqtt"
    sys.stderr.write(
        f"fedmqtt {command} needs the package {module!r}, which is not installed.\n"
        f"Install it with: pip install {package}\n"
    )
    return EXIT_USAGE


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("log")
    group.add_argument("--verbose", action="store_true", help="log details too")
    group.add_argument("--json-logs", action="store_true", help="log as one JSON object a line")


def _without_command(words: Sequence[str]) -> int:
    lines = [f"  {name:<13}{summary}" for name, (_, summary) in COMMANDS.items()]
    epilog = "\n".join(("commands:", *lines, "", "fedmqtt COMMAND --help tells more of each."))
    parser = argparse.ArgumentParser(
        prog="fedmqtt",
        usage="fedmqtt COMMAND [options]",
        description="Federated learning for devices that come and go, over MQTT.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fedmqtt {__version__}")
    if words and not words[0].startswith("-"):
        parser.error(f"no command {words[0]!r}; choose one of: {', '.join(COMMANDS)}")
    parser.parse_args(words)
    parser.print_help()
    return EXIT_USAGE
