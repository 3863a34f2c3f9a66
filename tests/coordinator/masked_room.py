"""Devices with keys and keyholders, played in the test's own process, for a coordinator that masks.

keys = Keys(federation, *HOLDERS)
with masked_rounds(config, keys, folder) as (room, guests, holders, running):
    answer(guests[0], keys, guests[0].offered(1), CHANGES["ann"])
    holders["kh-a"].answer()
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import structs

from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from fedmqtt import codec_chance, committee_promise, messages, signing
from fedmqtt.envelope import Seal
from fedmqtt.masking import (
    client,
    commitments,
    listing,
    noise,
    packing,
    sealing,
    seeds,
    values,
)
from fedmqtt.masking.commitments import NotCommitted
from fedmqtt.masking.masks import add_mask
from fedmqtt.masking.sealing import NotOpened
from fedmqtt.messages import (
    Answered,
    Entry,
    Keyholder,
    Measures,
    Offer,
    Open,
    Opened,
    Presence,
    RoundKey,
    Update,
    WhyUnfit,
)
from fedmqtt.topics import Address, ClientId, PresenceOf
from tests.coordinator.guests import Guest, Room, Running, update, zeros
from tests.spoiled import divided, spoiled

HOLDERS = ("kh-a", "kh-b", "kh-c")
CHANGES = {"ann": [0.5, -0.25, 0.125], "bob": [0.25, 0.75, -0.5], "cat": [0.75, 0.5, -0.125]}
MEAN = np.mean(list(CHANGES.values()), axis=0)


class _Onlooker:
    """Reads what crosses the broker, envelopes and all."""

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        return message

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        return payload


class Keys:
    """Of a federation, its devices and its keyholders: by which all in a room sign."""

    watcher = _Onlooker()

    def __init__(self, federation: str, *keyholders: str) -> None:
        self.federation = federation
        self.private = signing.new_key()
        self._of_keyholders = {ClientId(name): signing.new_key() for name in keyholders}
        self._own = {str(name): key for name, key in self._of_keyholders.items()}
        self.revoked: set[str] = set()

    @property
    def coordinator(self) -> Seal:
        return signing.CoordinatorSeal(self.federation, self.private)

    def of(self, name: str) -> Seal:
        key = self.key(name)
        ticket = signing.ticket(self.private, self.federation, name, signing.public_key(key))
        return signing.DeviceSeal(key, ticket, signing.public_key(self.private))

    @property
    def trust(self) -> Trust:
        pinned = {name: signing.public_key(key) for name, key in self._of_keyholders.items()}
        return Trust(
            federation_key=signing.public_key(self.private),
            keyholders=tuple(pinned.items()),
            is_revoked=self.revoked.__contains__,
        )

    def key(self, name: str) -> str:
        """By which a device or a keyholder signs: private."""
        return self._own.setdefault(name, signing.new_key())

    def round_key(self, name: ClientId, number: int, public: bytes) -> RoundKey:
        return signing.round_key(self._of_keyholders[name], self.federation, name, number, public)


class HonestKeyholder:
    """Looks at lists by itself, and answers them when it is told to, as `fedmqtt keyholder` does;
    `lie` changes its sums."""

    def __init__(self, room: Room, keys: Keys, name: str, count: int = 8) -> None:
        self.name = ClientId(name)
        self.guest = room.guest(name)
        self._room, self._keys = room, keys
        pairs = [sealing.new_round_key() for _ in range(count)]
        self._private = {number: pair[0] for number, pair in enumerate(pairs, 1)}
        self.round_keys = tuple(
            keys.round_key(self.name, number, pair[1]) for number, pair in enumerate(pairs, 1)
        )
        self.asked: list[Open] = []
        """Whole lists, as they came."""
        self._joining = listing.Joining(entries_max=10_000)
        self._looks = listing.Joining(entries_max=10_000)
        self.looked: list[Open] = []
        """Whole lists, as they came to be looked at."""
        self.finds: Callable[[Open], Sequence[str]] | None = None
        """Who is unfit to be on a list; None: who is."""
        self.why: WhyUnfit = "seal"
        """Of them, where it makes them up."""
        self.guest.looks = self._look
        self.floor = 0
        self.come()

    def come(self, session: str = "1") -> None:
        here = Presence(
            online=True, session=session, purposes=(), keys=self.round_keys, floor=self.floor
        )
        self.guest.shout(PresenceOf(self.name), messages.encode(here))

    def _look(self, part: Open) -> None:
        if (whole := self._looks.take(part)) is None:
            return
        self.looked.append(whole)
        if self.finds is None:
            unfit = self._unfit(whole)
        else:
            unfit = dict.fromkeys(map(ClientId, self.finds(whole)), self.why)
        why = f"{' and '.join(unfit)}: sealed nonsense" if unfit else ""
        said = Opened(
            run=whole.run,
            round=whole.round,
            digest=whole.digest,
            fit=not unfit,
            refused=why,
            unfit=unfit,
        )
        self.guest.say(said, number=whole.round)

    def _unfit(self, whole: Open) -> dict[ClientId, WhyUnfit]:
        found: dict[ClientId, WhyUnfit] = {}
        for entry, of in zip(whole.entries, listing.answered(whole), strict=True):
            try:
                self._keys_of(whole, entry, of)
            except NotOpened:
                found[entry.client] = "seal"
            except NotCommitted:
                found[entry.client] = "commitment"
        return found

    def next_list(self) -> Open:
        """The next list that it is asked about."""
        while True:
            part = self.guest.open()
            if (whole := self._joining.take(part)) is not None:
                self.asked.append(whole)
                return whole

    def sums(self, whole: Open) -> dict[int, packing.Words]:
        """Of each seed that it holds the sum of masks, over the list, less its noise."""
        found = {}
        for seed, given in self.mask_keys(whole).items():
            words = found[seed] = np.zeros(whole.body + whole.tail, np.uint32)
            for entry, one in zip(whole.entries, given, strict=True):
                add_mask(words, one, entry.times)
            if whole.masking.noise:
                noise.subtract(words, whole.masking, self.noise_key(whole, seed))
        return found

    def noise_key(self, whole: Open, seed: int) -> bytes:
        given = self.mask_keys(whole)[seed]
        told = (self._keys.federation, whole.run, whole.round, whole.digest)
        return noise.key(given, *told, seed)

    def mask_keys(self, whole: Open) -> dict[int, list[bytes]]:
        """By the numbers of seeds that it holds, those of each client on the list."""
        masking, own = whole.masking, self._own(whole)
        held = seeds.held_by(masking.places, masking.tolerated)[own.place]
        given: dict[int, list[bytes]] = {seed: [] for seed in held}
        for entry, of in zip(whole.entries, listing.answered(whole), strict=True):
            for seed, key in zip(held, self._keys_of(whole, entry, of), strict=True):
                given[seed].append(key)
        return given

    def _own(self, whole: Open) -> Keyholder:
        (own,) = (one for one in whole.masking.keyholders if one.name == self.name)
        return own

    def _keys_of(self, whole: Open, entry: Entry, of: Answered) -> tuple[bytes, ...]:
        """Raises NotOpened and NotCommitted."""
        own, masked = self._own(whole), entry.masked
        told = (self._keys.federation, whole.run, of.round, entry.client, of.base)
        context = sealing.context(*told, self.name, own.key.number)
        sealed = masked.sealed[whole.masking.keyholders.index(own)]
        private = self._private[own.key.number]
        share = sealing.open_sealed(private, masked.exchange, context, sealed)
        what = commitments.context(*told, masked.exchange)
        return commitments.keys(whole.masking, own.place, what, share, masked.commitments)

    def answer_to(self, whole: Open, lie: int = 0, about: int | None = None) -> Opened:
        """With a `lie`, that is added to each number of each sum, or of the one of this seed."""
        *_, bits = committee_promise.opened(whole.masking, whole.body, whole.tail)
        packed = {
            seed: packing.to_payload(
                words + np.uint32(lie if about in (None, seed) else 0), whole.body, bits
            )
            for seed, words in self.sums(whole).items()
        }
        return Opened(
            run=whole.run,
            round=whole.round,
            digest=whole.digest,
            seeds=whole.seeds,
            digests=tuple(hashlib.sha256(one).digest() for one in packed.values()),
            payload=memoryview(b"".join(packed[seed] for seed in whole.seeds)),
        )

    def answer(self, lie: int = 0, about: int | None = None) -> Open:
        """The next list: it is answered, and receipted."""
        whole = self.next_list()
        self.guest.say(self.answer_to(whole, lie, about), number=whole.round)
        receipt = self.guest.receipt()
        assert receipt.accepted, receipt
        return whole

    def refuse(self, reason: str) -> None:
        whole = self.next_list()
        refused = Opened(run=whole.run, round=whole.round, digest=whole.digest, refused=reason)
        self.guest.say(refused, number=whole.round)
        assert self.guest.receipt().accepted


def keyholders(room: Room, keys: Keys, *names: str) -> dict[str, HonestKeyholder]:
    return {name: HonestKeyholder(room, keys, name) for name in names}


class Met(NamedTuple):
    room: Room
    guests: list[Guest]
    holders: dict[str, HonestKeyholder]
    running: Running


@contextmanager
def masked_rounds(
    config: FederationConfig,
    keys: Keys,
    folder: Path,
    clients: Sequence[str] = tuple(CHANGES),
    holders: Sequence[str] = HOLDERS,
    size: int = 3,
) -> Iterator[Met]:
    """Clients that train, keyholders that are there, and a coordinator with a model of `size`
    numbers, for as long as the block lasts or until its rounds are done."""
    with Room(config.broker.url, keys.federation, seals=keys) as room:
        guests = room.guests(*clients, purposes=("train",))
        there = keyholders(room, keys, *holders)
        with room.coordinating(config, zeros(size), folder, trust=keys.trust) as running:
            yield Met(room, guests, there, running)


def masked_update(
    keys: Keys,
    name: str,
    offer: Offer,
    change: Sequence[float],
    samples: int = 1,
    measures: Measures | None = None,
    spoil: Callable[[packing.Words], None] = lambda words: None,
    *,
    spoiled_for: Sequence[str] = (),
    divided_for: Sequence[str] = (),
    **wrong: object,
) -> Update:
    """A good answer to a masked offer, but for what is said to be wrong; some keyholders cannot
    open what it seals to them, or open it to other seeds than the rest."""
    signing_key = keys.key(name)
    assert offer.masking is not None
    chances = codec_chance.of_answer(offer.seed, offer.round, ClientId(name))
    numbers = np.array(change, np.float32)
    words = values.to_words(offer.masking, numbers, samples, chances, measures)
    spoil(words)
    masked, payload = client.mask(
        offer.masking,
        keys.federation,
        ClientId(name),
        offer.run,
        offer.round,
        offer.model.digest,
        words,
        values.body_size(offer.masking, numbers.size),
        signing_key,
    )
    what = (keys.federation, ClientId(name), offer.run, offer.round, offer.model.digest)
    if spoiled_for:
        masked = spoiled(masked, payload, offer.masking, what, signing_key, spoiled_for)
    if divided_for:
        every = range(seeds.count(offer.masking.places, offer.masking.tolerated))
        other = {(holder, number) for holder in divided_for for number in every}
        masked = divided(masked, payload, offer.masking, what, signing_key, other)
    silent = {"steps": 0, "masked": masked, "payload": memoryview(payload)}
    return structs.replace(update(offer, [0.0], samples=1), **(silent | wrong))


def answer(
    guest: Guest,
    keys: Keys,
    offer: Offer,
    change: Sequence[float],
    samples: int = 1,
    measures: Measures | None = None,
    spoiled_for: Sequence[str] = (),
    divided_for: Sequence[str] = (),
) -> None:
    made = masked_update(
        *(keys, guest.client, offer, change, samples, measures),
        spoiled_for=spoiled_for,
        divided_for=divided_for,
    )
    guest.say(made, number=offer.round)
    receipt = guest.receipt()
    assert receipt.accepted and receipt.round == offer.round, receipt
