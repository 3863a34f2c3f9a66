"""What the page of one or several runs says, and how large it may become."""

import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from round_monitor import run_page, svg
from round_monitor.run_files import read_runs
from tests.round_monitor.run_folders import line, simulated, write_run


class _Text(HTMLParser):
    """The text of each element, in order, with how often each tag was opened."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.opened: dict[str, int] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened[tag] = self.opened.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.pieces.append(data.strip())

    def after(self, heading: str, count: int) -> list[str]:
        at = self.pieces.index(heading)
        return self.pieces[at + 1 : at + 1 + count]


def _page(*folders: Path) -> str:
    return run_page.page(read_runs(folders, lambda share: None), "A title", "fedmqtt report …")


def _figures(accuracy: float) -> dict[str, object]:
    return {"clients": 1, "samples": 10, "metrics": {"accuracy": accuracy}}


def test_the_page_tells_whom_the_last_model_serves_how_well(tmp_path: Path) -> None:
    group = {"clients": 3, "samples": 30, "metrics": {"accuracy": 0.5, "loss": None}}
    ends = {"clients": 9, "mean": 0.6, "lowest_tenth": 0.1, "median": 0.7, "highest_tenth": 0.9}
    told = {**_figures(0.9), "groups": {"<b>pi": group}, "spread": {"accuracy": ends}}
    lines = [line(1, 60, figures=_figures(0.5)), line(2, 120, figures=told)]
    page = _page(write_run(tmp_path / "ward", lines))
    text = _Text(page)
    assert "Whom the last model serves how well" in text.pieces and "<b>pi" not in page
    assert text.after("<b>pi", 4) == ["3", "30", "0.5", "–"]
    assert text.after("each client once", 9)[-4:] == ["0.6", "0.1", "0.7", "0.9"]
    plain = _page(write_run(tmp_path / "plain", lines[:1]))
    assert "serves how well" not in plain


def test_the_summary_tells_what_each_accuracy_cost(tmp_path: Path) -> None:
    lines = [
        line(1, 60, duration_s=60, figures=_figures(0.5), bytes_received=10**6, bytes_published=0),
        line(2, 3600, figures=_figures(0.96), bytes_received=2 * 10**6, bytes_published=0),
        line(3, 7200, figures=_figures(0.91), outcome="evaluated", bytes_received=3 * 10**6),
    ]
    text = _Text(_page(write_run(tmp_path / "ward", lines)))
    assert text.after("rounds closed", 1) == ["2"]
    assert text.after("final accuracy", 1) == ["0.910"]
    assert text.after("best accuracy", 2) == ["0.960", "after 1 rounds"]
    for target in ("0.80", "0.90", "0.95"):
        assert text.after(f"to {target} accuracy", 3) == ["1 rounds", "1 min 00 s", "1.0 MB"]
    assert text.after("answered in time", 1) == ["6 (50.0%)"]


def test_the_summary_tells_what_a_run_can_have_shown_of_one_device(tmp_path: Path) -> None:
    spent = {
        **{"epsilon": 1.25, "delta": 1e-5, "epsilon_max": 4.0, "participations": 2},
        **{"participations_max": 9, "noise_multiplier": 3.0, "clip_norm": 1.0},
    }
    first = line(1, 60, privacy={**spent, "epsilon": 0.5})
    private = write_run(tmp_path / "private", [first, line(2, 120, privacy=spent)])
    plain = write_run(tmp_path / "plain", [line(1, 60)])
    said = _Text(_page(private, plain)).after("epsilon of one device", 3)
    assert said == ["1.25 of 4", "at delta 1e-05", "not bounded"]
    # Where nobody promises anything, there is nothing to tell.
    assert "epsilon" not in _page(plain)


def test_an_accuracy_that_was_not_reached_says_so(tmp_path: Path) -> None:
    text = _Text(_page(write_run(tmp_path / "ward", [line(1, figures=_figures(0.85))])))
    assert text.after("to 0.80 accuracy", 1) == ["0 rounds"]
    assert text.after("to 0.90 accuracy", 1) == ["not reached"]


def test_a_run_that_never_measured_or_heard_anybody_has_a_page(tmp_path: Path) -> None:
    nobody: dict[str, Any] = {
        "answered": [],
        "dropped": [],
        "rejected": {},
        "invited": [],
        "figures": None,
    }
    lines = [line(1) | nobody | {"outcome": "kept", "reason": "", "train_metrics": {}}]
    lab = {"mode": "virtual", "clients": [], "rounds": []}
    for folder in (
        write_run(tmp_path / "real", lines),
        write_run(tmp_path / "lab", lines, lab),
        write_run(tmp_path / "held", lines, {"clients": [{"client": "ann", "samples": 3}]}),
    ):
        text = _Text(_page(folder))
        assert "No model was evaluated in a closed round." in text.pieces
        assert text.after("to 0.80 accuracy", 1) == ["–"]
        assert "no reason given" in text.pieces


def test_every_chart_has_a_name_and_its_figures_as_a_table(tmp_path: Path) -> None:
    folder = simulated(tmp_path / "a", clients=12, rounds=6, cohort=5, seed=1)
    page = _page(folder)
    assert all(
        'role="img" aria-label="' in tag for tag in re.findall('<svg class="chart"[^>]*>', page)
    )
    for figure in re.findall("<figure>.*?</figure>", page, re.DOTALL):
        assert "<figcaption>" in figure
        assert "The same as a table" in figure
        assert "<td>" in figure


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / day / "ward", [line(1)]) for day in ("monday", "tuesday")]
    other = write_run(tmp_path / "other", [line(1)])
    runs = read_runs([*folders, other], lambda share: None)
    assert run_page.names(runs) == ["monday/ward", "tuesday/ward", "other"]


def test_how_even_it_was_is_told_of_all_clients_of_the_lab(tmp_path: Path) -> None:
    people = [
        {"client": name, "samples": 4, "label_counts": [4 - n, n], "online_share": (n + 1) / 4}
        for n, name in enumerate(("ann", "bob", "cat", "zoe"))
    ]
    lines = [line(n, answered=["cat", "bob"] if n == 1 else ["cat"]) for n in (1, 2, 3)]
    lab = {"mode": "virtual", "clients": people}
    text = _Text(_page(write_run(tmp_path / "lab", lines, lab)))
    # Dan was invited too, and the lab does not know him: five clients with 0, 1, 3, 0, 0 answers.
    assert text.after("answers per client: mean", 1) == ["0.8"]
    assert text.after("the least and the most", 1) == ["0 to 3"]
    assert text.after("Jain’s index (1: all alike)", 1) == ["0.320"]
    assert text.after("never invited", 1) == ["20.0% (1)"]
    assert text.after("never heard", 1) == ["60.0% (3)"]
    # Invited, answered, dropped, rejected, surplus, samples, online, most of class.
    assert text.after("zoe", 8) == ["0", "0", "0", "0", "0", "4", "100.0%", "–"]
    assert text.after("cat", 8) == ["3", "3", "0", "3", "0", "4", "75.0%", "–"]


def test_a_real_coordinator_does_not_know_whom_it_never_invited(tmp_path: Path) -> None:
    text = _Text(_page(write_run(tmp_path / "ward", [line(1)])))
    assert text.after("never invited", 1) == ["not known"]
    assert "rank correlation of answers with online share" not in text.pieces


def test_what_was_lost_and_why_is_told(tmp_path: Path) -> None:
    lines = [
        line(1, reason="deadline", declined={"dan": "on battery"}),
        line(2, late_updates=3, late_counted=[["dan", 1]]),
    ]
    text = _Text(_page(write_run(tmp_path / "ward", lines)))
    assert text.after("deadline", 1) == ["1"]
    assert text.after("on battery", 1) == ["1"]
    assert text.after("stale", 1) == ["2"]
    assert text.after("late: came, of which counted", 1) == ["3, 1"]


def test_who_was_shut_out_is_told_with_when_and_why(tmp_path: Path) -> None:
    noise, nan = "3 messages refused in 1 second, the last: <i>noise", "drops its samples"
    lines = [
        line(1, 60),
        line(2, 120, quarantined={"dan": noise}),
        line(3, 180, quarantined={"dan": noise, "eve": nan, "fay": noise}),
        line(4, 240, quarantined={"eve": nan, "fay": noise}),
    ]
    folder = write_run(tmp_path / "ward", lines)
    eve = {"term": {"began": 0.0, "until": None, "why": nan}, "by_hand": True}
    cat = {"strikes": [1.0, 2.0], "last": "not a finite number"}
    (folder / "quarantine").mkdir()
    (folder / "quarantine" / "standings.json").write_text(json.dumps({"eve": eve, "cat": cat}))
    page = _page(folder)
    text = _Text(page)
    assert "Who was shut out" in text.pieces and "<i>noise" not in page
    told = text.after("why", 12)
    assert told == [
        *("dan", "round 2 (1 min 10 s)", "out again by round 4 (3 min 10 s)", noise),
        *("eve", "round 3 (2 min 10 s)", "until it is lifted, by a person’s word", nan),
        *("fay", "round 3 (2 min 10 s)", "out again since the last round", noise),
    ]
    assert text.after("why, the last time", 3) == ["cat", "2", "not a finite number"]
    assert "shut out" not in _page(write_run(tmp_path / "plain", lines[:1]))
    # A history that was handed on without its folder.
    alone = _Text(_page(write_run(tmp_path / "alone", lines))).after("why", 12)
    assert alone[:4] == told[:4]
    assert alone[6] == alone[10] == "in it when the last round closed"


def test_of_very_many_who_were_shut_out_some_are_told(tmp_path: Path) -> None:
    crowd = {f"client-{number:04}": "a flood" for number in range(5000)}
    lines = [line(1, 60, quarantined=crowd), line(2, 120, quarantined=crowd)]
    page = _page(write_run(tmp_path / "ward", lines))
    assert "And 4,900 more." in page
    assert page.count("client-") == 100


def test_of_many_reasons_the_most_frequent_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    rejected = {f"client-{n}": "reason " + "x" * n for n in range(1, 31)}
    text = _Text(_page(write_run(tmp_path / "ward", [line(1, rejected=rejected)])))
    assert text.after("18 other reasons", 1) == ["18"]


def test_settings_that_differ_are_told_and_those_that_do_not_are_not(tmp_path: Path) -> None:
    folders = [
        simulated(tmp_path / f"r{n}", clients=10, rounds=3, cohort=4, seed=7, follows_data=share)
        for n, share in enumerate((0.0, 0.5))
    ]
    text = _Text(_page(*folders))
    assert text.after("fleet.toml: connectivity.follows_data", 2) == ["0.0", "0.5"]
    assert "fleet.toml: clients" not in text.pieces


def test_runs_with_the_same_split_share_its_picture(tmp_path: Path) -> None:
    alike = [simulated(tmp_path / n, clients=9, rounds=3, cohort=4, seed=7) for n in ("a", "b")]
    other = simulated(tmp_path / "c", clients=9, rounds=3, cohort=4, seed=8)
    once = "Who holds what: clients sorted by their mean class"
    assert _page(*alike).count(once) == 1
    assert _page(*alike, other).count(once) == 2


def test_no_password_is_passed_on(tmp_path: Path) -> None:
    page = _page(simulated(tmp_path / "a", clients=5, rounds=2, cohort=3, seed=1))
    assert page.count("mqtts://ann:***@broker.example:8883") == 2
    assert "--broker mqtt://ann:***@broker" in page
    assert "hunter2" not in page


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    folder = simulated(tmp_path / "a", clients=30, rounds=20, cohort=9, seed=1)
    assert _page(folder) == _page(folder)


def test_a_large_run_stays_a_small_file(tmp_path: Path) -> None:
    # Limits are on points, rows and dots; what is beyond them must not show in the size.
    small = simulated(tmp_path / "small", clients=1000, rounds=1000, cohort=20, seed=1)
    large = simulated(tmp_path / "large", clients=10_000, rounds=2000, cohort=20, seed=1)
    sizes = [len(_page(folder)) for folder in (small, large)]
    assert sizes[1] < 600_000
    assert sizes[1] < 1.2 * sizes[0]


def test_many_runs_and_metrics_share_the_room_of_a_few(tmp_path: Path) -> None:
    metrics = {f"metric {n}": 0.5 for n in range(40)}
    lines = [
        line(n, n, figures={"clients": 1, "samples": 1, "metrics": metrics}) for n in range(1, 400)
    ]
    folders = [write_run(tmp_path / f"{n}", lines) for n in range(8)]
    assert len(_page(*folders)) < 3_000_000


def test_the_page_s_script_knows_where_the_plot_is() -> None:
    script = resources.files("round_monitor").joinpath("run_page.js").read_text()
    edges = f"LEFT = {svg.LEFT}, RIGHT = {svg.RIGHT}, TOP = {svg.TOP}, BOTTOM = {svg.BOTTOM};"
    assert edges in script


def test_lines_stand_out_from_their_ground_in_light_dark_and_print() -> None:
    style = resources.files("round_monitor").joinpath("run_page.css").read_text()
    grounds = re.findall(r"--ground: (#\w{6})", style)
    palettes = re.findall("--c0: .*", style)
    assert len(grounds) == len(palettes) == 3
    for ground, palette in zip(grounds, palettes, strict=True):
        colours = re.findall(r"--c\d: (#\w{6})", palette)
        assert len(colours) == svg.COLOURS
        # WCAG 2.2, 1.4.11: graphics need 3:1.
        assert min(_contrast(colour, ground) for colour in colours) >= 3


def _contrast(first: str, second: str) -> float:
    """By WCAG's relative luminance."""
    lights = sorted((_luminance(first), _luminance(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("hostile", ["</title><script>", "<b>", "</style>"])
def test_a_hostile_title_is_text(tmp_path: Path, hostile: str) -> None:
    runs = read_runs([write_run(tmp_path, [line(1)])], lambda share: None)
    text = _Text(run_page.page(runs, hostile, hostile))
    assert text.opened["script"] == 1
    assert text.opened["style"] == 1
    assert "b" not in text.opened
    assert text.pieces.count(hostile) == 3
