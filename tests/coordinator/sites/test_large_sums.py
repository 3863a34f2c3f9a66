"""A site's sum may have far more bytes than the model: its numbers are wide, and all differ."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import Sites
from coordinator.sites import totals
from fedmqtt import exact_total, fixed_point, messages, weights
from fedmqtt.messages import Announce, Chunk, SumOf
from fedmqtt.topics import ANNOUNCE, RoundId
from tests.coordinator.guests import Room, federation_config, update, zeros

pytestmark = pytest.mark.broker

SIZE = 400_000
DEVICES = 8
CHUNK_BYTES = 128 * 1024
_MORE_THAN_A_MODEL = 4 * SIZE + 2**20


def test_it_is_taken_in(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    rounds, sites = {"cohort": 1, "quorum": 1, "clients_min": 1}, Sites(clients_max=DEVICES)
    config = federation_config(mosquitto_broker.url, federation_name, rounds, sites=sites)
    with Room(mosquitto_broker.url, federation_name) as room:
        (site,) = room.guests("north")
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            offer = site.offered(1)
            assert offer.sites is not None
            bits, weight = offer.sites.bits, offer.sites.weight_max
            largest = fixed_point.largest_sum(config.limits.change_max, weight, bits, DEVICES)
            chance = np.random.default_rng(0)
            total = chance.integers(-largest, largest, SIZE, np.int64, endpoint=True)
            answer = update(
                offer,
                [0.0],
                weight,
                codec=totals.CODEC,
                sum_of=SumOf(clients=DEVICES, bits=bits),
                payload=memoryview(exact_total.encode(total)),
            )
            payload = messages.encode(answer)
            assert len(payload) > _MORE_THAN_A_MODEL
            digest = weights.digest(payload)
            announce = Announce(
                run=offer.run,
                round=RoundId(1),
                digest=digest,
                size_bytes=len(payload),
                chunk_bytes=CHUNK_BYTES,
            )
            site.say(announce, part=ANNOUNCE)
            pieces = [payload[at : at + CHUNK_BYTES] for at in range(0, len(payload), CHUNK_BYTES)]
            sent = 0
            while sent < len(pieces):
                for first, end in site.go().ranges:
                    for index in range(first, end):
                        site.say(Chunk(digest=digest, data=memoryview(pieces[index])), str(index))
                        sent += 1
            assert site.receipt().accepted
            room.ended(running)
    made = load_file(tmp_path / "model.safetensors")["w"]
    assert np.allclose(made, total / weight / 2.0**bits, rtol=1e-6, atol=1e-6)
