"""What is on a list, looked at one by one; and the sums of its masks, less their noise.

Both take as long as the list: 0.1 ms for each client, and for each of its seeds 1 ms where answers
have 1.6 million values. Noise takes 0.4 s for each seed then, and no more memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmqtt import committee_promise, signing
from fedmqtt.masking import attested, commitments, listing, noise, packing, sealing
from fedmqtt.masking.attested import KeyRevoked, NotAttested
from fedmqtt.masking.commitments import SEED_BYTES, NotCommitted
from fedmqtt.masking.masks import add_masks
from fedmqtt.masking.sealing import NotOpened
from fedmqtt.messages import UNFIT_MAX, Answered, Entry, Open, WhyUnfit
from fedmqtt.revocations import Enrolments, Revocations
from fedmqtt.topics import ClientId
from keyholder import book, rules

_TOLD = 3
"""Clients that are named in a sentence, whatever else is known of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Whose list it is looked at for."""

    federation: str
    federation_key: str
    """Public, as text."""
    name: ClientId
    revoked: Revocations | None = None
    enrolled: Enrolments | None = None
    """Who alone counts; None: whoever has a ticket."""

    def is_revoked(self, key: str) -> bool:
        return self.revoked is not None and self.revoked.includes(key)

    def is_enrolled(self, key: str) -> bool:
        return self.enrolled is None or self.enrolled.includes(key)


@dataclass(frozen=True, slots=True)
class Share:
    """What one client gave this keyholder."""

    times: int
    keys: tuple[bytes, ...]
    """Of the masks under its seeds, in the order of their numbers."""

    def __repr__(self) -> str:
        return "<a client's seeds>"


class Unfit(ValueError):
    """Entries that no sum is opened with; a sentence that names the first few of their clients."""

    def __init__(self, faults: Mapping[ClientId, tuple[WhyUnfit, str]]) -> None:
        """By client, each with a sentence that names it."""
        told = [sentence for _, sentence in faults.values()][:_TOLD]
        if more := len(faults) - len(told):
            told.append(f"and {more} more")
        super().__init__("; ".join(told))
        self.clients = {client: why for client, (why, _) in [*faults.items()][:UNFIT_MAX]}


def shares(asked: Open, keeper: Keeper, private: bytes) -> list[Share]:
    """Of every client on the list: each made its entry itself, for the round that it is said to
    answer, and for this masking.

    `private`: of the key that the list names. Raises Unfit, once all were looked at.
    """
    how = attested.masking_digest(asked.masking)
    found: list[Share] = []
    faults: dict[ClientId, tuple[WhyUnfit, str]] = {}
    for entry, of in zip(asked.entries, listing.answered(asked), strict=True):
        try:
            found.append(_share(asked, keeper, private, how, entry, of))
        except NotAttested as bad:
            why: WhyUnfit = "revoked" if isinstance(bad, KeyRevoked) else "signature"
            faults[entry.client] = why, str(bad)
        except _NoShare as bad:
            faults[entry.client] = bad.why, str(bad)
    if faults:
        raise Unfit(faults)
    return found


class _NoShare(ValueError):
    """A sentence that names the client."""

    def __init__(self, sentence: str, why: WhyUnfit = "seal") -> None:
        super().__init__(sentence)
        self.why = why


def _share(
    asked: Open, keeper: Keeper, private: bytes, how: bytes, entry: Entry, of: Answered
) -> Share:
    """Raises NotAttested and _NoShare."""
    masking, client, masked = asked.masking, entry.client, entry.masked
    attested.check(
        keeper.federation,
        keeper.federation_key,
        asked.run,
        of.round,
        of.base,
        how,
        entry,
        keeper.is_revoked,
    )
    if not keeper.is_enrolled(signing.as_text(entry.key)):
        raise _NoShare(f"{client} is not on the list of enrolled devices", "unenrolled")
    if len(masked.sealed) != len(masking.keyholders):
        raise _NoShare(f"{client} sealed seeds for {len(masked.sealed)} keyholders")
    at = next(n for n, one in enumerate(masking.keyholders) if one.name == keeper.name)
    number = masking.keyholders[at].key.number
    told = (keeper.federation, asked.run, of.round, client, of.base)
    what = sealing.context(*told, keeper.name, number)
    try:
        share = sealing.open_sealed(private, masked.exchange, what, masked.sealed[at])
    except NotOpened as bad:
        raise _NoShare(f"what {client} sealed does not open: {bad}") from bad
    seed_count = len(rules.held(masking, keeper.name))
    if len(share) != seed_count * SEED_BYTES:
        raise _NoShare(f"{client} sealed {len(share)} bytes, not {seed_count} seeds")
    what = commitments.context(*told, masked.exchange)
    place = masking.keyholders[at].place
    try:
        keys = commitments.keys(masking, place, what, share, masked.commitments)
    except NotCommitted as bad:
        raise _NoShare(f"{client} {bad}", "commitment") from bad
    return Share(entry.times, keys)


def add_up(asked: Open, keeper: Keeper, held: Sequence[Share], path: Path) -> tuple[bytes, ...]:
    """Write the packed sum of each seed's masks to this file, and tell their digests (SHA-256).

    One vector of the list's size is in memory. Raises OSError and MemoryError.
    """
    return book.write_sums(path, _packed_sums(asked, keeper, held))


def _packed_sums(asked: Open, keeper: Keeper, held: Sequence[Share]) -> Iterator[bytes]:
    words = np.empty(asked.body + asked.tail, np.uint32)
    *_, bits = committee_promise.opened(asked.masking, asked.body, asked.tail)
    for at, number in enumerate(rules.held(asked.masking, keeper.name)):
        words[:] = 0
        add_masks(words, ((share.keys[at], share.times) for share in held))
        if asked.masking.noise:
            key = noise.key(
                (share.keys[at] for share in held),
                keeper.federation,
                asked.run,
                asked.round,
                asked.digest,
                number,
            )
            noise.subtract(words, asked.masking, key)
        yield packing.to_payload(words, asked.body, bits)
