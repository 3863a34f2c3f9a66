"""What a device has told a federation of its data so far: how well it was hidden, and at what cost.

    work begins ──▶ begun ──▶ its answer is finished, or found in the outbox ──▶ counted
                      └─ the program starts, and there is none ──▶ forgotten

What is begun is on the disk before it is, and what is counted before its answer leaves the outbox:
so a kill at any moment leaves one that is counted then, or at the next start, or that never was.
Each exchange counts once, however often its answer is sent or made: with the keys of one exchange
keyholders open one sum.

    spent = sum of 1 / noise^2     of all noised answers: mu^2, of which epsilon follows
                                   (`fedmqtt/privacy/gaussian.py`)

`noise` is that of one seed, in clip norms. Whoever works with `tolerated` keyholders knows all
seeds but one, and takes the noise of those away.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from fedmqtt import noise_promise
from fedmqtt.messages import Masking, Offer, Purpose
from fedmqtt.topics import RoundId, RunId

Level = Literal["plain", "trusted", "committee", "keyholders"]
LEVELS: tuple[Level, ...] = ("plain", "trusted", "committee", "keyholders")
"""From the weakest. A committee is an experiment, and answered in only where its owner says so."""

_NOISE_MIN = 1e-6
"""Clip norms. Less hides nothing, and one over its square would have no bound."""
_KEPT_MAX = 100
"""Exchanges. An older one, done again, counts again."""


class Exchange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer to an offer tells, by the keys that it is masked for."""

    run: RunId
    round: RoundId
    name: str
    """SHA-256 of run, round and masking."""
    mode: Level
    floor: Annotated[int, Meta(ge=0, le=2**20)] = 0
    tolerated: Annotated[int, Meta(ge=0, lt=256)] = 0
    one_model: bool = False
    """It is added to answers to the same model alone."""
    cost: Annotated[float, Meta(ge=0)] = 0.0
    """1 / noise^2; 0 where there is no noise."""


class Disclosed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In one federation."""

    mode: Level = "plain"
    """The strongest that was answered in."""
    floor: Annotated[int, Meta(ge=0, le=2**20)] = 0
    """The largest of a sum that was answered for."""
    tolerated: Annotated[int, Meta(ge=0, lt=256)] = 0
    """Of keyholders, that together learned nothing: the most."""
    one_model: bool = False
    """Once at least an answer was given that is added to those to the same model alone."""
    spent: Annotated[float, Meta(ge=0)] = 0.0
    bare: bool = False
    """Something was told without noise: `spent` is not all."""
    counted: Annotated[tuple[str, ...], Meta(max_length=_KEPT_MAX)] = ()
    """Names of exchanges, the newest last."""
    begun: Annotated[tuple[Exchange, ...], Meta(max_length=_KEPT_MAX)] = ()
    """Not known to be answered."""
    lost: bool = False
    """The file was damaged: nothing of this is known any more."""


NOTHING = Disclosed()


def mode_of(masking: Masking | None) -> Level:
    return "plain" if masking is None else masking.mode


def noise_of(masking: Masking | None) -> float:
    """Of each seed, in the norms that one client's part in the sum may have; 0: there is none."""
    if masking is None or not masking.norm_max:
        return 0.0
    if masking.is_measured or masking.block_norms:
        # What is told beside the change has no noise.
        return 0.0
    if masking.mixes_rounds or masking.mode == "committee" or masking.clients_max > 1:
        # It would be of another sum, or of more of it.
        return 0.0
    noise = noise_promise.multiplier(masking) / masking.weight_max
    # Written so that "not a number" is none, too.
    return noise if noise >= _NOISE_MIN else 0.0


def begin(told: Disclosed, offer: Offer, purpose: Purpose) -> Disclosed:
    """Work on this offer begins."""
    exchange = _exchange(offer, purpose)
    if exchange in told.begun or not _adds(told, exchange):
        return told
    begun = (*told.begun, exchange)
    if len(begun) > _KEPT_MAX:
        # Whether it was answered is open still. To be told too much of is on the safe side.
        told, begun = _count(told, begun[0]), begun[1:]
    return structs.replace(told, begun=begun)


def finish(told: Disclosed, run: RunId, number: RoundId) -> Disclosed:
    """An answer to this round is there, and will be sent."""
    return _finish(told, lambda one: (one.run, one.round) == (run, number))


def count_all(told: Disclosed) -> Disclosed:
    """All that was begun may have been answered."""
    return _finish(told, lambda _: True)


def start(told: Disclosed, goes_on: tuple[RunId, RoundId] | None = None) -> Disclosed:
    """The program starts, and all that is in its outbox is counted: what else was begun is gone,
    but for a round that is worked on still."""
    begun = tuple(one for one in told.begun if (one.run, one.round) == goes_on)
    return told if begun == told.begun else structs.replace(told, begun=begun)


def spent_with(told: Disclosed, offer: Offer) -> float:
    """mu^2 once this offer is answered."""
    exchange = _exchange(offer, "train")
    return _count(told, exchange).spent


def _exchange(offer: Offer, purpose: Purpose) -> Exchange:
    masking = offer.masking
    # What is measured, or described, is told as it is, and says nothing of how answers are hidden.
    masking = masking if purpose == "train" else None
    noise = noise_of(masking)
    named = msgspec.msgpack.encode((offer.run, offer.round, masking))
    return Exchange(
        run=offer.run,
        round=offer.round,
        name=hashlib.sha256(named).hexdigest(),
        mode=mode_of(masking),
        floor=0 if masking is None else masking.floor,
        tolerated=0 if masking is None else masking.tolerated,
        one_model=masking is not None and not masking.mixes_rounds,
        cost=noise**-2 if noise else 0.0,
    )


def _finish(told: Disclosed, is_done: Callable[[Exchange], bool]) -> Disclosed:
    done = [one for one in told.begun if is_done(one)]
    for one in done:
        told = _count(told, one)
    if not done:
        return told
    return structs.replace(told, begun=tuple(one for one in told.begun if one not in done))


def _adds(told: Disclosed, exchange: Exchange) -> bool:
    return _count(told, exchange) != told


def _count(told: Disclosed, exchange: Exchange) -> Disclosed:
    mode = max(told.mode, exchange.mode, key=LEVELS.index)
    told = structs.replace(
        told,
        mode=mode,
        floor=max(told.floor, exchange.floor),
        tolerated=max(told.tolerated, exchange.tolerated),
        one_model=told.one_model or exchange.one_model,
    )
    if not exchange.cost:
        return structs.replace(told, bare=True)
    if exchange.name in told.counted:
        return told
    return structs.replace(
        told,
        spent=told.spent + exchange.cost,
        counted=(*told.counted, exchange.name)[-_KEPT_MAX:],
    )
