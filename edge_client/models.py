"""How a client comes by a model: by deltas of the one that it holds, else whole.

    wanted ──here?──▶ done
       │
       ├─ deltas lead there ──▶ fetched, one after the other ──▶ a trainer's process makes the model
       │                               │ lost, damaged               │ not what was offered
       └──────────── whole ◀───────────┴─────────────────────────────┘

The agent knows no tensors: the model is made by the process that trains, as files.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from msgspec import structs

from edge_client.delta_route import Route, route
from edge_client.model_fetch import DELTA, ModelFetch, too_large
from edge_client.trainer_pool import Report, Ticket
from edge_client.training_job import Failed, FromTrainer, Rebuild, Rebuilt
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import DeltaRef, ModelRef
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.topics import Digest, ModelChunk

TRIES = 3
"""Models in a row that deltas did not lead to, until a client asks for whole ones only: its
numbers are others than the coordinator's, and each try costs it the deltas' bytes."""

STALLED_S: Seconds = 60.0
"""Without a chunk for so long, those that are missing are asked for again, and then after twice as
long. Over a link of 20 kbit/s a chunk of the usual size is here by then."""

_Done = Callable[[str], None]


class Rebuilders(Protocol):
    """Where models are made: the pool of trainers."""

    def submit(self, job: Rebuild, report: Report) -> Ticket: ...

    def cancel(self, ticket: Ticket) -> None: ...


@dataclass(slots=True)
class _Way:
    """To one model, by deltas."""

    model: ModelRef
    route: Route
    done: _Done
    ticket: Ticket | None = None


class Models:
    """Keeps the newest model only. Raises OSError, as `ModelFetch`."""

    def __init__(
        self,
        loop: EventLoop,
        link: MqttLink,
        folder: Path,
        size_max: int,
        rebuilders: Rebuilders,
        log: logging.Logger,
    ) -> None:
        self._loop = loop
        self._rebuilders = rebuilders
        self._log = log
        self._size_max = size_max
        self._fetch = ModelFetch(link, folder, size_max)
        self._way: _Way | None = None
        self._failures = 0
        """In a row, of deltas that led to another model than the one that was offered."""
        self._whole_only: Digest | None = None
        """The model that no deltas lead to."""

        self._patience_s = STALLED_S
        self._timer: Timer | None = None
        """Of the next look at whether a download stands still."""

    @property
    def stuck(self) -> list[str]:
        """What an earlier life left half fetched and could not be removed, and why."""
        return self._fetch.stuck

    @property
    def fetched_bytes(self) -> int:
        """Of the model, or of the deltas that lead to it, where that is being fetched."""
        return self._fetch.fetched_bytes

    def path(self, digest: Digest) -> Path:
        return self._fetch.path(digest)

    def put(self, model: ModelRef, file: bytes) -> None:
        """A small model that came with its offer. One that is not what it should be is ignored."""
        self._fetch.put(model, file)

    def take(self, address: ModelChunk, data: bytes) -> None:
        """One chunk arrived."""
        self._fetch.take(address, data)

    def start(self, model: ModelRef, done: _Done) -> None:
        """Have a model here, or go on with that after the link came back or the round was another.

        `done` is called with "" or with what went wrong; never within this.
        """
        if self._way is not None and self._way.ticket is not None and self._way.model == model:
            # It is being made, for which no link is needed.
            self._way.done = done
            return
        self._leave_way()
        self._patience_s = STALLED_S
        self._look_later()
        found = self._route(model)
        if found is None:
            self._fetch_whole(model, done)
            return
        self._way = _Way(model, found, done)
        self._fetch_next(self._way, found.deltas)

    def stop(self) -> None:
        """Ask for no more. What is here stays, in case the next round offers the same model."""
        self._leave_way()
        self._look_no_more()
        self._fetch.stop()

    def close(self) -> None:
        """The agent ends."""
        self._leave_way()
        self._look_no_more()
        self._fetch.close()

    # A download that stands still

    def _look_later(self) -> None:
        self._look_no_more()
        self._timer = self._loop.call_in(self._patience_s, partial(self._look, self.fetched_bytes))

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int) -> None:
        if self._fetch.is_fetching and self.fetched_bytes == before:
            # Over a link so slow that it was on its way, it comes twice: so ever more rarely.
            self._patience_s *= 2
            self._log.info("no chunk of the model for long: asking for them again")
            self._fetch.ask_again()
        if self._fetch.is_fetching or self._way is not None:
            self._look_later()

    def _route(self, model: ModelRef) -> Route | None:
        if self._failures >= TRIES or model.digest == self._whole_only:
            return None
        if too_large(model, self._size_max):
            return None
        # The fetch says what is wrong with the disk.
        with suppress(OSError):
            return None if self._fetch.has(model.digest) else route(model, self._fetch.held())
        return None

    def _fetch_whole(self, model: ModelRef, done: _Done) -> None:
        # Posted: a model that is here already must not be told of within this.
        whole = structs.replace(model, deltas=())
        self._fetch.start(whole, lambda fault: self._loop.post(lambda: done(fault)))

    def _fetch_next(self, way: _Way, left: Sequence[DeltaRef]) -> None:
        if way is not self._way:
            return
        if not left:
            self._rebuild(way)
            return
        file = way.model.file_of(left[0])

        def fetched(fault: str) -> None:
            if fault:
                self._give_way_up(way, fault)
            else:
                self._fetch_next(way, left[1:])

        # Posted, as it may be here already.
        self._fetch.start(file, lambda fault: self._loop.post(lambda: fetched(fault)), DELTA)

    def _rebuild(self, way: _Way) -> None:
        order = Rebuild(
            base_path=str(self._fetch.path(way.route.base)),
            delta_paths=[str(self._fetch.path(one.digest, DELTA)) for one in way.route.deltas],
            model_path=str(self._fetch.path(way.model.digest)),
            digest=way.model.digest,
        )
        way.ticket = self._rebuilders.submit(order, lambda said: self._heard(way, said))

    def _heard(self, way: _Way, said: FromTrainer) -> None:
        if not isinstance(said, Rebuilt):
            self._failures += 1
            why = said.reason if isinstance(said, Failed) else f"a {type(said).__name__}"
            self._give_way_up(way, why)
            return
        self._failures = 0
        self._way = None
        deltas = way.route.deltas
        took_bytes = sum(delta.size_bytes for delta in deltas)
        whole_bytes = way.model.size_bytes
        told = "model by deltas (%d): %d bytes, whole %d"
        self._log.info(told, len(deltas), took_bytes, whole_bytes)
        # What cannot be removed is in nobody's way.
        with suppress(OSError):
            self._fetch.adopt(way.model.digest)
        # At once: a trainer that has made the model is still there to train it.
        way.done("")

    def _give_way_up(self, way: _Way, why: str) -> None:
        if way is self._way:
            self._log.warning("no model of these deltas, so it is fetched whole: %s", why)
            self._way = None
            self._whole_only = way.model.digest
            self._fetch_whole(way.model, way.done)

    def _leave_way(self) -> None:
        way, self._way = self._way, None
        if way is not None and way.ticket is not None:
            self._rebuilders.cancel(way.ticket)
