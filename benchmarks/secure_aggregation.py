"""What it costs that nobody sees an update: CPU and bytes of each party, beside plain answers.

Prints one line of JSON for each mode, size, cohort and dropout:

    client_ms, client_bytes        CPU from the change to the message, and how long that is: the
                                   same whoever drops out, and for any cohort but for the bits
                                   that its sum needs
    client_beside_bytes            of those, what is not the payload; `above_plain`: less plain's
    keyholder_ms_per_client        to check an entry, open its seeds and add their masks
    keyholder_ms                   all of it, and the answer: of the busiest
    keyholder_bytes_in, _out       the list; the sums of masks
    coordinator_ms_per_client      from a message's bytes to the running sum
    coordinator_ms                 all of them, the lists, and the mean
    keystream_ms                   one mask's ChaCha20 alone, which no code of ours can save: a
                                   client draws one for each seed, a keyholder those that it holds
    totals                         `measured`: every client was played, and the opened sum was the
                                   plain integer sum to the bit; `computed`: from the costs of one

Who drops out has no part in it: nobody waits for it, and no mask of it is to be recovered. Without
the envelopes in which messages are signed, which are the same in every mode. CPU seconds of one
thread, the least of several repetitions for a client's and one client's part.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

# One thread, as CPU is what is measured.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cpu_time import least_s
from coordinator.config import FederationConfig
from coordinator.masking.masked_sum import MaskedSum
from coordinator.sums.answers import Answers
from fedmqtt import codec_chain, codec_chance, committee_promise, envelope, messages, signing
from fedmqtt.envelope import Author
from fedmqtt.masking import (
    attested,
    client,
    commitments,
    listing,
    masks,
    packing,
    sealing,
    seeds,
    values,
)
from fedmqtt.masking.committee import KeySum
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Entry, Keyholder, Masking, Open, Opened, RoundKey, Update
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array

_EXACT: dict[str, Any] = {"value_bits": 20, "change_max": 1.0}
_COARSE: dict[str, Any] = {"value_bits": 12, "change_max": 1.0}
"""As many bits as a committee of a hundred clients has room for."""
_SMALL: dict[str, Any] = {"value_bits": 4, "change_max": 0.04, "rotate": True, "share": 0.25}
SCHEMES = {
    "trusted": (1, 0, _EXACT),
    "keyholders": (3, 1, _EXACT),
    "four keyholders": (4, 2, _EXACT),
    "keyholders, 4 bits of a rotated quarter": (3, 1, _SMALL),
    "keyholders, 12 bits": (3, 1, _COARSE),
    "committee, 12 bits": (3, 1, _COARSE),
    "committee, 4 bits of a rotated quarter": (3, 1, _SMALL),
}
MODES = ("plain", *SCHEMES)
LIST_PART_BYTES = 131_072
LISTED = 20
"""Entries that a keyholder's cost of one is measured with."""
_PIECE_BYTES = 131_072
FEDERATION, RUN, ROUND, BASE = "cost", RunId("cost"), RoundId(1), Digest("0" * 64)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=int, nargs="+", default=[200_000, 1_600_000])
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0, 0.1, 0.3, 0.5])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--played", type=int, default=100, help="largest cohort that is played")
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    for params in asked.params:
        change = np.random.default_rng(1).normal(0, 0.01, params).astype(np.float32)
        plain = one_client(Plain(change), asked.repeats)
        keystream_s = least_s(partial(_draw, params), asked.repeats)
        for mode in asked.modes:
            for clients in asked.clients:
                if _mode(mode) == "committee" and not _fits(mode, clients):
                    sys.stderr.write(f"{mode}: of {clients} clients a sum does not fit 32 bits\n")
                    continue
                case = Plain(change) if mode == "plain" else Masks(change, mode, clients)
                one = one_client(case, asked.repeats)
                for dropout in asked.dropout:
                    there = max(2, round(clients * (1 - dropout)))
                    is_played = there <= asked.played
                    total = play(case, there) if is_played else case.computed(one, there)
                    line = {
                        **{"mode": mode, "params": params, "clients": clients},
                        **{"dropout": dropout, "there": there},
                        **_line(one, plain, total),
                        "keystream_ms": _ms(keystream_s),
                        "totals": "measured" if is_played else "computed",
                    }
                    sys.stdout.write(json.dumps(line) + "\n")
                    sys.stdout.flush()
    return 0


def _draw(words: int) -> None:
    """The keystream of one mask, in pieces that stay in a cache."""
    cipher = Cipher(ChaCha20(bytes(masks.KEY_BYTES), bytes(16)), mode=None).encryptor()
    zeros, room = bytes(_PIECE_BYTES), bytearray(_PIECE_BYTES)
    for _ in range(-(-4 * words // _PIECE_BYTES)):
        cipher.update_into(zeros, room)


def _mode(scheme: str) -> Literal["trusted", "keyholders", "committee"]:
    if scheme == "trusted":
        return "trusted"
    return "committee" if scheme.startswith("committee") else "keyholders"


def _fits(scheme: str, clients: int) -> bool:
    *_, how = SCHEMES[scheme]
    bits = values.bits_needed(how["value_bits"], clients)
    within = clients <= committee_promise.TERMS_MAX
    return within and bits + committee_promise.guard_bits(clients) <= committee_promise.WORD_BITS


@dataclass(frozen=True)
class One:
    """What one client costs."""

    client_s: float
    message_bytes: int
    payload_bytes: int
    keyholder_s: float
    coordinator_s: float


@dataclass
class Total:
    """What a round costs those who are not clients."""

    coordinator_s: float = 0.0
    keyholders_s: dict[int, float] = field(default_factory=dict)
    list_bytes: int = 0
    sums_bytes: int = 0

    @contextmanager
    def of_coordinator(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.coordinator_s += time.process_time() - began

    @contextmanager
    def of_keyholder(self, place: int) -> Iterator[None]:
        began = time.process_time()
        yield
        spent = time.process_time() - began
        self.keyholders_s[place] = self.keyholders_s.get(place, 0.0) + spent


def _line(one: One, plain: One, total: Total) -> dict[str, Any]:
    beside, plain_beside = (each.message_bytes - each.payload_bytes for each in (one, plain))
    busiest = max(total.keyholders_s.values(), default=0.0)
    return {
        "client_ms": _ms(one.client_s),
        "client_ms_above_plain": _ms(one.client_s - plain.client_s),
        "client_bytes": one.message_bytes,
        "client_beside_bytes": beside,
        "client_beside_bytes_above_plain": beside - plain_beside,
        "keyholder_ms_per_client": _ms(one.keyholder_s),
        "keyholder_ms": _ms(busiest),
        "keyholder_bytes_in": total.list_bytes,
        "keyholder_bytes_out": total.sums_bytes,
        "coordinator_ms_per_client": _ms(one.coordinator_s),
        "coordinator_ms": _ms(total.coordinator_s),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


class Case(Protocol):
    """A way to answer, and to add up the answers."""

    def message(self, name: ClientId) -> tuple[Update, bytes]:
        """All that a client does to its change; the answer, and what crosses the broker."""

    def begin(self) -> None:
        """A new sum."""

    def take(self, name: ClientId, data: bytes) -> None:
        """All that a coordinator does with a message."""

    def opening(self, name: ClientId, update: Update) -> Callable[[], None]:
        """All that a keyholder does with `LISTED` entries of a list."""

    def finish(self, total: Total) -> None:
        """From the last message to the mean. Raises AssertionError where the sum is not exact."""

    def computed(self, one: One, there: int) -> Total:
        """From the costs of one client, and those that a round has once."""


def one_client(case: Case, repeats: int) -> One:
    name = ClientId("ann")
    update, data = case.message(name)
    case.begin()
    return One(
        client_s=least_s(lambda: case.message(name), repeats),
        message_bytes=len(data),
        payload_bytes=len(update.payload),
        coordinator_s=least_s(lambda: case.take(name, data), repeats),
        keyholder_s=least_s(case.opening(name, update), repeats) / LISTED,
    )


def play(case: Case, there: int) -> Total:
    """A round with so many answers."""
    total = Total()
    case.begin()
    for number in range(there):
        name = ClientId(f"c{number}")
        _, data = case.message(name)
        with total.of_coordinator():
            case.take(name, data)
    case.finish(total)
    return total


def _update(codec: str, payload: bytes | memoryview, **more: Any) -> Update:
    return Update(
        run=RUN,
        round=ROUND,
        base=BASE,
        fingerprint="0123456789abcdef",
        sample_count=1,
        codec=codec,
        payload=memoryview(payload),
        **more,
    )


def _sent(update: Update) -> bytes:
    data = b"".join(messages.encode_pieces(update))
    # What an answer is announced by, and its envelope signs.
    hashlib.sha256(data).digest()
    return data


class Plain:
    """float32, as `full` sends it, and the exact sum."""

    def __init__(self, change: Array) -> None:
        self._change = change
        self._chain = codec_chain.read("full")
        config = FederationConfig(name=FEDERATION, task="linear", codec="full")
        self._answers = Answers(config, change.size, terms_max=2**20)

    def message(self, name: ClientId) -> tuple[Update, bytes]:
        chances = codec_chance.of_answer(0, ROUND, name)
        payload = self._chain.encode(self._change, chances, ((self._change.size,),))
        update = _update("full", payload)
        return update, _sent(update)

    def begin(self) -> None:
        self._answers.begin(terms_max=2**20)

    def take(self, name: ClientId, data: bytes) -> None:
        hashlib.sha256(data).digest()
        update = messages.read_from_client(data)
        assert isinstance(update, Update) and not self._answers.check(name, update)
        self._answers.fold(name, update, evaluates=False)
        self._answers.let_go()

    def opening(self, name: ClientId, update: Update) -> Callable[[], None]:
        # There are no keyholders.
        return lambda: None

    def finish(self, total: Total) -> None:
        with total.of_coordinator():
            self._answers.finish(np.zeros(self._change.size, np.float32))

    def computed(self, one: One, there: int) -> Total:
        total = play(self, 1)
        total.coordinator_s += (there - 1) * one.coordinator_s
        return total


class Masks:
    """Masked values, equally weighted, in as many bits as their sum needs."""

    def __init__(self, change: Array, mode: str, clients: int) -> None:
        places, tolerated, how = SCHEMES[mode]
        self._change = change
        self._private = [sealing.new_round_key() for _ in range(places)]
        self._masking = Masking(
            mode=_mode(mode),
            keyholders=tuple(
                Keyholder(ClientId(f"kh-{place}"), place, RoundKey(1, public, bytes(64)))
                for place, (_, public) in enumerate(self._private)
            ),
            places=places,
            tolerated=tolerated,
            floor=2,
            bits=values.bits_needed(how["value_bits"], clients),
            guard=committee_promise.guard_bits(clients) if _mode(mode) == "committee" else 0,
            **how,
        )
        self._body = values.body_size(self._masking, change.size)
        self._told = committee_promise.opened(self._masking, self._body, values.COUNTS)
        self._federation = signing.new_key()
        self._public = signing.public_key(self._federation)
        self._known: dict[ClientId, tuple[str, str]] = {}
        self._digest = attested.masking_digest(self._masking)
        self._held = seeds.held_by(places, tolerated)
        self.begin()

    def _credentials(self, name: ClientId) -> tuple[str, str]:
        if name not in self._known:
            key = signing.new_key()
            public = signing.public_key(key)
            self._known[name] = key, signing.ticket(self._federation, FEDERATION, name, public)
        return self._known[name]

    def message(self, name: ClientId) -> tuple[Update, bytes]:
        key, _ = self._credentials(name)
        masked, payload = client.mask(
            self._masking,
            FEDERATION,
            name,
            RUN,
            ROUND,
            BASE,
            self._words(name),
            self._body,
            key,
        )
        update = _update("", payload, masked=masked)
        return update, _sent(update)

    def _words(self, name: ClientId) -> Words:
        chances = codec_chance.of_answer(0, ROUND, name)
        return values.to_words(self._masking, self._change, 1, chances)

    def begin(self) -> None:
        self._sum = self._no_sum()
        self._entries: list[Entry] = []
        self._vectors = [self._no_masks(place) for place in range(len(self._held))]

    def _no_sum(self) -> MaskedSum | KeySum:
        if self._masking.mode == "committee":
            return KeySum(self._masking, FEDERATION, self._body, values.COUNTS)
        return MaskedSum(self._body, values.COUNTS, self._masking.bits)

    def _no_masks(self, place: int) -> dict[int, Words]:
        body, tail, _ = self._told
        return {seed: np.zeros(body + tail, np.uint32) for seed in self._held[place]}

    def take(self, name: ClientId, data: bytes) -> None:
        hashlib.sha256(data).digest()
        update = messages.read_from_client(data)
        assert isinstance(update, Update)
        entry = self._entry(name, update)
        self._check(entry)
        self._sum.add(update.payload)
        self._entries.append(entry)

    def _entry(self, name: ClientId, update: Update) -> Entry:
        assert update.masked is not None
        digest = hashlib.sha256(update.payload).digest()
        return Entry(name, 1, digest, update.masked, *self._author(name))

    def _author(self, name: ClientId) -> Author:
        key, ticket = self._credentials(name)
        public = signing.as_bytes(signing.public_key(key))
        return Author(public, signing.as_bytes(ticket, envelope.TICKET_BYTES))

    def _check(self, entry: Entry) -> None:
        attested.check(FEDERATION, self._public, RUN, ROUND, BASE, self._digest, entry)

    def opening(self, name: ClientId, update: Update) -> Callable[[], None]:
        entries = [self._entry(name, update)] * LISTED
        return lambda: self._add_masks(0, entries)

    def _add_masks(self, place: int, entries: Sequence[Entry]) -> None:
        opened = [self._keys(place, entry) for entry in entries]
        for number, total in enumerate(self._vectors[place].values()):
            masks.add_masks(total, [(keys[number], 1) for keys in opened])

    def _keys(self, place: int, entry: Entry) -> tuple[bytes, ...]:
        self._check(entry)
        keyholder = self._masking.keyholders[place]
        context = sealing.context(
            FEDERATION, RUN, ROUND, entry.client, BASE, keyholder.name, keyholder.key.number
        )
        private, _ = self._private[place]
        masked = entry.masked
        share = sealing.open_sealed(private, masked.exchange, context, masked.sealed[place])
        what = commitments.context(FEDERATION, RUN, ROUND, entry.client, BASE, masked.exchange)
        return commitments.keys(self._masking, place, what, share, masked.commitments)

    def finish(self, total: Total) -> None:
        with total.of_coordinator():
            parts = listing.parts(self._list(), LIST_PART_BYTES)
            data = [messages.encode(part) for part in parts]
        total.list_bytes = sum(map(len, data))
        for place in range(len(self._held)):
            with total.of_keyholder(place):
                joining = listing.Joining(entries_max=10_000)
                for piece in data:
                    part = messages.read_to_client(piece)
                    assert isinstance(part, Open)
                    whole = joining.take(part)
                assert whole is not None
                self._add_masks(place, whole.entries)
        self._open(total)

    def _list(self) -> Open:
        body, tail, _ = self._told
        return Open(
            run=RUN,
            round=ROUND,
            base=BASE,
            masking=self._masking,
            body=body,
            tail=tail,
            digest=bytes(32),
            part=0,
            parts=1,
            entries=tuple(self._entries),
            seeds=(),
        )

    def _open(self, total: Total) -> None:
        masking, size = self._masking, self._change.size
        assigned = seeds.assign(masking.places, masking.tolerated, range(masking.places))
        assert assigned is not None
        sums: list[Words] = []
        for place in range(masking.places):
            with total.of_keyholder(place):
                opened = self._opened(place, [s for s, who in assigned.items() if who == place])
                data = messages.encode(opened)
                hashlib.sha256(data).digest()
            total.sums_bytes = max(total.sums_bytes, len(data))
            with total.of_coordinator():
                sums += packing.from_payloads(opened.payload, len(opened.seeds), *self._told)
        there = len(self._entries)
        with total.of_coordinator():
            words = self._sum.open(sums)
            shared = codec_chance.of_answer(0, ROUND, ClientId("any")).shared
            values.from_sum(masking, words, size, there, shared)
        self._assert_exact(words)

    def _opened(self, place: int, asked: list[int]) -> Opened:
        held, (body, _, bits) = self._vectors[place], self._told
        packed = {seed: packing.to_payload(one, body, bits) for seed, one in held.items()}
        return Opened(
            run=RUN,
            round=ROUND,
            digest=bytes(32),
            seeds=tuple(asked),
            digests=tuple(hashlib.sha256(one).digest() for one in packed.values()),
            payload=memoryview(b"".join(packed[seed] for seed in asked)),
        )

    def _assert_exact(self, words: Words) -> None:
        wanted = np.zeros(words.size, np.int64)
        for entry in self._entries:
            wanted += self._words(entry.client).view(np.int32)
        assert np.array_equal(
            values.centred(words[: self._body], self._masking.bits), wanted[: self._body]
        )
        assert np.array_equal(words[self._body :], wanted[self._body :])

    def computed(self, one: One, there: int) -> Total:
        few, more = play(self, 2), Total()
        more.coordinator_s = few.coordinator_s + (there - 2) * one.coordinator_s
        more.keyholders_s = {
            place: spent + (there - 2) * one.keyholder_s
            for place, spent in few.keyholders_s.items()
        }
        # Without the heads of the parts that a longer list is cut into: 1 in 200.
        entry = len(msgspec.msgpack.encode(self._entries[0]))
        more.list_bytes = few.list_bytes + (there - 2) * entry
        more.sums_bytes = few.sums_bytes
        return more


if __name__ == "__main__":
    sys.exit(main())
