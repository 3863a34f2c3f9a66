"""Prometheus: serves the newest figures at http://127.0.0.1:9464/metrics, for as long as it runs.

Names follow Prometheus' own rules: base units, `_total` for what only grows. No label is a client's
name, so that a fleet of thousands costs no more series than one of ten.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, get_args

from fedmqtt import flag_values
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.status_pages import (
    PAGES,
    ClientsPage,
    CodecCount,
    CoordinatorPage,
    Doing,
    Health,
    HistoryPage,
    ModelPage,
    PacePage,
    QuietFleet,
    RoundPage,
    TrafficPage,
)
from round_monitor import listening
from round_monitor.board import Board
from round_monitor.exporting import WATCHERS, Following

if TYPE_CHECKING:
    from prometheus_client.core import Metric

ROLES = WATCHERS
EXTRA = "prometheus"

PORT = 9464
"""By convention of who exports to Prometheus without a port of its own (OpenTelemetry)."""

LABELS_MAX = 50
"""Different values of a label: names of metrics and codecs are chosen by tasks and operators."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=flag_values.port, default=PORT, help="where it listens (%(default)s)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address at which it listens; whoever reaches it can read the figures (%(default)s)",
    )


def run(federation: str, broker: BrokerUrl, arguments: argparse.Namespace) -> None:
    """Raises Denied, and ValueError where it cannot listen."""
    # Here: the command explains itself without the extra.
    from prometheus_client import CollectorRegistry, start_http_server

    following = Following(federation, broker, lambda _name: None)
    registry = CollectorRegistry()
    registry.register(Figures(federation, following.board, lambda: following.is_connected))
    try:
        # In threads of its own: pages are frozen, so a scrape reads each as it was published.
        server, _ = start_http_server(arguments.port, arguments.host, registry)
    except OSError as bad:
        raise ValueError(listening.refusal(arguments.host, arguments.port, bad)) from bad
    _print_url(arguments.host, server.server_port)
    try:
        following.run()
    finally:
        server.shutdown()
        server.server_close()


class Figures:
    """prometheus_client's collector: the board's figures at the moment when they are asked for."""

    def __init__(self, federation: str, board: Board, is_connected: Callable[[], bool]) -> None:
        self._federation = federation
        self._board = board
        self._is_connected = is_connected

    def describe(self) -> Iterable["Metric"]:
        return []

    def collect(self) -> Iterator["Metric"]:
        board = self._board
        yield self._gauge(
            "broker_connected",
            "Whether the exporter has a connection: without, all else is what it was",
            float(self._is_connected()),
        )
        yield self._counter(
            "unreadable_pages", "Status pages that came and cannot be read", board.unreadable_count
        )
        lying = {page: float(page in board.unreadable) for page in PAGES}
        yield self._labelled("page_unreadable", "Whether its newest cannot be read", "page", lying)
        parts: dict[str, Callable[..., Iterator[Metric]]] = {
            "coordinator": self._of_coordinator,
            "round": self._of_round,
            "pace": self._of_pace,
            "model": self._of_model,
            "history": self._of_history,
            "clients": self._of_clients,
            "traffic": self._of_traffic,
        }
        for name, figures in parts.items():
            page = board.newest(name)
            # What it said before is not so any more.
            if page is not None and name not in board.unreadable:
                yield from figures(page)

    def _of_coordinator(self, page: CoordinatorPage) -> Iterator["Metric"]:
        yield self._states("health", "Whether all is well", get_args(Health), page.health)
        yield self._states("coordinator_state", "What it does", get_args(Doing), page.state)
        if (at := _seconds(page.as_of)) is not None:
            yield self._gauge(
                "status_timestamp_seconds",
                "When the coordinator said so last; it does each minute",
                at,
            )
        yield self._gauge("round", "The open or the next round", page.round)
        yield self._gauge("rounds_wanted", "0: until stopped", page.rounds_wanted)
        if page.fleet is None:
            yield self._gauge("clients_online", "Connected now", page.clients_online)
            yield self._gauge("clients_known", "Heard of, online or not", page.clients_known)
        else:
            yield from self._of_fleet(page.fleet)
        yield self._counter("late_updates", "Answers to closed rounds", page.late_updates)
        yield self._counter(
            "unreadable_messages", "No messages, or not signed", page.unreadable_messages
        )

    def _of_fleet(self, fleet: QuietFleet) -> Iterator["Metric"]:
        """Where clients say nothing until they are drawn: what is inferred, and no count."""
        yield self._labelled(
            "fleet_estimated_clients",
            "That would answer if all were asked: inferred, with 5% and 95% bounds",
            "bound",
            {"middle": fleet.estimate, "low": fleet.low, "high": fleet.high},
        )
        yield self._gauge("fleet_declared_clients", "At most, as set", fleet.declared)

    def _of_round(self, page: RoundPage) -> Iterator["Metric"]:
        yield self._gauge("round_open", "Whether answers are awaited", page.open)
        yield self._gauge("round_progress_ratio", "Answers as a share of wanted", page.progress)
        yield self._gauge("round_wanted_answers", "That complete the round", page.wanted)
        counts = {
            "invited": len(page.invited),
            "answered": len(page.answered),
            "dropped": page.dropped,
            "declined": len(page.declined),
            "rejected": len(page.rejected),
        }
        yield self._labelled("round_clients", "Of the open round", "fate", counts)

    def _of_pace(self, page: PacePage) -> Iterator["Metric"]:
        yield self._gauge("round_deadline_seconds", "A round's longest duration", page.deadline_s)

    def _of_model(self, page: ModelPage) -> Iterator["Metric"]:
        yield self._gauge("model_size_bytes", "Of the model's file", page.size_bytes)
        yield self._gauge("model_parameters", "How many numbers it has", page.parameters)
        yield self._gauge("model_trained_rounds", "Rounds in the model", page.trained_rounds)
        if page.figures is not None:
            metrics = page.figures.metrics
            yield self._labelled(
                "model_metric", "Of the newest model that was evaluated", "metric", metrics
            )
            yield self._gauge("model_metric_round", "In which it was", page.figures_round or 0)
        if (privacy := page.privacy) is not None:
            yield self._gauge("privacy_epsilon", "Spent so far", privacy.epsilon)
            yield self._gauge("privacy_epsilon_max", "That may be spent", privacy.epsilon_max)
            yield self._gauge("privacy_delta", "Which goes with epsilon", privacy.delta)

    def _of_history(self, page: HistoryPage) -> Iterator["Metric"]:
        if not page.rounds:
            return
        line = page.rounds[-1]
        yield self._gauge("closed_round", "The newest of them", line.round)
        yield self._gauge("closed_round_duration_seconds", "From opening to end", line.duration_s)
        counts = {
            "invited": line.invited,
            "answered": line.answered,
            "dropped": line.dropped,
            "declined": line.declined,
            "rejected": line.rejected,
        }
        yield self._labelled("closed_round_clients", "Of the closed round", "fate", counts)
        yield self._labelled(
            "train_metric", "As clients trained, in the closed round", "metric", line.train_metrics
        )

    def _of_clients(self, page: ClientsPage) -> Iterator["Metric"]:
        yield self._gauge("clients_hindered", "Cannot or will not take part", len(page.hindered))
        yield self._gauge("clients_quarantined", "Left out", len(page.quarantined))

    def _of_traffic(self, page: TrafficPage) -> Iterator["Metric"]:
        yield self._counter("received_bytes", "By the coordinator", page.bytes_received)
        yield self._counter("published_bytes", "Once for all clients", page.bytes_published)
        codecs: dict[str, CodecCount] = page.updates_by_codec
        updates = {name: count.updates for name, count in codecs.items()}
        sizes = {name: count.bytes for name, count in codecs.items()}
        yield self._labelled("updates", "That counted", "codec", updates, total=True)
        yield self._labelled("update_bytes", "Of their numbers", "codec", sizes, total=True)

    def _gauge(self, name: str, help_text: str, value: float) -> "Metric":
        return self._family(name, help_text, [], {(): value})

    def _counter(self, name: str, help_text: str, value: float) -> "Metric":
        return self._family(name, help_text, [], {(): value}, total=True)

    def _states(self, name: str, help_text: str, states: Iterable[str], current: str) -> "Metric":
        values = {state: float(state == current) for state in states}
        return self._labelled(name, help_text, "state", values)

    def _labelled(
        self,
        name: str,
        help_text: str,
        label: str,
        values: "dict[str, float] | dict[str, int]",
        *,
        total: bool = False,
    ) -> "Metric":
        some: dict[tuple[str, ...], float] = {
            (key,): values[key] for key in sorted(values)[:LABELS_MAX]
        }
        return self._family(name, help_text, [label], some, total=total)

    def _family(
        self,
        name: str,
        help_text: str,
        labels: list[str],
        values: "dict[tuple[str, ...], float]",
        *,
        total: bool = False,
    ) -> "Metric":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        kind = CounterMetricFamily if total else GaugeMetricFamily
        family = kind(f"fedmqtt_{name}", help_text, labels=["federation", *labels])
        for values_of_labels, value in values.items():
            family.add_metric([self._federation, *values_of_labels], value)
        return family


def _print_url(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"http://{shown}:{port}/metrics\n")
    sys.stdout.flush()


def _seconds(moment: str) -> float | None:
    """Since 1970; None where it is no time."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return None
