"""Devices with keys and keyholders, played in the test's own process, for a coordinator that masks.

keys = Keys("kh-a", "kh-b", "kh-c")
with Room(url, federation) as room, room.coordinating(..., trust=keys.trust) as coordinator:
    holders = keyholders(room, keys)
    answer(guest, keys, offer, [1.0, 0.0])
    holders["kh-a"].answer()
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from msgspec import structs

from coordinator.trust import Trust
from fedmqtt import codec_chance, messages, signing
from fedmqtt.masking import client, listing, packing, sealing, seeds, values
from fedmqtt.masking.masks import SEED_BYTES, add_mask
from fedmqtt.messages import Offer, Open, Opened, Presence, RoundKey, Update
from fedmqtt.topics import ClientId, PresenceOf
from tests.coordinator.guests import Guest, Room, update


class Keys:
    """Of a federation, its devices and its keyholders."""

    def __init__(self, federation: str, *keyholders: str) -> None:
        self.federation = federation
        self._private = signing.new_key()
        self._of_keyholders = {ClientId(name): signing.new_key() for name in keyholders}
        self.revoked: set[str] = set()

    @property
    def trust(self) -> Trust:
        pinned = {name: signing.public_key(key) for name, key in self._of_keyholders.items()}
        return Trust(
            federation_key=signing.public_key(self._private),
            keyholders=tuple(pinned.items()),
            is_revoked=self.revoked.__contains__,
        )

    def device(self, name: str) -> tuple[str, str]:
        """A new signing key, and its ticket."""
        key = signing.new_key()
        ticket = signing.ticket(self._private, self.federation, name, signing.public_key(key))
        return key, ticket

    def round_key(self, name: ClientId, number: int, public: bytes) -> RoundKey:
        return signing.round_key(self._of_keyholders[name], self.federation, name, number, public)


class HonestKeyholder:
    """Answers what it is asked, as `fedmqtt keyholder` does; `lie` changes its sums."""

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
        self.come()

    def come(self, session: str = "1") -> None:
        here = Presence(online=True, session=session, purposes=(), keys=self.round_keys)
        self.guest.shout(PresenceOf(self.name), messages.encode(here))

    def next_list(self) -> Open:
        """The next list that it is asked about."""
        while True:
            part = self.guest.open()
            if (whole := self._joining.take(part)) is not None:
                self.asked.append(whole)
                return whole

    def sums(self, whole: Open) -> dict[int, packing.Words]:
        """Of each seed that it holds the sum of masks, over the list."""
        masking = whole.masking
        (own,) = (one for one in masking.keyholders if one.name == self.name)
        at = masking.keyholders.index(own)
        held = seeds.held_by(masking.places, masking.tolerated)[own.place]
        found = {seed: np.zeros(whole.body + whole.tail, np.uint32) for seed in held}
        for entry in whole.entries:
            context = sealing.context(
                self._keys.federation,
                whole.run,
                whole.round,
                entry.client,
                whole.base,
                self.name,
                own.key.number,
            )
            private = self._private[own.key.number]
            secret = sealing.open_sealed(
                private, entry.masked.exchange, context, entry.masked.sealed[at]
            )
            for place, seed in enumerate(held):
                one = secret[place * SEED_BYTES : (place + 1) * SEED_BYTES]
                add_mask(found[seed], one, entry.times)
        return found

    def answer_to(self, whole: Open, lie: int = 0) -> Opened:
        """With a `lie`, that is added to each number of each sum."""
        packed = {
            seed: packing.to_payload(words + np.uint32(lie), whole.body, whole.masking.bits)
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

    def answer(self, lie: int = 0) -> Open:
        """The next list: it is answered, and receipted."""
        whole = self.next_list()
        self.guest.say(self.answer_to(whole, lie), number=whole.round)
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


def masked_update(
    keys: Keys, name: str, offer: Offer, change: Sequence[float], samples: int = 1, **wrong: object
) -> Update:
    """A good answer to a masked offer, but for what is said to be wrong."""
    assert offer.masking is not None
    chances = codec_chance.of_answer(offer.seed, offer.round, ClientId(name))
    words = values.to_words(offer.masking, np.array(change, np.float32), samples, chances)
    masked, payload = client.mask(
        offer.masking,
        keys.federation,
        ClientId(name),
        offer.run,
        offer.round,
        offer.model.digest,
        words,
        *keys.device(name),
    )
    silent = {"steps": 0, "masked": masked, "payload": memoryview(payload)}
    return structs.replace(update(offer, [0.0], samples=1), **(silent | wrong))


def answer(
    guest: Guest, keys: Keys, offer: Offer, change: Sequence[float], samples: int = 1
) -> None:
    guest.say(masked_update(keys, guest.client, offer, change, samples), number=offer.round)
    receipt = guest.receipt()
    assert receipt.accepted and receipt.round == offer.round, receipt
