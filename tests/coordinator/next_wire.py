"""`fedmqtt` as it will be when its messages are not understood by those of today any more."""

import importlib.util
import sys
from pathlib import Path

import fedmqtt

_NAME = "fedmqtt.messages"


def _raise_wire_version() -> None:
    spec = importlib.util.find_spec(_NAME)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    today = "\nWIRE_VERSION = 1\n"
    assert text.count(today) == 1
    module = importlib.util.module_from_spec(spec)  # noqa: TID251
    sys.modules[_NAME] = module
    # As `import` does, which this forestalls.
    vars(fedmqtt)["messages"] = module
    later = text.replace(today, "\nWIRE_VERSION = 2\n")
    exec(compile(later, spec.origin, "exec"), vars(module))  # noqa: S102


if __name__ == "__main__":
    _raise_wire_version()
    from fedmqtt.__main__ import main

    sys.exit(main())
