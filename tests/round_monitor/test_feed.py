"""Pages from a broker onto a board: what counts as a sign of life."""

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from round_monitor.feed import Feed
from tests.round_monitor.pages import open_round, publish, publish_bytes, run_until

pytestmark = pytest.mark.broker


def test_bytes_that_nobody_can_read_are_no_sign_of_life(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url, loop = mosquitto_broker.url, EventLoop()
    feed = Feed(loop, parse_broker_url(url), federation_name, on_change=lambda: None)
    feed.open()
    try:
        run_until(loop, lambda: feed.is_connected)
        publish_bytes(url, federation_name, {"round": b"{"})
        run_until(loop, lambda: "round" in feed.board.unreadable)
        assert feed.board.heard_at == ""
        publish(url, federation_name, {"round": open_round()})
        run_until(loop, lambda: feed.board.round is not None)
        assert feed.board.heard_at != ""
    finally:
        feed.close()
        loop.close()
