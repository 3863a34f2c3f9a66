"""Which rounds of a board are closed, and whose; what each tells as numbers."""

from msgspec import structs

from fedmqtt.status_pages import CodecCount, HistoryPage, RoundPage
from round_monitor import closed_rounds
from tests.round_monitor import pages
from tests.round_monitor.pages import line


def _page(number: int, run: str = "run.7", *, is_open: bool = True) -> RoundPage:
    return structs.replace(pages.open_round(number), run=run, open=is_open)


def _closed(page: RoundPage, *numbers: int) -> tuple[str, list[int]]:
    history = HistoryPage(rounds=[line(number) for number in numbers])
    run, rounds = closed_rounds.closed(pages.board_of({"round": page, "history": history}))
    return run, [one.round for one in rounds]


def test_rounds_before_the_open_one_are_closed() -> None:
    assert _closed(_page(3), 1, 2) == ("run.7", [1, 2])
    assert _closed(_page(3, is_open=False), 1, 2, 3) == ("run.7", [1, 2, 3])


def test_what_an_earlier_run_closed_is_not_taken_for_the_new_ones() -> None:
    assert _closed(_page(1), 1) == ("", [])
    assert _closed(_page(2), 1, 2, 3) == ("", [])


def test_without_both_pages_nothing_is_closed() -> None:
    assert closed_rounds.closed(pages.board_of({"round": _page(3)})) == ("", [])
    history = HistoryPage(rounds=[line(1)])
    assert closed_rounds.closed(pages.board_of({"history": history})) == ("", [])


def test_a_run_that_is_no_folders_name_becomes_one() -> None:
    assert _closed(_page(2, run="../../etc"), 1) == ("_.._etc", [1])
    assert _closed(_page(2, run=".."), 1) == ("unnamed", [1])


def test_a_coordinator_of_before_runs_had_ids_is_known_by_its_folder() -> None:
    history = HistoryPage(rounds=[line(1)])
    told = {"round": _page(2, run=""), "history": history, "coordinator": pages.coordinator()}
    assert closed_rounds.closed(pages.board_of(told))[0] == "20260301-101500"


def test_a_round_as_numbers() -> None:
    full = structs.replace(
        line(2, accuracy=0.5),
        train_metrics={"loss": 0.25, "a b\n": 1.0},
        codecs={"full": CodecCount(updates=4, bytes=100), "int8": CodecCount(updates=1, bytes=7)},
        epsilon=0.75,
    )
    assert closed_rounds.numbers(full) == {
        "clients/invited": 5,
        "clients/answered": 4,
        "clients/dropped": 1,
        "clients/declined": 0,
        "clients/rejected": 0,
        "round/duration_s": 2.5,
        "updates/bytes": 107,
        "train/loss": 0.25,
        "train/a_b_": 1.0,
        "model/accuracy": 0.5,
        "model/macro_f1": 0.25,
        "privacy/epsilon": 0.75,
    }


def test_names_of_metrics_are_only_so_many() -> None:
    many = {f"m{number}": 0.0 for number in range(10 * closed_rounds.METRICS_MAX)}
    told = closed_rounds.numbers(structs.replace(line(1), train_metrics=many))
    assert sum(name.startswith("train/") for name in told) == closed_rounds.METRICS_MAX
