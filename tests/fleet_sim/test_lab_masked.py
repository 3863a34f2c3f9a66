"""Masked rounds in the lab make the numbers that masked clients and keyholders make."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from coordinator.aggregation import Memory
from coordinator.intake.trust import Trust
from coordinator.masking.masked_answers import MaskedAnswers
from edge_client import trainer
from edge_client.training_job import Job, Mask
from fedmqtt import messages, personal, signing
from fedmqtt.envelope import Author
from fedmqtt.masking import listing, packing, sealing, seeds
from fedmqtt.masking.masks import add_mask
from fedmqtt.messages import Masking, Offer, Open, Update
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array, Layout, layout_of
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab
from fleet_sim.lab_masking import LabKeyholders
from keyholder import sums
from keyholder.sums import Keeper
from learning_tasks.loading import load_task
from tests.fedmqtt.masking import cohort
from tests.fleet_sim.lab_fleets import at, fleet, learning, protocol

SIZE = 3000
ROUNDS = "count = 3\ncohort = 4\nquorum = 4\nclients_min = 4\n"
FEW_BITS = (
    'privacy = { aggregation = "keyholders", floor = 4, rotate = true, share = 0.5, value_bits = 4,'
    " weight_max = 5, samples_max = 60, norm_max = 1.5 }\n"
)
WIDE = 'privacy = { aggregation = "trusted", floor = 4 }\n'

_TASK = f"""
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {{"w": np.ones({SIZE}, np.float32)}}

def load_data(data_dir, client, purpose):
    return int(client.split("-")[1])

def train(weights, data, training, seed, progress):
    moved = np.random.default_rng(seed).normal(scale=0.02, size={SIZE}).astype(np.float32)
    shrunk = weights["w"] * np.float32(0.9)
    return Trained({{"w": shrunk + moved}}, 20 * (1 + data), {{"loss": 0.5}})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""
_NOBODY_MEASURES = 'raise AssertionError("nobody is asked to evaluate")'
_MEASURES = """from learning_tasks.seam import Evaluated
    return Evaluated(data, {"loss": float(data)}, None)"""


def drifting(folder: Path, privacy: str, text: str = "clients = 6") -> Fleet:
    """A fleet whose model shrinks, and is moved by each client by as much as chance says."""
    path = folder / "drifting_task.py"
    path.write_text(_TASK)
    return fleet(folder, text, rounds=ROUNDS, federation=privacy, task=str(path))


def ran(of: Fleet) -> Lab:
    with learning(of) as lab:
        lab.run()
    return lab


def one_round(of: Fleet) -> Lab:
    config = structs.replace(of.federation, rounds=structs.replace(of.federation.rounds, count=1))
    return ran(replace(of, federation=config))


def model(lab: Lab) -> Array:
    assert lab.tensors is not None
    return lab.tensors.flat


class Federation:
    """Of real masked clients, keyholders and a coordinator's data plane, without a broker."""

    def __init__(self, of: Fleet) -> None:
        self.config, self.task = of.federation, load_task(of.federation.task)
        self.layout: Layout = layout_of(self.task.initial_weights(self.config.seed))
        self.division = personal.division(self.layout, ())
        self.key = signing.new_key()
        self.answers = self.resumed({})
        self.model = self.layout.flatten(self.task.initial_weights(self.config.seed))

    def resumed(self, memory: Memory) -> MaskedAnswers:
        """As after a restart, with what was remembered."""
        trust = Trust(federation_key=signing.public_key(self.key), keyholders=())
        return MaskedAnswers(self.config, self.layout.size, 4, memory=memory, trust=trust)

    def play(self, offer: Offer, clients: list[ClientId]) -> list[Update]:
        """A round as it was offered; what was sent in it."""
        assert offer.masking is not None
        how = structs.replace(
            offer.masking,
            keyholders=tuple(cohort.keyholder(one.place) for one in offer.masking.keyholders),
        )
        self.answers.begin(4, offer.round)
        self.answers.mask(how)
        sent = []
        for client in clients:
            update, author = self._answer(offer, how, client)
            self.answers.signed_by(client, author)
            assert self.answers.check(client, update) == ""
            self.answers.fold(client, update, evaluates=False)
            sent.append(update)
        self.answers.take_mean(self.answers.open(self._opened(offer, how)))
        self.model = self.answers.finish(self.model)
        self.answers.end()
        return sent

    def _answer(self, offer: Offer, how: Masking, client: ClientId) -> tuple[Update, Author]:
        key = signing.new_key()
        public = signing.public_key(key)
        ticket = signing.ticket(self.key, self.config.name, client, public)
        job = Job(
            client=client,
            purpose="train",
            task=self.config.task,
            data_dir="",
            model_path="",
            outbox="",
            run=offer.run,
            round=offer.round,
            base=offer.model.digest,
            measure_base=False,
            fingerprint=self.layout.fingerprint,
            training=offer.training,
            codec=offer.codec,
            seed=offer.seed,
            method=offer.method,
            mask=Mask(
                masking=msgspec.msgpack.encode(how),
                federation=self.config.name,
                signing_key=key,
            ),
        )
        trained = self.task.train(
            self.layout.unflatten(self.model),
            self.task.load_data(Path(), client, "train"),
            offer.training,
            trainer.seed_of(job),
            lambda share: None,
        )
        update, _ = trainer.update(job, self.division, self.model, trained, None)
        return update, Author(signing.as_bytes(public), signing.as_bytes(ticket, 64))

    def _opened(self, offer: Offer, how: Masking) -> list[packing.Words]:
        """Sums of masks of each seed, by two keyholders of three."""
        body, tail = self.answers.body, self.answers.tail
        asked = Open(
            run=offer.run,
            round=offer.round,
            base=offer.model.digest,
            masking=how,
            body=body,
            tail=tail,
            digest=bytes(32),
            part=0,
            parts=1,
            entries=self.answers.entries,
            seeds=(),
        )
        asked = structs.replace(asked, digest=listing.digest(asked))
        assigned = seeds.assign(how.places, how.tolerated, (0, 2))
        assert assigned is not None
        found = []
        for seed, place in sorted(assigned.items()):
            keeper = Keeper(
                federation=self.config.name,
                federation_key=signing.public_key(self.key),
                name=ClientId(f"kh-{place}"),
            )
            shares = sums.shares(asked, keeper, cohort.round_key(place)[0])
            number = seeds.held_by(how.places, how.tolerated)[place].index(seed)
            words = np.zeros(body + tail, np.uint32)
            for share in shares:
                add_mask(words, share.keys[number], share.times)
            found.append(words)
        return found


def test_the_model_is_that_of_masked_clients_to_the_last_bit(tmp_path: Path) -> None:
    of = drifting(tmp_path, FEW_BITS)
    lab = ran(of)
    federation = Federation(of)
    offers = lab.server.promises.offers
    sizes = {}
    for record in lab.records:
        offer = offers[record.round]
        assert offer.masking is not None
        # As the coordinator would have it for the round, by what came of the one before.
        assert offer.masking.ranges == federation.answers.ranges
        for update in federation.play(offer, record.answered):
            sizes[len(update.payload)] = len(messages.encode(update))
    assert [record.outcome for record in lab.records] == ["averaged"] * 3
    assert np.array_equal(model(lab), federation.model)
    # The first round is finer than the others, and ends with how large the values were.
    assert len(sizes) == 2
    assert len(federation.answers.ranges) == 2
    # What was remembered is all that the next round needs.
    again = federation.resumed(federation.answers.memory)
    assert again.ranges == federation.answers.ranges
    # What crossed the lab's broker is as long as what real clients send, and their presence.
    first, other = sizes.values()
    sent = lab.broker.bytes_up - 4 * first - 8 * other
    assert 0 < sent < 6 * 270 + 12 * 40


def test_with_values_of_many_bits_it_is_the_plain_mean(tmp_path: Path) -> None:
    masked = model(ran(drifting(tmp_path, WIDE)))
    plain = model(ran(drifting(tmp_path, "aggregation_settings = { rate = 1.0 }\n")))
    # Plain answers count by samples, and here all alike: the same but for their chance.
    assert np.abs(masked - plain).max() < 0.1
    assert np.abs(masked - 0.9**3).mean() < 0.03


def test_keyholders_add_their_noise_under_each_seed(tmp_path: Path) -> None:
    clip, multiplier = 0.5, 2.0
    bounded = f'privacy = {{ aggregation = "keyholders", floor = 4, norm_max = {clip} }}\n'
    noise = f"""[federation.differential_privacy]
noise = "keyholders"
noise_multiplier = {multiplier}
participations_max = 3
clip_norm = {clip}
"""
    (tmp_path / "calm").mkdir()
    calm = one_round(drifting(tmp_path / "calm", bounded))
    noised = one_round(
        drifting(tmp_path, 'privacy = { aggregation = "keyholders", floor = 4 }\n' + noise)
    )
    added = model(noised) - model(calm)
    # Of three seeds, on a mean over four clients.
    wanted = np.sqrt(3) * multiplier * clip / 4
    assert added.std() == pytest.approx(wanted, rel=0.06)
    assert abs(added.mean()) < 5 * wanted / np.sqrt(SIZE)
    (record,) = noised.records
    assert record.privacy is not None and record.privacy.epsilon > 0


def test_what_clients_measure_is_summed_under_the_mask(tmp_path: Path) -> None:
    path = tmp_path / "measured_task.py"
    path.write_text(_TASK.replace(_NOBODY_MEASURES, _MEASURES))
    of = fleet(
        tmp_path,
        "clients = 6",
        rounds=ROUNDS,
        federation=WIDE,
        task=str(path),
        every=1,
    )
    measures = structs.replace(of.federation.evaluation, metrics=("loss",))
    lab = ran(replace(of, federation=structs.replace(of.federation, evaluation=measures)))
    for record in lab.records:
        numbers = [int(client.split("-")[1]) for client in record.answered]
        assert record.figures is not None
        assert (record.figures.clients, record.figures.samples) == (4, sum(numbers))
        mean = sum(number * number for number in numbers) / sum(numbers)
        assert record.figures.metrics["loss"] == pytest.approx(mean, abs=1e-6)


def test_a_masked_run_comes_again_with_its_seed(tmp_path: Path) -> None:
    first, again = (ran(drifting(tmp_path, FEW_BITS)) for _ in range(2))
    assert first.trace == again.trace
    assert np.array_equal(model(first), model(again))


def test_nothing_of_a_single_client_is_in_the_records(tmp_path: Path) -> None:
    for record in ran(drifting(tmp_path, FEW_BITS)).records:
        assert (record.samples, record.train_metrics) == (0, {})


def test_keyholders_take_their_time_to_open_a_sum(tmp_path: Path) -> None:
    def seconds(opening_s: float) -> float:
        text = f"clients = 6\nmasking = {{ opening_s = {opening_s} }}"
        return ran(drifting(tmp_path, WIDE, text)).outcome.marks[-1].closed_s

    # Three rounds; the last model is opened before the run is over.
    assert seconds(50.0) - seconds(0.0) == pytest.approx(150.0, abs=1e-6)


def test_who_takes_part_can_be_seen_without_learning(tmp_path: Path) -> None:
    lab = protocol(drifting(tmp_path, FEW_BITS))
    masked: list[bool] = []
    at(lab, 1.0, lambda: masked.append(lab.server.rules.masked))
    lab.run()
    assert lab.is_finished and masked == [True]
    assert len(lab.records) == 3


def test_no_key_of_a_keyholder_comes_twice(tmp_path: Path) -> None:
    holders = LabKeyholders(drifting(tmp_path, FEW_BITS).federation)
    one, other = holders.masking(), holders.masking()
    keys = [holder.key.public for how in (one, other) for holder in how.keyholders]
    assert len(set(keys)) == 6
    assert all(
        signing.is_round_key(holders.terms.pinned[one.name], "lab", one.name, one.key)
        for one in other.keyholders
    )
    assert len(sealing.new_round_key()[1]) == len(keys[0])


def test_what_cannot_be_masked_is_refused_as_by_a_coordinator(tmp_path: Path) -> None:
    chained = FEW_BITS + 'aggregation = "mifa"\n'
    with pytest.raises(SettingsError, match="adds each answer to what the same client gave"):
        drifting(tmp_path, chained)


def test_asynchronous_rounds_are_not_masked_here(tmp_path: Path) -> None:
    path = tmp_path / "drifting_task.py"
    path.write_text(_TASK)
    mixed = f'{ROUNDS}\nmode = "asynchronous"'
    with pytest.raises(SettingsError, match="the lab does not open sums of several rounds"):
        fleet(tmp_path, "clients = 6", rounds=mixed, federation=WIDE, every=0, task=str(path))


def test_why_a_training_failed_is_told_where_no_device_has_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of = drifting(tmp_path, FEW_BITS)
    path = tmp_path / "drifting_task.py"
    path.write_text(path.read_text().replace("* np.float32(0.9)", "* np.float32(np.nan)"))
    (record, *_) = ran(of).records
    assert set(record.declined.values()) == {
        "training failed; the log of this device tells why",
    }
    told = [one.getMessage() for one in caplog.records if one.name == "fleet_sim.lab_tensors"]
    assert len(told) == 1 and "cannot be masked: the change has numbers that are not" in told[0]
