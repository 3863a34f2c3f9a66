"""Rounds whose sums are opened under noise: to the bit, through kills, up to the budget."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import Evaluation, FederationConfig, Privacy
from coordinator.masking import masked_noise
from coordinator.noise.differential_privacy import DifferentialPrivacy
from coordinator.persistence import history
from fedmqtt import codec_chance, settings
from fedmqtt.masking import noise, values
from fedmqtt.masking.values import MeanChange
from fedmqtt.messages import Offer, Open
from fedmqtt.privacy import gaussian
from fedmqtt.status_pages import ModelPage
from fedmqtt.topics import ClientId
from tests.coordinator.guests import Guest, Room, federation_config, zeros
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    HonestKeyholder,
    Keys,
    answer,
    keyholders,
)
from tests.coordinator.masking.test_masked_restart import Federation
from tests.coordinator.persistence.test_restart import back, kill

pytestmark = pytest.mark.broker

MULTIPLIER, CLIP, DELTA = 2.0, 0.8, 1e-5
"""Bob's norm is 0.94, and cat's 0.91: above the clip norm."""

Model = NDArray[np.float32]


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


@pytest.fixture
def keys(federation_name: str) -> Keys:
    return Keys(federation_name, *HOLDERS)


def config(url: str, keys: Keys, adaptive: bool = False) -> FederationConfig:
    return federation_config(
        url,
        keys.federation,
        {"cohort": 3, "quorum": 3, "clients_min": 3, "count": 9},
        evaluation=Evaluation(every=0),
        privacy=Privacy(aggregation="keyholders", floor=3, keyholder_timeout_s=1000.0),
        differential_privacy=DifferentialPrivacy(
            noise="keyholders",
            noise_multiplier=MULTIPLIER,
            participations_max=2,
            clip_norm=CLIP,
            adaptive=adaptive,
        ),
    )


def answer_all(guests: Sequence[Guest], keys: Keys, offer: Offer) -> None:
    for guest in guests:
        answer(guest, keys, offer, CHANGES[guest.client])


def opened(offer: Offer, holders: Sequence[HonestKeyholder], whole: Open) -> MeanChange:
    """What a round comes to: the whole numbers of all clients, and the noise of each seed."""
    how = offer.masking
    assert how is not None
    total = np.zeros(3 + values.COUNTS, np.uint32)
    for name, change in CHANGES.items():
        chances = codec_chance.of_answer(offer.seed, offer.round, ClientId(name))
        total += values.to_words(how, np.array(change, np.float32), 1, chances)
    found = {
        seed: holder.noise_key(whole, seed)
        for holder in holders
        for seed in holder.mask_keys(whole)
    }
    assert sorted(found) == [0, 1, 2]
    for key in found.values():
        total += noise.of_key(how, key, total.size).astype(np.uint32)
    shared = codec_chance.of_answer(offer.seed, offer.round, ClientId("x")).shared
    return values.from_sum(how, total, 3, len(CHANGES), shared)


def stepped(model: Model, mean: MeanChange) -> Model:
    made: Model = (model + mean.change.astype(np.float32).astype(np.float64)).astype(np.float32)
    return made


def following(clip: float, mean: MeanChange, chosen: FederationConfig) -> float:
    made = masked_noise.of(chosen, 3)
    assert made is not None
    return made.following(clip, mean.balance)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_model_is_the_noised_sum_and_the_run_ends_at_the_budget(
    url: str, keys: Keys, tmp_path: Path, adaptive: bool
) -> None:
    chosen = config(url, keys, adaptive)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = list(keyholders(room, keys, *HOLDERS).values())
        model: Model = np.zeros(3, np.float32)
        clip, exact = CLIP, [gaussian.epsilon(MULTIPLIER, k, DELTA) for k in (1, 2)]
        total = MULTIPLIER * math.sqrt(3)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            for number in (1, 2):
                offer = guests[0].offered(number)
                assert offer.masking is not None
                assert (offer.masking.norm_max, offer.masking.participations_max) == (clip, 2)
                answer_all(guests, keys, offer)
                wholes = [holder.answer() for holder in holders]
                mean = opened(offer, holders, wholes[0])
                model = stepped(model, mean)
                if adaptive:
                    clip = following(clip, mean, chosen)
                page = room.page("model", partial(is_after, number))
                told = page.privacy
                assert told is not None and told.participations == number
                assert told.epsilon == pytest.approx(exact[number - 1], rel=1e-6)
                assert told.epsilon_max == pytest.approx(exact[1], rel=1e-6)
                of_models = gaussian.epsilon(total, number, DELTA)
                assert told.epsilon_of_models == pytest.approx(of_models, rel=1e-6)
            room.ended(running)
    assert load_file(running.folder / "model.safetensors")["w"].tobytes() == model.tobytes()
    assert adaptive == (clip != CLIP)
    assert not np.allclose(model, 2 * np.mean(list(CHANGES.values()), axis=0), atol=1e-3)
    assert [(one.outcome, one.clipped) for one in running.records] == [("averaged", None)] * 2
    assert not (running.folder / "noise.key").exists()


def is_after(number: int, page: ModelPage) -> bool:
    return page.trained_rounds == number


class NoisyFederation(Federation):
    def __init__(self, url: str, keys: Keys, folder: Path) -> None:
        super().__init__(url, keys, folder)
        self.chosen = config(url, keys, adaptive=True)
        (folder / "federation.toml").write_text(settings.render(self.chosen))


@pytest.mark.parametrize("moment", ["asked", "half opened", "between rounds"])
def test_killed_at_any_moment_it_makes_the_same_model_and_the_same_clip_norm(
    url: str, keys: Keys, tmp_path: Path, moment: str
) -> None:
    federation = NoisyFederation(url, keys, tmp_path / "killed")
    with Room(url, keys.federation, seals=keys) as room:
        ann, *_ = guests = room.guests(*CHANGES, purposes=("train",))
        holders = list(keyholders(room, keys, *HOLDERS).values())
        with federation.coordinating() as program:
            first = ann.offered(1)
            answer_all(guests, keys, first)
            if moment == "between rounds":
                lists = [holder.answer() for holder in holders]
                second = ann.offered(2)
            else:
                lists = [holder.next_list() for holder in holders]
            if moment == "half opened":
                holders[1].guest.say(holders[1].answer_to(lists[1]))
                assert holders[1].guest.receipt().accepted
            kill(room, program)
        mean = opened(first, holders, lists[0])
        clip = following(CLIP, mean, federation.chosen)
        with federation.coordinating() as program:
            if moment == "between rounds":
                again = back(room, ann, second)
                assert again.masking == second.masking
            else:
                assert {holder.answer().digest for holder in holders} == {lists[0].digest}
                second = ann.offered(2)
            assert second.masking is not None and second.masking.norm_max == clip != CLIP
            answer_all(guests, keys, second)
            wholes = [holder.answer() for holder in holders]
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
            # Noise of 3.5 clip norms in all is enough.
            assert "a sum of 3 clients tells" not in program.log
        model = stepped(stepped(np.zeros(3, np.float32), mean), opened(second, holders, wholes[0]))
    assert federation.model == model.tobytes()
    records = history.read(federation.folder / "run" / "history.jsonl")
    spent = [one.privacy.epsilon for one in records if one.privacy is not None]
    wanted: Any = [gaussian.epsilon(MULTIPLIER, k, DELTA) for k in (1, 2)]
    assert spent == pytest.approx(wanted, rel=1e-6)


def change_settings(federation: Federation, changes: Mapping[str, str]) -> None:
    """From each text, which stands there once, to the other."""
    file = federation.folder / "federation.toml"
    text = file.read_text()
    for before, after in changes.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text)


def test_a_list_that_was_asked_about_is_counted_where_the_settings_change_then(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    """Keyholders may have opened it, and who has their sums has that one too."""
    federation = NoisyFederation(url, keys, tmp_path / "changed")
    with Room(url, keys.federation, seals=keys) as room:
        ann, *_ = guests = room.guests(*CHANGES, purposes=("train",))
        holders = list(keyholders(room, keys, *HOLDERS).values())
        with federation.coordinating() as program:
            answer_all(guests, keys, ann.offered(1))
            for holder in holders:
                holder.next_list()
            kill(room, program)
        change_settings(federation, {"value_bits = 20": "value_bits = 19"})
        with federation.coordinating() as program:
            second = ann.offered(2)
            answer_all(guests, keys, second)
            for holder in holders:
                holder.answer()
            room.wait(lambda: program.process.poll() is not None)
            # Twice, and no more is left of the budget.
            assert program.wait() == 0, program.log
    records = history.read(federation.folder / "run" / "history.jsonl")
    assert [one.outcome for one in records] == ["kept", "averaged"]
    spent = [one.privacy.epsilon for one in records if one.privacy is not None]
    exact = [gaussian.epsilon(MULTIPLIER, k, DELTA) for k in (1, 2)]
    assert spent == pytest.approx(exact, rel=1e-6)


def test_a_list_that_was_asked_about_counts_where_the_quorum_is_raised_then(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    federation = NoisyFederation(url, keys, tmp_path / "changed")
    with Room(url, keys.federation, seals=keys) as room:
        ann, *_ = guests = room.guests(*CHANGES, purposes=("train",))
        holders = list(keyholders(room, keys, *HOLDERS).values())
        with federation.coordinating() as program:
            answer_all(guests, keys, ann.offered(1))
            asked = [holder.next_list() for holder in holders]
            kill(room, program)
        change_settings(federation, {"quorum = 3": "quorum = 4", "cohort = 3": "cohort = 4"})
        with federation.coordinating() as program:
            assert {holder.answer().digest for holder in holders} == {asked[0].digest}
            room.wait(lambda: "round 1 averaged" in program.log)
            kill(room, program)
    (record,) = history.read(federation.folder / "run" / "history.jsonl")
    assert record.privacy is not None
    assert (record.outcome, record.privacy.participations) == ("averaged", 1)


def test_a_round_whose_sum_is_refused_is_paid_for_as_well(
    url: str, keys: Keys, tmp_path: Path
) -> None:
    """From when keyholders are asked: a sum may be out that did not come to the coordinator."""
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES, purposes=("train",))
        holders = list(keyholders(room, keys, *HOLDERS).values())
        chosen = config(url, keys)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            answer_all(guests, keys, guests[0].offered(1))
            for holder in holders[:2]:
                holder.refuse("the disk fails")
            answer_all(guests, keys, guests[0].offered(2))
            for holder in holders:
                # What others refused, it may have been asked for.
                whole = next(one for one in iter(holder.next_list, None) if one.round == 2)
                holder.guest.say(holder.answer_to(whole), number=2)
            room.ended(running)
    kept, averaged = running.records
    assert (kept.outcome, averaged.outcome) == ("kept", "averaged")
    spent = [one.privacy.participations for one in (kept, averaged) if one.privacy is not None]
    assert spent == [1, 2]
