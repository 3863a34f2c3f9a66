"""How seldom a client takes part, as it finds out by itself from the rounds between its answers.

    interval: rounds since its last answer that counted; each `interval_max` of them are one too
    estimate: the mean of its intervals so far, 1 before there are any

Source: Wang and Ji, "A Lightweight Method for Tackling Unknown Participation Statistics in
Federated Averaging", ICLR 2024, algorithm 2 with its cutoff K. There all clients begin with the
first round; here each begins with its first answer, as clients may come later.
"""

from collections.abc import Mapping

from fedmqtt.topics import RoundId

_COUNT, _SUM, _LAST = "intervals", "interval_sum", "answered_last"


def answered(
    facts: Mapping[str, float], round_id: RoundId, interval_max: int
) -> tuple[float, dict[str, float]]:
    """The estimate to send with the answer to this round, and the facts once it is counted.

    The interval that ends with this answer is in the facts and not yet in the estimate: then the
    estimate says nothing of whether the client takes part now, and no weight is biased by that.
    """
    count, total = facts.get(_COUNT, 0.0), facts.get(_SUM, 0.0)
    last = facts.get(_LAST)
    if last is None:
        return 1.0, {_COUNT: 0.0, _SUM: 0.0, _LAST: float(round_id)}
    gap = max(1, round_id - int(last))
    full = (gap - 1) // interval_max
    count, total = count + full, total + full * interval_max
    estimate = total / count if count else 1.0
    left = gap - full * interval_max
    return estimate, {_COUNT: count + 1, _SUM: total + left, _LAST: float(round_id)}
