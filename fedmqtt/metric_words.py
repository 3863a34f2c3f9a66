"""A metric's name and value as people read them. `round_monitor/web/units.js` writes them alike."""

import re


def spelled(metric: str) -> str:
    """A metric's name, for people."""
    return "macro-F1" if metric == "macro_f1" else metric.replace("_", " ")


def figure(value: float) -> str:
    """A metric's value, in as many digits as say something."""
    size = abs(value)
    if value != 0 and (size < 0.001 or size >= 100_000):
        text = f"{value:.2e}"
    else:
        text = f"{value:.3f}" if size < 10 else f"{value:#.4g}".removesuffix(".")
    # As browsers write it: 1.25e-5.
    return re.sub(r"e([+-])0", r"e\1", text)
