"""The page in a real browser: it loads nothing, complains of nothing, runs nothing of a run's."""

from pathlib import Path

import pytest

from round_monitor import run_page, svg
from round_monitor.run_files import read_runs
from tests.round_monitor.chromium import Page
from tests.round_monitor.run_folders import line, simulated, write_run

HACKS = [
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "' onmouseover='window.hacked = 1' x='",
    "</title></style></pre></svg><script>window.hacked = 1</script>",
    "<svg/onload=window.hacked=1>",
    "javascript:window.hacked=1",
]


def _write(out: Path, *folders: Path, title: str = "A title") -> Path:
    text = run_page.page(read_runs(folders, lambda share: None), title, "fedmqtt report …")
    out.write_text(text, encoding="utf-8")
    return out


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    folders = [
        simulated(tmp_path / name, clients=40, rounds=30, cohort=12, seed=n, follows_data=n / 2)
        for n, name in enumerate(("steady", "diurnal"))
    ]
    return _write(tmp_path / "report.html", *folders)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_loads_nothing_but_itself_and_has_nothing_to_complain_of(
    browser: Page, two_runs: Path, width: int, dark: bool
) -> None:
    browser.look(width, dark=dark)
    browser.open(two_runs)
    assert browser.requested() == [two_runs.resolve().as_uri()]
    assert browser.complaints() == []
    # A page that is wider than the telephone would have to be pushed about to be read.
    assert browser.run("document.documentElement.scrollWidth") <= width
    light = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light is not dark


def test_nothing_that_came_from_a_run_is_run(browser: Page, tmp_path: Path) -> None:
    reasons = {hack: hack for hack in HACKS}
    figures = {"clients": 1, "samples": 1, "metrics": {hack: 0.5 for hack in HACKS}}
    lines = [
        line(
            n,
            reason=HACKS[n],
            invited=HACKS,
            answered=HACKS,
            dropped=HACKS,
            declined=reasons,
            rejected=reasons,
            figures=figures,
            train_metrics={hack: 0.5 for hack in HACKS},
        )
        for n in range(1, len(HACKS))
    ]
    people = [
        {"client": hack, "samples": 3, "label_counts": [1, 2], "online_share": 0.5}
        for hack in HACKS
    ]
    folders = []
    for n, hack in enumerate(HACKS):
        lab = {
            "title": hack,
            "clients": people,
            "trace": hack,
            "weather": {hack: hack},
            "repeat": hack,
        }
        toml = f"'''\n{hack}"
        folders.append(write_run(tmp_path / f"{n}", lines, lab, fleet=toml, federation=toml))
    browser.look(1280)
    browser.open(_write(tmp_path / "report.html", *folders, title=HACKS[0]))
    browser.run(
        "document.querySelectorAll('*').forEach(e => e.dispatchEvent(new Event('mouseover')))"
    )
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelectorAll('img, svg[onload], a, iframe').length") == 0
    # Had one become an element, the page's policy would have stopped and told it.
    assert browser.complaints() == []


@pytest.mark.parametrize("hack", [HACKS[0], HACKS[1], HACKS[4]])
def test_even_unescaped_it_would_not_run(browser: Page, two_runs: Path, hack: str) -> None:
    text = two_runs.read_text(encoding="utf-8")
    two_runs.write_text(text.replace("<h1>", f"{hack}<h1>"), encoding="utf-8")
    browser.look(1280)
    browser.open(two_runs)
    assert browser.run("typeof window.hacked") == "undefined"
    assert "Content Security Policy" in str(browser.complaints())


def test_a_run_is_switched_off_and_on_again(browser: Page, two_runs: Path) -> None:
    browser.look(1280)
    browser.open(two_runs)
    drawn = (
        "[...document.querySelectorAll('.run-{}')].filter(e => e.getClientRects().length).length"
    )
    before = [browser.run(drawn.format(run)) for run in (0, 1)]
    assert before[0] == before[1] > 10
    browser.run("document.querySelector('[data-shows=\"1\"]').click()")
    assert [browser.run(drawn.format(run)) for run in (0, 1)] == [before[0], 0]
    browser.run("document.querySelector('[data-shows=\"1\"]').click()")
    assert [browser.run(drawn.format(run)) for run in (0, 1)] == before


def test_pointing_at_a_line_reads_its_value(browser: Page, tmp_path: Path) -> None:
    # Rounds 0 to 66: one tenth of a unit in the picture is not a whole number of them.
    accuracies = [0.1 + 0.8 * n / 66 for n in range(67)]
    figures = [{"clients": 1, "samples": 1, "metrics": {"accuracy": one}} for one in accuracies]
    lines = [line(n, n, figures=one) for n, one in enumerate(figures, 1)]
    folders = [write_run(tmp_path / name, lines) for name in ("ann's", "<b>")]
    browser.look(1280)
    browser.open(_write(tmp_path / "report.html", *folders))
    box = browser.run(
        "(() => { const e = document.querySelector('svg[data-x]'); e.scrollIntoView();"
        " const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()"
    )
    left, top, width, height = box
    # Round 33 is in the middle.
    x = left + (svg.LEFT + svg.RIGHT) / 2 / svg.WIDTH * width
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=top + height / 2)
    rows = "[...document.querySelectorAll('#readout:not([hidden]) p')].map(p => p.textContent)"
    assert browser.run(rows) == ["ann's: 0.5 at 33", "<b>: 0.5 at 33", "rounds"]
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert browser.run(rows) == []
    assert browser.complaints() == []
