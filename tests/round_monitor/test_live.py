"""Lines at a real broker: what is published is told, and a broker that goes is awaited."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from round_monitor.live import LiveLines
from tests.patience import WITHIN_S
from tests.round_monitor.pages import (
    PAUSE_TOLD,
    PAUSED,
    REFUSAL_TOLD,
    REFUSED,
    mid_round,
    names,
    open_round,
    ordered,
    publish,
    run_until,
)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.mark.broker
def test_each_event_is_one_line_for_a_log(
    broker: RunningBroker,
    federation_name: str,
    loop: EventLoop,
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = LiveLines(loop, parse_broker_url(broker.url), federation_name)
    publish(broker.url, federation_name, {**mid_round(), "orders": ordered(PAUSED)})
    view.start()
    run_until(loop, lambda: view.board.is_complete)
    orders = ordered(PAUSED, REFUSED)
    publish(broker.url, federation_name, {"orders": orders})
    run_until(loop, lambda: view.board.orders == orders)
    publish(broker.url, federation_name, {"round": open_round(4, answered=names("gus"))})
    run_until(loop, lambda: view.board.round is not None and view.board.round.round == 4)
    # What has not been shown yet is shown now.
    view.stop()
    view.stop()
    lines = capsys.readouterr().out.splitlines()
    told = [line[len("10:00:00  ") :] for line in lines]
    for event in (
        "7 clients online",
        "round 3 opened: 5 invited, 4 wanted",
        "ann, bob answered",
        "cat rejected: update norm 41.2 above the limit 10",
        "round 4 opened: 5 invited, 4 wanted",
        "gus answered",
        PAUSE_TOLD,
        REFUSAL_TOLD,
    ):
        assert told.count(event) == 1


@pytest.mark.broker
def test_a_broker_that_goes_is_told_and_awaited(
    federation_name: str, loop: EventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    port = _free_port()
    url = f"mqtt://127.0.0.1:{port}"
    view = LiveLines(loop, parse_broker_url(url), federation_name)
    said: list[str] = []

    def has_been_said(words: str) -> bool:
        said.append(capsys.readouterr().out)
        return words in "".join(said)

    view.start()
    run_until(loop, lambda: has_been_said("no connection, trying again: cannot reach"))
    with _mosquitto(port):
        publish(url, federation_name, mid_round())
        run_until(loop, lambda: view.board.is_complete)
        # Told a moment later: a connection that is gone again by then is not told at all.
        run_until(loop, lambda: has_been_said("connected"))
    said.clear()
    run_until(loop, lambda: has_been_said("no connection, trying again"))
    with _mosquitto(port):
        # The pages that were there stay on the screen; the broker has forgotten them.
        run_until(loop, lambda: has_been_said("connected"))
    assert view.board.is_complete
    view.stop()


def test_a_wrong_name_is_refused_before_anything_is_shown(loop: EventLoop) -> None:
    with pytest.raises(ValueError, match="federation name"):
        LiveLines(loop, parse_broker_url("mqtt://localhost"), "ward/7")


@contextmanager
def _mosquitto(port: int) -> Iterator[None]:
    """One that can be ended and started again at the same address."""
    command = [str(find_mosquitto()), "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(WITHIN_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
