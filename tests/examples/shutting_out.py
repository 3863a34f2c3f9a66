"""A way to a broker that closes on MQTT 5 without a word, as some brokers of 3.1.1 do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_HEAD_BYTES = 4096
_MQTT_5 = b"\0\4MQTT\5"


@contextmanager
def closing_on_mqtt_5(host: str, port: int) -> Iterator[int]:
    """Listens at the port that it yields, on this machine."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(lambda *ends: _carry(host, port, *ends), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


async def _carry(
    host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    first = await reader.read(_HEAD_BYTES)
    if _MQTT_5 in first:
        writer.close()
        return
    from_broker, to_broker = await asyncio.open_connection(host, port)
    to_broker.write(first)
    await asyncio.gather(_copy(reader, to_broker), _copy(from_broker, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_HEAD_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
