"""`python -m tests.fuzz.target NAME FLAG ...`: one decoder under libFuzzer, until that has enough.

A process of its own for each: a finding ends it. The flags are libFuzzer's.
"""

import logging
import sys

import atheris


def main() -> None:
    name, *flags = sys.argv[1:]
    # What reached which line is what it goes by, so it has to see our modules being imported.
    ours = [
        "fedmqtt",
        "coordinator",
        "edge_client",
        "round_monitor",
        "broker_config",
        "fleet_sim",
        "keyholder",
    ]
    with atheris.instrument_imports(include=ours, enable_loader_override=False):
        from tests.fuzz.table import DECODERS
    # Thousands of warnings a second are nobody's news.
    logging.disable(logging.CRITICAL)
    decoder = DECODERS[name]
    decoder.seeds()
    atheris.Setup([sys.argv[0], *flags], decoder.takes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
