"""`fedmqtt broker`: the embedded broker in this terminal, for trying out."""

import argparse
import sys

from fedmqtt import flag_values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=flag_values.port, default=1883, help="port to listen on (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C; 0 then, 1 if it cannot listen there, 2 if there is none."""
    try:
        # Here, because amqtt is an extra, and `fedmqtt broker --help` works without it.
        from broker_config import embedded
    except ModuleNotFoundError as error:
        sys.stderr.write(f"The embedded broker needs {error.name}: pip install 'fedmqtt[broker]'\n")
        return 2
    return embedded.run(
        arguments.host, arguments.port, lambda port: _introduce(arguments.host, port)
    )


def _introduce(host: str, port: int) -> None:
    sys.stdout.write(
        f"Embedded broker (amqtt) at mqtt://{host}:{port}\n"
        "For trying out, with up to about 100 clients: no accounts, no encryption, MQTT 3.1.1,\n"
        "and nothing is kept when it ends. For more, run Mosquitto: see broker_config/README.md.\n"
        "Ctrl-C stops it.\n"
    )
    sys.stdout.flush()
