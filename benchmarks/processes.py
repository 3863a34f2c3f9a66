"""What running processes use, read from /proc; Linux only, as the figures are."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmqtt import credentials
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import WireError, read_presence
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkEvent,
    LinkOptions,
    MqttLink,
    parse_broker_url,
)
from fedmqtt.topics import PresenceOf, Topics

_STARTS_WITHIN_S = 30.0


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all threads that it has now, to the nanosecond."""
    return sum(map(_thread_cpu_ns, Path(f"/proc/{pid}/task").iterdir())) / 1e9


def _thread_cpu_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        # It ended since it was listed.
        return 0


def cpu_s_with_ended_threads(pid: int) -> float:
    """The same with those of its threads that have ended, in ticks of mostly 10 ms."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory now, in MB of 10^6 bytes."""
    return _status_mb(pid, "VmRSS")


def peak_rss_mb(pid: int) -> float:
    return _status_mb(pid, "VmHWM")


def reset_peak_rss() -> None:
    """Forget this process's peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def _status_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"no {name} for process {pid}")


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


@contextmanager
def idle_agent(broker_url: str, state: Path) -> Iterator[tuple[int, float]]:
    """A real client, connected and waiting for a round: its process id, and how long it took."""
    federation = f"idle-{os.getpid()}"
    words = ["--broker", broker_url, "--federation", federation, "--id", "idle-1"]
    with _idle(parse_broker_url(broker_url), federation, words, state) as agent:
        yield agent


@contextmanager
def idle_agent_of(device: Path, monitor: Path, state: Path) -> Iterator[tuple[int, float]]:
    """As `idle_agent`, with the credentials of a device, and of a monitor who watches for it."""
    account, broker = credentials.broker_of(monitor, ("monitor",))
    with _idle(broker, account.federation, ["--credentials", str(device)], state) as agent:
        yield agent


@contextmanager
def _idle(
    broker: BrokerUrl, federation: str, who: list[str], state: Path
) -> Iterator[tuple[int, float]]:
    loop = EventLoop()
    online: list[float] = []

    def handle(event: LinkEvent) -> None:
        match event:
            case Arrived(PresenceOf(), payload) if _is_online(payload):
                online.append(time.monotonic())
                loop.stop()
            case _:
                return

    topics = Topics(federation)
    options = LinkOptions(client_id=f"{federation}-watcher", subscribe=(topics.any_presence,))
    link = MqttLink(loop, broker, topics, options, handle)
    link.open()
    while not link.is_up:
        loop.run_once(wait_max_s=1.0)
    words = ["client", *who, "--task", "learning_tasks.linear", "--state", str(state)]
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "fedmqtt", *words]) as process:
        loop.call_in(_STARTS_WITHIN_S, loop.stop)
        loop.run()
        link.close()
        loop.close()
        try:
            if not online:
                raise TimeoutError("the client did not connect")
            yield process.pid, online[0] - began
        finally:
            process.terminate()


def _is_online(payload: bytes) -> bool:
    try:
        return read_presence(payload).online
    except WireError:
        return False
