"""Sums under noise by keyholders, as a federation comes to them: for experiments on what it hides.

Clients' whole numbers, masks, sums of masks with noise and what is left of them are made by the
programs' own code. Only who would do it is not there: no keys, no signatures, no broker.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from coordinator.config import Evaluation, FederationConfig, Privacy, Rounds, Tuning
from coordinator.masking import masked_noise, masked_round
from coordinator.masking.masked_noise import Noised
from coordinator.noise.differential_privacy import DifferentialPrivacy
from fedmqtt import codec_chance
from fedmqtt.masking import noise, seeds, values
from fedmqtt.masking.masks import KEY_BYTES, add_mask
from fedmqtt.masking.packing import Words
from fedmqtt.masking.values import MeanChange
from fedmqtt.messages import Masking
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId, RunId
from fedmqtt.weights import Array

_RUN, _LIST = RunId("an-experiment"), bytes(32)


def settled(
    chosen: DifferentialPrivacy, size: int, clients: int, rounds: int
) -> tuple[Noised, Masking]:
    """With three keyholders, one of whom may leak, and as many bits for a value as fit."""
    for value_bits in range(20, 1, -1):
        config = FederationConfig(
            name="experiment",
            task="none",
            evaluation=Evaluation(every=0),
            tuning=Tuning(enabled=False),
            rounds=Rounds(cohort=clients, quorum=10, over_selection=1.0, count=rounds),
            privacy=Privacy(aggregation="keyholders", floor=10, value_bits=value_bits),
            differential_privacy=chosen,
        )
        try:
            made = masked_noise.of(config, size)
            masking = masked_round.masking(config, ())
        except SettingsError:
            continue
        assert made is not None
        return made, made.masking(masking, chosen.clip_norm)
    raise AssertionError("no number of bits fits")


def words_of(how: Masking, change: Array, client: int = 0, number: int = 1) -> Words:
    """As a client makes them of its change, before its masks."""
    chances = codec_chance.of_answer(0, RoundId(number), ClientId(f"n{client}"))
    return values.to_words(how, change, 1, chances)


def noises(how: Masking, clients: Sequence[Sequence[bytes]], number: int, size: int) -> list[Words]:
    """Under each seed, as all of its keyholders make it. `clients`: seeds of each."""
    found = []
    for seed in range(seeds.count(how.places, how.tolerated)):
        key = noise.key([own[seed] for own in clients], "", _RUN, RoundId(number), _LIST, seed)
        found.append(noise.of_key(how, key, size).astype(np.uint32))
    return found


def opened(how: Masking, clients: Sequence[Sequence[bytes]], number: int, total: Words) -> Words:
    """What a sum of whole numbers is opened to: masked, and the keyholders' sums taken away."""
    left = total.copy()
    for seed, own_noise in enumerate(noises(how, clients, number, total.size)):
        of_keyholder = np.zeros_like(total)
        for own in clients:
            add_mask(left, own[seed])
            add_mask(of_keyholder, own[seed])
        left -= of_keyholder - own_noise
    return left


def drawn_seeds(how: Masking, name: object, clients: int = 2) -> list[list[bytes]]:
    """Of a few clients, always the same for a name."""
    chance = np.random.default_rng([*repr(name).encode()])
    count = seeds.count(how.places, how.tolerated)
    return [[chance.bytes(KEY_BYTES) for _ in range(count)] for _ in range(clients)]


def mean(how: Masking, changes: Iterable[Array], name: object, number: int) -> MeanChange:
    """Of a round."""
    total, terms, size = np.zeros(0, np.uint32), 0, 0
    for client, change in enumerate(changes):
        words = words_of(how, change, client, number)
        total = words if not terms else total + words
        terms, size = terms + 1, change.size
    found = opened(how, drawn_seeds(how, (name, number)), number, total)
    shared = codec_chance.of_answer(0, RoundId(number), ClientId("n")).shared
    return values.from_sum(how, found, size, terms, shared)
