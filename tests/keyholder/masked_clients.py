"""Devices that mask their answers, and the lists that a coordinator makes of those."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmqtt import envelope, signing
from fedmqtt.masking import client, listing, noise, packing, sealing, seeds
from fedmqtt.messages import Entry, Keyholder, Masking, Open, RoundKey
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.spoiled import divided, spoiled

Words = NDArray[np.uint32]

RUN, ROUND, BASE = RunId("run-1"), RoundId(3), Digest("a" * 64)
TAIL = 3
BITS = 20


def masking(keyholders: Sequence[Keyholder], places: int = 3, **changes: Any) -> Masking:
    """With `kh-z`, of whom nobody asks anything, where one alone could not open a sum."""
    if places > 1 and len(keyholders) == 1:
        _, public = sealing.new_round_key()
        keyholders = [*keyholders, keyholder("kh-z", 1, RoundKey(1, public, bytes(64)))]
    asked = Masking(
        mode="keyholders" if places > 1 else "trusted",
        keyholders=tuple(keyholders),
        places=places,
        tolerated=1 if places > 1 else 0,
        floor=3,
        bits=BITS,
        value_bits=12,
        change_max=1.0,
    )
    return structs.replace(asked, **changes)


def keyholder(name: str, place: int, key: RoundKey) -> Keyholder:
    return Keyholder(ClientId(name), place, key)


@dataclass
class Answers:
    """To one round, of as many devices as are asked for."""

    federation: str
    federation_private: str
    how: Masking
    size: int = 50
    words: dict[str, Words] = field(default_factory=dict)
    """What was masked: body and tail."""
    payloads: dict[str, bytes] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Private, of the devices."""

    @property
    def federation_key(self) -> str:
        return signing.public_key(self.federation_private)

    def of(
        self,
        name: str,
        times: int = 1,
        spoiled_for: Sequence[str] = (),
        divided_for: Collection[tuple[str, int]] = (),
        **changes: Any,
    ) -> Entry:
        """As an honest device of this name answers, but for `changes` to what it is told; some
        keyholders cannot open what it seals to them, or find other seeds under these numbers."""
        private = self.keys.setdefault(name, signing.new_key())
        told: dict[str, Any] = {
            "how": self.how,
            "federation": self.federation,
            "run": RUN,
            "round_id": ROUND,
            "base": BASE,
            "ticket": self._ticket(name, private),
        } | changes
        words = np.random.default_rng(len(self.words)).integers(
            0, 2**8, self.size + TAIL, dtype=np.uint32
        )
        self.words[name] = words.copy()
        masked, payload = client.mask(
            told["how"],
            told["federation"],
            ClientId(name),
            told["run"],
            told["round_id"],
            told["base"],
            words,
            self.size,
            private,
        )
        what = (told["federation"], ClientId(name), told["run"], told["round_id"], told["base"])
        if spoiled_for:
            masked = spoiled(masked, payload, told["how"], what, private, spoiled_for)
        if divided_for:
            masked = divided(masked, payload, told["how"], what, private, divided_for)
        self.payloads[name] = payload
        key = signing.as_bytes(signing.public_key(private))
        ticket = signing.as_bytes(told["ticket"], envelope.TICKET_BYTES)
        digest = hashlib.sha256(payload).digest()
        return Entry(ClientId(name), times, digest, masked, key, ticket)

    def list(self, entries: Sequence[Entry], seeds: Sequence[int], **changes: Any) -> Open:
        whole = Open(
            run=RUN,
            round=ROUND,
            base=BASE,
            masking=self.how,
            body=self.size,
            tail=TAIL,
            digest=bytes(32),
            part=0,
            parts=1,
            entries=tuple(entries),
            seeds=tuple(seeds),
        )
        whole = structs.replace(whole, **changes)
        return structs.replace(whole, digest=listing.digest(whole))

    def noise_of(self, asked: Open, shares: Sequence[Mapping[int, bytes]]) -> Words:
        """Of all seeds, given those of each client on the list."""
        total = np.zeros(self.size + TAIL, np.uint32)
        for number in range(seeds.count(self.how.places, self.how.tolerated)):
            key = noise.key(
                [own[number] for own in shares],
                *(self.federation, asked.run, asked.round, asked.digest, number),
            )
            total += noise.of_key(self.how, key, total.size).astype(np.uint32)
        return self._residues(total)

    def opened(self, asked: Open, mask_sums: Sequence[bytes]) -> Words:
        """What masked payloads come to once the sums of all seeds' masks are taken away."""
        each = (self.size, TAIL, self.how.bits)
        total = np.zeros(self.size + TAIL, np.uint32)
        for entry in asked.entries:
            payload = packing.from_payload(self.payloads[entry.client], *each)
            total += payload * np.uint32(entry.times)
        for one in mask_sums:
            total -= packing.from_payload(one, *each)
        return self._residues(total)

    def sum(self, asked: Open) -> Words:
        """What they must come to."""
        total = np.zeros(self.size + TAIL, np.uint32)
        for entry in asked.entries:
            total += self.words[entry.client] * np.uint32(entry.times)
        return self._residues(total)

    def _residues(self, total: Words) -> Words:
        total[: self.size] &= np.uint32(2**self.how.bits - 1)
        return total

    def _ticket(self, name: str, private: str) -> str:
        public = signing.public_key(private)
        return signing.ticket(self.federation_private, self.federation, name, public)
