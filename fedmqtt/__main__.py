"""The `fedmqtt` command: see `command_line.py`."""

import sys


def main(arguments: list[str] | None = None) -> int:
    try:
        # Here: most of a short command's time goes into imports, and Ctrl-C may come among them.
        from fedmqtt import command_line

        return command_line.run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        # `command_line.EXIT_INTERRUPTED`, which need not have been imported.
        return 130


if __name__ == "__main__":
    sys.exit(main())
