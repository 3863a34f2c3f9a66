"""`fedmqtt export prometheus`, as Prometheus' own parser and its `promtool` read it."""

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import structs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from broker_config.local_broker import RunningBroker
from fedmqtt.status_pages import CoordinatorPage, ModelPage
from round_monitor.export.prometheus import LABELS_MAX, Figures
from tests.brokers import is_required
from tests.programs import running, wait_until
from tests.round_monitor import pages, ward
from tests.round_monitor.export import real_run

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "examples" / "grafana" / "fedmqtt.json"
ALERTS = ROOT / "examples" / "prometheus" / "alerts.yml"

_NAME = re.compile(r"\bfedmqtt_[a-z_]+\b")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _exposition(board: Any) -> str:
    registry = CollectorRegistry()
    registry.register(Figures("ward-7", board, lambda: True))
    return generate_latest(registry).decode()


def _samples(text: str) -> Samples:
    """By name and labels, without the federation's."""
    return {
        (
            sample.name,
            tuple(sorted((k, v) for k, v in sample.labels.items() if k != "federation")),
        ): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _promtool(*words: str, text: str = "") -> None:
    program = shutil.which("promtool")
    if program is None:
        reason = "no promtool on this machine: apt-get install prometheus"
        if is_required("promtool"):
            pytest.fail(reason)
        pytest.skip(reason)
    ended = subprocess.run(
        [program, *words], input=text, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended


def _names() -> set[str]:
    """Of all metrics that there may be."""
    boards = (pages.board_of(ward.pages()), real_run.board(real_run.pages()), _quiet())
    return {name for board in boards for name, _ in _samples(_exposition(board))}


def _quiet() -> Any:
    page = structs.replace(pages.coordinator(), fleet=pages.QUIET)
    return pages.board_of({"coordinator": page})


def test_of_a_quiet_fleet_an_estimate_is_told_and_no_count_of_who_is_online() -> None:
    text = _exposition(_quiet())
    _promtool("check", "metrics", text=text)
    samples = _samples(text)
    assert samples["fedmqtt_fleet_estimated_clients", (("bound", "middle"),)] == 48_393
    assert samples["fedmqtt_fleet_estimated_clients", (("bound", "low"),)] == 44_376
    assert samples["fedmqtt_fleet_estimated_clients", (("bound", "high"),)] == 52_773
    assert samples["fedmqtt_fleet_declared_clients", ()] == 1_000_000
    assert not {name for name, _ in samples} & {"fedmqtt_clients_online", "fedmqtt_clients_known"}


def test_a_real_runs_figures_are_there_to_the_last_digit() -> None:
    samples = _samples(_exposition(real_run.board(real_run.pages())))
    model = real_run.pages()["model"]
    assert isinstance(model, ModelPage) and model.figures is not None
    for name, value in model.figures.metrics.items():
        assert samples["fedmqtt_model_metric", (("metric", name),)] == value
    assert samples["fedmqtt_health", (("state", "ok"),)] == 1
    assert samples["fedmqtt_health", (("state", "trouble"),)] == 0
    assert samples["fedmqtt_updates_total", (("codec", "full"),)] == 15
    assert samples["fedmqtt_clients_online", ()] == 4
    coordinator = real_run.pages()["coordinator"]
    assert isinstance(coordinator, CoordinatorPage)
    told = datetime.fromisoformat(coordinator.as_of)
    assert samples["fedmqtt_status_timestamp_seconds", ()] == told.timestamp()
    assert told.tzinfo is not None and told.year >= 2026
    assert ("fedmqtt_privacy_epsilon", ()) not in samples


def test_promtool_finds_nothing_to_complain_of() -> None:
    for board in (real_run.board(real_run.pages()), pages.board_of(ward.pages())):
        _promtool("check", "metrics", text=_exposition(board))


def test_without_pages_it_says_that_it_has_a_connection_and_nothing_else() -> None:
    samples = _samples(_exposition(real_run.board({})))
    assert samples.pop(("fedmqtt_broker_connected", ())) == 1
    assert {name for name, _ in samples} == {
        "fedmqtt_unreadable_pages_total",
        "fedmqtt_page_unreadable",
    }
    assert not any(samples.values())


def test_a_page_that_cannot_be_read_is_counted_and_its_old_figures_are_not_told() -> None:
    board = pages.board_of(ward.pages())
    assert ("fedmqtt_health", (("state", "ok"),)) in _samples(_exposition(board))
    board.take("coordinator", b'{"health": "critical"}')
    samples = _samples(_exposition(board))
    assert samples["fedmqtt_unreadable_pages_total", ()] == 1
    assert samples["fedmqtt_page_unreadable", (("page", "coordinator"),)] == 1
    assert samples["fedmqtt_page_unreadable", (("page", "round"),)] == 0
    names = {name for name, _ in samples}
    assert "fedmqtt_round_open" in names
    assert not names & {"fedmqtt_health", "fedmqtt_status_timestamp_seconds", "fedmqtt_round"}


def test_no_name_that_others_chose_makes_ever_more_series() -> None:
    model = pages.model()
    assert model.figures is not None
    metrics = {f'm"\n{number}': 1.0 for number in range(10 * LABELS_MAX)}
    board = pages.board_of(
        {"model": structs.replace(model, figures=structs.replace(model.figures, metrics=metrics))}
    )
    names = [name for name, _ in _samples(_exposition(board))]
    assert names.count("fedmqtt_model_metric") == LABELS_MAX


def test_a_fleet_of_any_size_has_as_many_series() -> None:
    small, large = real_run.board(real_run.pages()), pages.board_of(ward.pages())
    text = _exposition(large)
    assert all(client not in text for client in ward.CLIENTS)
    of_codecs_and_metrics = re.compile("codec|metric|privacy|timestamp")

    def others(text: str) -> set[Any]:
        return {key for key in _samples(text) if not of_codecs_and_metrics.search(str(key))}

    assert others(_exposition(small)) == others(text)


@pytest.mark.broker
def test_it_is_scraped_while_pages_come(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    pages.publish(broker.url, federation_name, real_run.pages())
    words = ("--broker", broker.url, "--federation", federation_name, "--port", "0")
    with running(tmp_path, "fedmqtt", "export", "prometheus", *words) as program:
        wait_until(lambda: program.said.endswith("/metrics\n"))

        def scraped(name: str) -> float | None:
            with urllib.request.urlopen(program.said.strip()) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
                return _samples(answer.read().decode()).get((name, ()))

        wait_until(lambda: scraped("fedmqtt_clients_known") == 5)
        pages.publish(broker.url, federation_name, {"coordinator": pages.coordinator(known=9)})
        wait_until(lambda: scraped("fedmqtt_clients_known") == 9)
        assert scraped("fedmqtt_broker_connected") == 1
    assert program.wait() == 0, program.log


def _expressions() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def test_dashboard_and_alerts_ask_for_what_there_is() -> None:
    there = _names()
    asked = {name for expression in _expressions() for name in _NAME.findall(expression)}
    assert len(asked) > 10
    assert asked <= there


def test_the_page_about_it_names_each_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "exporting.md").read_text()
    there = _names()
    assert set(_NAME.findall(text)) == there


def test_every_query_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    _promtool("check", "rules", str(ALERTS))
    plain = [one.replace("$federation", "ward-7") for one in _expressions()]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(plain)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool("check", "rules", "--lint=none", str(path))


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
