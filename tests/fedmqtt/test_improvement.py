"""Whether a model still improves: one table, that views and browsers are held to as well."""

import pytest

from fedmqtt.improvement import RECENT, trend
from fedmqtt.status_pages import Better, Figures, RoundLine
from fedmqtt.topics import RoundId


def measured(*rounds: dict[str, float]) -> list[RoundLine]:
    """One round for each, from 1; one that measured nothing where it is empty."""
    return [
        RoundLine(
            round=RoundId(number),
            outcome="averaged",
            reason="cohort complete",
            invited=4,
            answered=4,
            dropped=0,
            declined=0,
            rejected=0,
            duration_s=1.0,
            train_metrics={},
            figures=Figures(clients=2, samples=9, metrics=metrics) if metrics else None,
        )
        for number, metrics in enumerate(rounds, 1)
    ]


def of(metric: str, *values: float) -> list[RoundLine]:
    return measured(*({metric: value} for value in values))


TRENDS: dict[str, tuple[list[RoundLine], Better, str]] = {
    "no round": ([], "unknown", "Not measured so far"),
    "none measured": (measured({}, {}), "unknown", "Not measured so far"),
    "one": (of("accuracy", 0.5), "early", "accuracy 0.500, after 0 rounds"),
    "as many as are recent": (
        of("accuracy", *[0.9] * RECENT),
        "early",
        "accuracy 0.900, after 4 rounds",
    ),
    "rises": (
        of("accuracy", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        "yes",
        "Yes: accuracy 0.600; the best of the last 5 measured rounds is +0.500 on all before",
    ),
    "rises too little": (
        of("accuracy", 0.9, 0.5, 0.5, 0.5, 0.5, 0.9015),
        "no",
        "No: accuracy 0.901; the best was 0.900 at round 1",
    ),
    "rises enough": (
        of("accuracy", 0.9, 0.5, 0.5, 0.5, 0.5, 0.9035),
        "yes",
        "Yes: accuracy 0.903; the best of the last 5 measured rounds is +0.003 on all before",
    ),
    "stays": (
        of("accuracy", *[0.7] * 6),
        "no",
        "No: accuracy 0.700; the best was 0.700 at round 1",
    ),
    "was better": (
        of("accuracy", 0.2, 0.7, 0.2, 0.3, 0.4, 0.5, 0.6),
        "no",
        "No: accuracy 0.600; the best was 0.700 at round 2",
    ),
    "accuracy comes before macro-F1, which rises": (
        measured(
            *(
                {"macro_f1": f1, "accuracy": share}
                for f1, share in [(0.4, 0.8), (0.5, 0.9), *[(0.837, 0.825)] * 5]
            )
        ),
        "no",
        "No: accuracy 0.825; the best was 0.900 at round 2",
    ),
    "macro-F1 alone": (of("macro_f1", 0.25), "early", "macro-F1 0.250, after 0 rounds"),
    "rounds that did not measure count for nothing": (
        measured({"accuracy": 0.5}, {}, {}, {}, {}, {}, {"accuracy": 0.25}),
        "early",
        "accuracy 0.250, after 6 rounds",
    ),
    "a loss falls": (
        of("loss", 9, 8, 7, 6, 5, 4),
        "yes",
        "Yes: loss 4.000; the best of the last 5 measured rounds is −5.000 on all before",
    ),
    "a loss falls by too small a share": (
        of("loss", *[1000.0] * 5, 999.0),
        "no",
        "No: loss 999.0; the best was 1000 at round 1",
    ),
    "of a metric without a name here more is better": (
        of("mean_words", 1, 2, 3, 4, 5, 6),
        "yes",
        "Yes: mean words 6.000; the best of the last 5 measured rounds is +5.000 on all before",
    ),
}


@pytest.mark.parametrize("case", TRENDS)
def test_one_rule_tells_whether_it_improves(case: str) -> None:
    lines, better, why = TRENDS[case]
    assert trend(lines) == (better, why)
