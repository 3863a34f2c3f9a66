"""A coordinator's side of a keyholder, on a real broker: asks it to open lists, and hears it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fedmqtt import chunks, messages, signing
from fedmqtt.masking import listing
from fedmqtt.messages import (
    Announce,
    AnyMessage,
    Chunk,
    FromClient,
    Go,
    Masking,
    ModelRef,
    Offer,
    Open,
    Opened,
    Presence,
    Receipt,
    RoundKey,
    Training,
)
from fedmqtt.topics import (
    Address,
    ClientId,
    Digest,
    Inbox,
    OfferBoard,
    PresenceOf,
    Topics,
    UpdatePart,
)
from tests.broker_config.kit_broker import FEDERATION, KitBroker
from tests.broker_config.raw_client import RawClient
from tests.keyholder.masked_clients import BASE, ROUND, RUN, Answers
from tests.programs import Program, running, wait_until

TOPICS = Topics(FEDERATION)
_T = TypeVar("_T", bound=FromClient)


class Asking:
    """With the coordinator's account. Remembers all that keyholders said."""

    def __init__(self, broker: KitBroker) -> None:
        self._account = broker.account("coordinator")
        seal = self._account.seal()
        assert seal is not None
        self._seal = seal
        self._client = RawClient(self._account, broker.servers_port, "test:asks")
        self.presences: list[tuple[ClientId, Presence]] = []
        self.said: list[tuple[UpdatePart, FromClient]] = []

    @contextmanager
    def connected(self) -> Iterator["Asking"]:
        with self._client as client:
            assert not client.refusal
            for topic in (TOPICS.any_presence, TOPICS.any_update):
                assert client.subscribe(topic)
            yield self

    @property
    def federation_private(self) -> str:
        return self._account.signing_key

    def says(self, to: Address, message: AnyMessage, *, retain: bool = False) -> None:
        topic = TOPICS.path(to)
        payload = self._seal.sealed(to, topic, messages.encode(message))
        assert self._client.publish(topic, payload, retain=retain)

    def says_unsigned(self, to: Address, message: AnyMessage) -> None:
        assert self._client.publish(TOPICS.path(to), messages.encode(message))

    def clears(self, to: Address) -> None:
        assert self._client.publish(TOPICS.path(to), b"", retain=True)

    def listens(self) -> None:
        """Take what has come."""
        while not self._client.messages.empty():
            got = self._client.messages.get()
            address = TOPICS.parse(got.topic)
            match address:
                case PresenceOf(client) if got.payload:
                    self.presences.append((client, messages.read_presence(got.payload)))
                case UpdatePart():
                    # Raises where it is not signed by its keyholder, for this round.
                    data = self._seal.opened(address, got.topic, got.payload)
                    self.said.append((address, messages.read_from_client(data)))
                case _:
                    pass

    def keys(
        self, name: str, holds: Callable[[tuple[RoundKey, ...]], bool] = bool
    ) -> tuple[RoundKey, ...]:
        """Those that the keyholder publishes last, once they are so."""

        def newest() -> tuple[RoundKey, ...]:
            self.listens()
            told = [one for client, one in self.presences if client == name]
            return told[-1].keys if told and told[-1].online else ()

        wait_until(lambda: holds(newest()))
        return newest()

    def offers(self, how: Masking) -> None:
        offer = Offer(
            run=RUN,
            round=ROUND,
            task="adds",
            model=ModelRef(digest=BASE, size_bytes=100, chunk_bytes=1024, fingerprint="x"),
            train=(),
            evaluate=(),
            closes_in_s=1000.0,
            training=Training(),
            codec="full",
            lanes=4,
            seed=1,
            masking=how,
        )
        self.says(OfferBoard(), offer, retain=True)

    def asks(self, name: str, asked: Open, bytes_max: int = 100_000) -> int:
        """From where in `said` the answer is to be looked for."""
        before = len(self.said)
        for part in listing.parts(asked, bytes_max):
            self.says(Inbox(ClientId(name)), part)
        return before

    def hears(self, kind: type[_T], name: str, after: int = 0, of_list: bytes | None = None) -> _T:
        """The first of this kind that this keyholder says, from there on; of this list."""

        def found() -> _T | None:
            self.listens()
            said = (one for to, one in self.said[after:] if to.client == name)
            return next(
                (
                    one
                    for one in said
                    if isinstance(one, kind) and of_list in (None, getattr(one, "digest", None))
                ),
                None,
            )

        wait_until(lambda: found() is not None)
        heard = found()
        assert heard is not None
        return heard

    def answer(self, name: str, asked: Open) -> Opened:
        # What is owed of another list may come in between.
        return self.hears(Opened, name, self.asks(name, asked), asked.digest)

    def refusal(self, name: str, asked: Open) -> str:
        opened = self.answer(name, asked)
        assert not opened.payload and not opened.digests
        return opened.refused

    def fetches(self, name: str, announced: Announce, numbers: range | None = None) -> bytes:
        """The pieces of these numbers, asked for and come; of all by default."""
        before = len(self.said)
        wanted = numbers or range(chunks.count(announced.size_bytes, announced.chunk_bytes))
        go = Go(
            run=announced.run,
            round=announced.round,
            digest=announced.digest,
            ranges=((wanted.start, wanted.stop),),
        )
        self.says(Inbox(ClientId(name)), go)

        def pieces() -> dict[int, bytes]:
            self.listens()
            return {
                int(to.part): bytes(one.data)
                for to, one in self.said[before:]
                if to.client == name and isinstance(one, Chunk)
            }

        wait_until(lambda: pieces().keys() >= set(wanted))
        came = pieces()
        return b"".join(came[number] for number in wanted)

    def receives(self, name: str) -> None:
        receipt = Receipt(run=RUN, round=ROUND, accepted=True)
        self.says(Inbox(ClientId(name)), receipt)


def answers(asking: Asking, how: Masking, size: int = 50) -> Answers:
    return Answers(FEDERATION, asking.federation_private, how, size)


def read_whole(data: bytes, announced: Announce) -> Opened:
    assert Digest(hashlib.sha256(data).hexdigest()) == announced.digest
    opened = messages.read_from_client(data)
    assert isinstance(opened, Opened)
    return opened


def sums_in(opened: Opened) -> dict[int, bytes]:
    """By seed."""
    each = len(opened.payload) // max(1, len(opened.seeds))
    return {
        seed: bytes(opened.payload[at * each : (at + 1) * each])
        for at, seed in enumerate(opened.seeds)
    }


@contextmanager
def holding(
    folder: Path, broker: KitBroker, name: str, *words: str, command: str = "keyholder"
) -> Iterator[Program]:
    """A keyholder, connected."""
    file = broker.folder / "accounts" / f"{name}.toml"
    told = ("--credentials", str(file), "--state", str(state_of(folder, name)), "--floor", "2")
    with running(folder, "fedmqtt", command, *told, *words) as program:
        program.wait_for("connected")
        yield program


def state_of(folder: Path, name: str) -> Path:
    return folder / f"state-{name}"


def is_by(broker: KitBroker, name: str, keys: Sequence[RoundKey]) -> bool:
    """Whether all of them are this keyholder's, as whoever has the kit's files can tell."""
    public = broker.account("coordinator").pinned[ClientId(name)]
    return all(signing.is_round_key(public, FEDERATION, name, key) for key in keys)
