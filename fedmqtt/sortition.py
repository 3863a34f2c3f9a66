"""Sortition: each client sees for itself whether a round invites it, and anybody can verify it.

    draw(client) = first 7 bytes of SHA-256 of "<salt>/<round>/<purpose>/<client>", big-endian
    invited      = draw(client) < threshold

An offer carries salt and thresholds in the place of names, so it is as small for a million clients
as for ten. The coordinator draws for all that it knows of and sets the threshold by the draws, so
as many of them are invited as it wants, and not about as many. In a *quiet* federation it knows of
nobody, and sets it by an estimate of how many would answer: about as many are invited.

Source: the cryptographic sortition of Gilad et al., "Algorand: Scaling Byzantine Agreements for
Cryptocurrencies", SOSP 2017, section 5, with a public hash in the place of their verifiable random
function: who is invited is no secret here, and whoever may choose its name freely can choose one
that is. Names must be given out, as by a broker with accounts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from heapq import nsmallest

from fedmqtt.messages import EVERYBODY, Offer, Purpose, Sortition
from fedmqtt.topics import ClientId, RoundId

_DRAW_BYTES = 7


def draws(salt: str, round_id: RoundId, purpose: Purpose, clients: Iterable[ClientId]) -> list[int]:
    """What each of them has drawn, from 0 to 2^56 - 1. Of a million, in half a second."""
    head, sha256 = f"{salt}/{round_id}/{purpose}/".encode(), hashlib.sha256
    return [
        int.from_bytes(sha256(head + client.encode()).digest()[:_DRAW_BYTES]) for client in clients
    ]


def threshold(drawn: Sequence[int], count: int) -> int:
    """Below it are `count` of these draws; where that is all of them, any draw is."""
    if count >= len(drawn):
        return EVERYBODY
    # Two equal draws of 56 bits would be one more.
    return max(nsmallest(count, drawn), default=-1) + 1


def share(threshold: int) -> float:
    """Of all clients, however many there are, who are expected to draw less."""
    return threshold / EVERYBODY


def threshold_of(share: float) -> int:
    """Below it so large a share of all clients is expected to draw."""
    return min(EVERYBODY, round(share * EVERYBODY))


def turn(sortition: Sortition, round_id: RoundId, client: ClientId) -> float:
    """When its turn to train is among those that are invited: from 0, the first, to 1."""
    [drawn] = draws(sortition.salt, round_id, "train", (client,))
    return min(1.0, drawn / max(1, sortition.train))


def trains_quietly(drawn: Sortition | None) -> bool:
    """Whether clients are to train that nobody knows of until they answer."""
    return drawn is not None and drawn.quiet and drawn.train > 0


def is_drawn(sortition: Sortition, round_id: RoundId, client: ClientId, purpose: Purpose) -> bool:
    below = sortition.train if purpose == "train" else sortition.evaluate
    [drawn] = draws(sortition.salt, round_id, purpose, (client,))
    return drawn < below


def invites(offer: Offer, client: ClientId, purpose: Purpose) -> bool:
    """Whether the offer invites this client to do this, by name or by sortition."""
    if offer.sortition is not None:
        return is_drawn(offer.sortition, offer.round, client, purpose)
    return client in (offer.train if purpose == "train" else offer.evaluate)
