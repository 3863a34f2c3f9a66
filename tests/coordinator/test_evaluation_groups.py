"""Whom a model serves how well, checked by hand."""

import pytest

from coordinator.commands import figures_table
from coordinator.evaluation_groups import GROUPS_MAX, SPREAD_METRICS_MAX, groups, summarise
from fedmqtt.messages import Measures
from fedmqtt.status_pages import OTHERS, GroupFigures
from fedmqtt.topics import ClientId


def measured(label: str, *losses: float, samples: int = 1) -> list[Measures]:
    return [Measures(sample_count=samples, metrics={"loss": x}, label=label) for x in losses]


def named(answers: list[Measures]) -> dict[ClientId, Measures]:
    return {ClientId(f"client-{i:03}"): one for i, one in enumerate(answers)}


def test_each_kind_of_device_has_figures_weighted_by_its_samples() -> None:
    phones = measured("phone", 1.0, 1.0) + measured("phone", 4.0, samples=4)
    watches = measured("watch", 2.0, 2.0, 2.0, 6.0)
    found = groups(watches + phones)
    assert found == {
        "watch": GroupFigures(clients=4, samples=4, metrics={"loss": 3.0}),
        # (1 + 1 + 4 * 4) / 6
        "phone": GroupFigures(clients=3, samples=6, metrics={"loss": 3.0}),
    }
    assert list(found) == ["watch", "phone"]


def test_a_group_has_the_accuracy_and_f1_of_its_own_matrices() -> None:
    right = Measures(sample_count=2, confusion=((1, 0), (0, 1)), label="phone")
    wrong = Measures(sample_count=2, confusion=((0, 1), (1, 0)), label="watch")
    found = groups([right] * 3 + [wrong] * 3)
    assert found["phone"].metrics == {"accuracy": 1.0, "macro_f1": 1.0}
    assert found["watch"].metrics == {"accuracy": 0.0, "macro_f1": 0.0}


def test_two_clients_have_no_figures_of_their_own() -> None:
    phones, watches = measured("phone", 1.0, 1.0, 1.0), measured("watch", 2.0, 2.0)
    pi, unnamed = measured("pi", 5.0), measured("", 3.0)
    found = groups(phones + watches + pi + unnamed)
    assert {label: one.clients for label, one in found.items()} == {"phone": 3, OTHERS: 4}


def test_what_is_left_over_gives_away_nobody() -> None:
    # Told all, phones and watches, anybody could take away those two from all and have the Pi's.
    phones, watches = measured("phone", *[1.0] * 5), measured("watch", *[2.0] * 3)
    found = groups(phones + watches + measured("pi", 9.0))
    assert {label: one.clients for label, one in found.items()} == {"phone": 5, OTHERS: 4}
    # One group and a rest that is too small would be all, twice.
    assert groups(phones + measured("pi", 9.0)) == {}


@pytest.mark.parametrize("label", ["", "phone", OTHERS])
def test_where_all_are_alike_there_are_no_groups(label: str) -> None:
    assert groups(measured(label, *[1.0] * 9)) == {}


def test_there_are_no_more_groups_than_are_read() -> None:
    answers = [one for n in range(50) for one in measured(f"kind-{n:02}", 1.0, 1.0, 1.0)]
    found = groups(answers)
    assert list(found) == [*(f"kind-{n:02}" for n in range(GROUPS_MAX)), OTHERS]
    assert sum(one.clients for one in found.values()) == len(answers)


def test_the_worst_served_are_seen_however_little_data_they_have() -> None:
    well = measured("", *[0.1] * 37, samples=1000)
    badly = measured("", 5.0, 6.0, 7.0)
    figures = summarise(named(well + badly))
    assert figures is not None
    assert figures.metrics["loss"] == pytest.approx(0.1, rel=0.01)
    one = figures.spread["loss"]
    assert one.clients == 40
    assert one.mean == pytest.approx((3.7 + 18) / 40)
    assert one.lowest_tenth == one.median == pytest.approx(0.1)
    # Of 40 a tenth is four: three at 5, 6, 7 and one at 0.1.
    assert one.highest_tenth == pytest.approx(18.1 / 4)


def test_a_spread_never_names_the_figure_of_one_device() -> None:
    figures = summarise(named(measured("", 1.0, 2.0, 3.0, 4.0, 5.0, 60.0)))
    assert figures is not None
    one = figures.spread["loss"]
    # Three at each end, though a tenth of six is one.
    assert (one.lowest_tenth, one.median, one.highest_tenth) == (2.0, 3.5, 23.0)
    assert summarise(named(measured("", 1.0, 2.0, 3.0, 4.0, 5.0))) is not None
    few = summarise(named(measured("", 1.0, 2.0, 3.0, 4.0, 5.0)))
    assert few is not None and few.spread == {}


def test_made_up_metrics_do_not_make_the_spread_longer() -> None:
    answers = [
        Measures(sample_count=1, metrics={f"m{n:03}": 1.0 for n in range(90)}) for _ in range(6)
    ]
    figures = summarise(named(answers))
    assert figures is not None and len(figures.spread) == SPREAD_METRICS_MAX


def test_the_same_answers_give_the_same_bits_in_any_order() -> None:
    answers = named(measured("a", *[0.1 * n for n in range(9)]) + measured("b", 0.7, 0.3, 0.2))
    assert summarise(answers) == summarise(dict(reversed(answers.items())))


def test_the_table_has_a_line_for_all_and_for_each_group() -> None:
    figures = summarise(named(measured("phone", 1.0, 1.0, 1.0) + measured("watch", 2.0, 2.0, 2.0)))
    assert figures is not None
    assert figures_table.lines(figures) == [
        "       clients  samples  loss",
        "all          6        6   1.5",
        "phone        3        3     1",
        "watch        3        3     2",
        "",
        "each client once  mean  lowest tenth  median  highest tenth",
        "loss               1.5             1     1.5              2",
    ]
