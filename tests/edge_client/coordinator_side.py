"""The coordinator's side of a round, played by the test over a real broker."""

import hashlib
from collections.abc import Sequence
from typing import Any

from fedmqtt import chunks, weights
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import (
    Announce,
    Chunk,
    FromClient,
    Go,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    Training,
    read_from_client,
    read_presence,
)
from fedmqtt.mqtt_link import Arrived
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
)
from tests.fedmqtt.peer import Peer

MODEL_CHUNK = 4096
RUN = RunId("r")


class Coordinator(Peer):
    def __init__(self, loop: EventLoop, url: str, federation: str) -> None:
        topics = Topics(federation)
        subscribe = (topics.any_update, topics.any_presence)
        super().__init__(loop, url, federation, "coordinator", subscribe=subscribe)
        self.connect()

    def publish_model(self, model: bytes, chunk_bytes: int = MODEL_CHUNK) -> ModelRef:
        ref = self.ref(model, chunk_bytes)
        for index in range(chunks.count(len(model), chunk_bytes)):
            start, stop = chunks.span(index, len(model), chunk_bytes)
            self.link.publish(ModelChunk(ref.digest, index), model[start:stop])
        return ref

    def ref(self, model: bytes, chunk_bytes: int = MODEL_CHUNK) -> ModelRef:
        digest = Digest(hashlib.sha256(model).hexdigest())
        layout, _ = weights.read(model)
        return ModelRef(
            digest=digest,
            size_bytes=len(model),
            chunk_bytes=chunk_bytes,
            fingerprint=layout.fingerprint,
        )

    def offer(self, round_id: int, model: ModelRef, task: str, **changes: Any) -> None:
        said = self.offer_of(round_id, model, task, **changes)
        self.link.perform(Publish(OfferBoard(), said))

    def offer_of(self, round_id: int, model: ModelRef, task: str, **changes: Any) -> Offer:
        settings: dict[str, Any] = {
            "run": RUN,
            "round": RoundId(round_id),
            "task": task,
            "model": model,
            "train": (ClientId("ann"),),
            "evaluate": (),
            "closes_in_s": 600.0,
            "training": Training(),
            "codec": "full",
            "lanes": 1,
            "seed": 1,
        }
        return Offer(**settings | changes)

    def receipt(
        self,
        client: str,
        round_id: int,
        *,
        run: RunId = RUN,
        accepted: bool = True,
        next_round_in_s: float = 0.0,
    ) -> None:
        receipt = Receipt(
            run=run,
            round=RoundId(round_id),
            accepted=accepted,
            next_round_in_s=next_round_in_s,
        )
        self.link.perform(Publish(Inbox(ClientId(client)), receipt))

    def answer(self, client: str, part: str = "0") -> FromClient:
        """The next message in this part of this client's answers."""
        return read_from_client(self.next(Arrived, lambda a: _is_part(a, client, part)).payload)

    def announced(self, client: str) -> Announce:
        announce = self.answer(client, ANNOUNCE)
        assert isinstance(announce, Announce)
        return announce

    def collect(self, client: str, announce: Announce) -> FromClient:
        """Say go, and put the answer together."""
        count = chunks.count(announce.size_bytes, announce.chunk_bytes)
        go = Go(
            run=announce.run,
            round=announce.round,
            digest=announce.digest,
            ranges=((0, count),),
        )
        self.link.perform(Publish(Inbox(ClientId(client)), go))
        whole = bytearray()
        for index in range(count):
            chunk = self.answer(client, str(index))
            assert isinstance(chunk, Chunk)
            assert chunk.digest == announce.digest
            whole += chunk.data
        assert hashlib.sha256(whole).hexdigest() == announce.digest
        return read_from_client(bytes(whole))

    def presence(
        self,
        client: str,
        *,
        online: bool,
        purposes: Sequence[str] | None = None,
        note: str | None = None,
    ) -> Presence:
        """The next word about this client that is so; its note holds these words."""

        def fits(arrived: Arrived) -> bool:
            if arrived.address != PresenceOf(ClientId(client)):
                return False
            said = read_presence(arrived.payload)
            return (
                said.online is online
                and (purposes is None or said.purposes == tuple(purposes))
                and (note is None or note in said.note)
            )

        return read_presence(self.next(Arrived, fits).payload)


def _is_part(arrived: Arrived, client: str, part: str) -> bool:
    address = arrived.address
    return isinstance(address, UpdatePart) and (address.client, address.part) == (client, part)
