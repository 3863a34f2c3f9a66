"""The embedded broker: amqtt, for the first minute and for small fleets, with nothing to install.

    python -m broker_config.embedded --port 1883

It speaks MQTT 3.1.1 and forgets everything when it ends. It has a process of its own: a message of
1 kB costs it ten times the CPU of Mosquitto, and in a process that also trains, Python's one lock
would make both wait.

amqtt 0.12 does eight things that a federation cannot live with. `_Broker` and `_ConnectPayload`
correct them and say at each method which. They override private methods, so the version is pinned,
and the contract tests run the same promises against it and against Mosquitto.
"""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import ListenerConfig
from amqtt.errors import BrokerError as AmqttError
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from broker_config.child import BrokerError, PortTaken

# A day: as long as a device stays away over night. Queues of absent clients live in memory.
_SESSIONS_KEPT_FOR_S = 24 * 3600
# amqtt counts one keepalive, and a client pings when one has passed. MQTT waits one and a half.
_GRACE_AFTER_KEEPALIVE_S = 5
_TAKEOVER_WITHIN_S = 10.0
_MQTT_3_1_1 = 4


def main() -> int:
    """Run as a program; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m broker_config.embedded", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent")
    arguments = parser.parse_args()
    if arguments.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    return run(arguments.host, arguments.port, _say_ready)


def run(host: str, port: int, ready: Callable[[int], None]) -> int:
    """Run until Ctrl-C; the exit status. `ready` is told the port once clients can connect."""
    # What amqtt and its tasks report is about one connection, and mostly that it ended.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    # A service manager's TERM ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        asyncio.run(serve(host, port, ready))
    except KeyboardInterrupt:
        pass
    except BrokerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def serve(host: str, port: int, ready: Callable[[int], None]) -> None:
    """Run until cancelled. Raises PortTaken or BrokerError if it cannot listen there."""
    broker = _Broker(host, port)
    try:
        await broker.start()
    except AmqttError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            raise PortTaken(f"Port {port} on {host} is already in use.") from error
        raise BrokerError(f"The embedded broker cannot listen on {host}:{port}: {error}") from error
    ready(broker.port())
    await asyncio.Event().wait()


class AdmitEveryone(BaseAuthPlugin):  # type: ignore[misc]  # amqtt ships no types.
    """Lets every client in, and lets it keep its session.

    amqtt's own plugin for this marks sessions as anonymous, and the broker then drops them, with
    their queues, a second after the client has gone.
    """

    async def authenticate(self, *, session: Session) -> bool:
        return True


class _ConnectPayload(ConnectPayload):  # type: ignore[misc]  # amqtt ships no types.
    """What follows in a CONNECT. Refuses MQTT 5 by its header, before it reads on.

    amqtt reads on as if it were 3.1.1, takes the properties for a length, and waits for bytes that
    never come: the client would hear nothing instead of "use another version".
    """

    @classmethod
    async def from_stream(
        cls, reader: Any, header: Any, variable_header: ConnectVariableHeader
    ) -> ConnectPayload:
        if variable_header.proto_level != _MQTT_3_1_1:
            return cls("not read", will_topic="", will_message=b"")
        return await super().from_stream(reader, header, variable_header)


# The only way in: amqtt's broker makes this class by name.
ConnectPacket.PAYLOAD = _ConnectPayload


class _Broker(Broker):  # type: ignore[misc]  # amqtt ships no types.
    """amqtt, corrected where a federation would notice."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
                # Only this one: amqtt's default plugins log each packet and publish $SYS topics.
                "plugins": {f"{AdmitEveryone.__module__}.{AdmitEveryone.__name__}": {}},
                "session_expiry_interval": _SESSIONS_KEPT_FOR_S,
                "timeout_disconnect_delay": _GRACE_AFTER_KEEPALIVE_S,
            }
        )

    def port(self) -> int:
        """The port it listens on, which is not the one asked for if that was 0."""
        port: int = self._servers["default"].instance.sockets[0].getsockname()[1]
        return port

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Nothing. amqtt calls this at each connect, for the filters of ALL clients.

        Every newcomer would get every retained message that anyone subscribed to, and one that
        connects while another subscribes would never be served ("dictionary changed size").
        """

    async def _handle_subscription(
        self, client_session: Session, handler: BrokerProtocolHandler, subscribe_waiter: Any
    ) -> None:
        """Subscribes, and sends what is retained there: the one moment when MQTT asks for it."""
        await super()._handle_subscription(client_session, handler, subscribe_waiter)
        for subscription in subscribe_waiter.result().topics:
            await super()._publish_retained_messages_for_subscription(subscription, client_session)

    async def _publish_session_retained_messages(self, session: Session) -> None:
        """Sends what was queued for an absent client. amqtt marks it as retained; it is not."""
        handler = self._get_handler(session)
        queue = session.retained_messages
        queued = [queue.get_nowait() for _ in range(queue.qsize())]
        await asyncio.gather(
            *(handler.mqtt_publish(m.topic, m.data, m.qos, retain=False) for m in queued),
            return_exceptions=True,  # The client may leave again meanwhile.
        )

    async def _initialize_client_session(
        self, *connection: Any
    ) -> tuple[BrokerProtocolHandler, Session]:
        """Reads CONNECT, and sees to it that a client that falls silent is let go.

        amqtt ignores its own read timeout: a device whose network vanished would be online, and
        its will unsent, until TCP gives up.
        """
        handler, session = await super()._initialize_client_session(*connection)
        handler.handle_read_timeout = lambda: _hang_up(handler)
        return handler, session

    async def _client_message_loop(
        self, client_session: Session, handler: BrokerProtocolHandler
    ) -> None:
        """Serves a client until it has gone, and all that it said before has been dealt with.

        amqtt acknowledges a message as soon as it has come, and lets it fall if the client goes
        before its turn: a coordinator's last words, say.
        """
        wait_disconnect, waiting = handler.wait_disconnect, client_session.delivered_message_queue

        async def wait_until_done() -> Any:
            left = await wait_disconnect()
            while not waiting.empty():
                await asyncio.sleep(0)
            return left

        handler.wait_disconnect = wait_until_done
        await super()._client_message_loop(client_session, handler)

    async def _delete_session(self, client_id: str) -> None:
        """Begins a clean session; first the older connection of this client is ended.

        amqtt leaves it open: its will would later declare offline a client that is there.
        """
        await self._end_older_connection(client_id)
        await super()._delete_session(client_id)

    async def _authenticate(self, session: Session, listener: ListenerConfig) -> bool:
        """Resumes a session; first the older connection of this client is ended.

        amqtt ends it too, but too late: its end marks the session, which by then is the new
        connection's, as disconnected, and nothing is delivered any more.
        """
        assert session.client_id is not None
        admitted: bool = await super()._authenticate(session, listener)
        # Last: from here on amqtt does not await until the connection is known, so that of two
        # that come in the same instant the second finds the first.
        await self._end_older_connection(session.client_id)
        return admitted

    async def _end_older_connection(self, client_id: str) -> None:
        """Returns when there is none: another may have come while one was ended."""
        async with asyncio.timeout(_TAKEOVER_WITHIN_S):
            while (older := self._sessions.get(client_id)) and _is_connected(older[0]):
                _hang_up(older[1])
                await asyncio.sleep(0.01)


def _is_connected(session: Session) -> bool:
    connected: bool = session.transitions.is_connected()
    return connected


def _hang_up(handler: BrokerProtocolHandler) -> None:
    if handler.reader is not None:
        # As if the client had closed: amqtt then sends the will and keeps or drops the session.
        handler.reader.feed_eof()


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    # At once, whatever the event loop is busy with: there is nothing to save.
    os._exit(0)


def _say_ready(port: int) -> None:
    sys.stdout.write(f"embedded broker ready on port {port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
