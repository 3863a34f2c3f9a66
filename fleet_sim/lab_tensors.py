"""The lab's data plane: real updates in, one exact sum, real models out; and who trains them.

    begin(client) ... begin(client)          devices are at work, in virtual time
             answer(client) ──▶ all of them are trained in one go ──▶ each waits to be fetched

A device's training takes no virtual time but what its hardware says, so nothing is computed before
the first answer of a round is due; then everybody at work on the same model is trained together.
What is computed for a device that vanishes meanwhile is not used, as on the device itself.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from coordinator.aggregation import KeepModel
from coordinator.answers import Answers
from coordinator.config import FederationConfig
from coordinator.rounds import Close, Named
from edge_client import trainer
from edge_client.session import Answer
from edge_client.training_job import Job
from fedmqtt import messages, weights
from fedmqtt.messages import (
    SMALL_MODEL_BYTES,
    Evaluation,
    Measures,
    ModelRef,
    Offer,
    Purpose,
    Update,
)
from fedmqtt.topics import ClientId, Digest, RoundId
from fedmqtt.weights import Array, Layout
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.trainers import Trainers
from learning_tasks.seam import TaskError, Trained


@dataclass(frozen=True, slots=True)
class Model:
    flat: Array
    file: bytes


class Tensors:
    """The coordinator's half. `models` are kept for as long as anybody works on one."""

    def __init__(self, config: FederationConfig, layout: Layout, flat: Array, terms: int) -> None:
        """`terms`: the most answers that any round may fold. Raises SettingsError, UnknownPart."""
        self.layout = layout
        self.models: dict[Digest, Model] = {}
        self.trained_rounds = 0
        self.kept_because = ""
        """Why the round that closed last made no model of its answers; empty where it did."""
        self.answers = Answers(config, flat.size, terms, base_of=self._base_of)
        self._held: dict[Named, Update] = {}
        self._fetched: frozenset[Digest] = frozenset()
        self._late_rounds_max = config.late.rounds_max
        self._bases: dict[RoundId, Array] = {}
        """Of the last rounds, where the strategy needs them."""
        self.newest = self._initial = self._keep(flat)

    @property
    def initial(self) -> Digest:
        return self._initial

    @property
    def flat(self) -> Array:
        """The newest model's numbers, shape (size,)."""
        return self.models[self.newest].flat

    def model(self, digest: Digest, chunk_bytes: int) -> ModelRef:
        return ModelRef(
            digest=digest,
            size_bytes=len(self.models[digest].file),
            chunk_bytes=chunk_bytes,
            fingerprint=self.layout.fingerprint,
        )

    def dress(self, offer: Offer) -> Offer:
        file = self.models[offer.model.digest].file
        if len(file) > SMALL_MODEL_BYTES:
            return offer
        return msgspec.structs.replace(offer, model_file=file)

    def begin(self, number: RoundId, terms_max: int) -> None:
        self.kept_because = ""
        if self.answers.needs_bases:
            held = (named.round for named in self._held)
            oldest = min([number - self._late_rounds_max, *held])
            self._bases[number] = self.flat
            self._bases = {n: base for n, base in self._bases.items() if n >= oldest}
        self.answers.begin(terms_max, number)

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        return self.answers.check(client, answer)

    def accept(self, client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
        if isinstance(answer, Update):
            self.answers.fold(client, answer, evaluates=evaluates)
        else:
            self.answers.take_measures(client, answer.measures)
        self.answers.let_go()

    def hold(self, named: Named, answer: Update) -> None:
        self._held[named] = answer

    def keep(self, fetched: Collection[Digest]) -> None:
        self._fetched = frozenset(fetched)

    def next_model(self, base: Digest, close: Close) -> Digest:
        for named in close.held:
            late = self._held.pop(named)
            fault = self.answers.check(named.client, late)
            assert not fault, fault
            staleness = close.round - named.round
            self.answers.fold(named.client, late, evaluates=False, staleness=staleness)
        self.answers.let_go()
        try:
            self.newest = self._keep(self.answers.finish(self.models[base].flat))
        except KeepModel as why:
            self.kept_because = str(why)
            return base
        finally:
            self.answers.end()
        self.trained_rounds += 1
        return self.newest

    def keep_sent(self, offer: Offer) -> None:
        """A small model came with its offer: who reads that late has it, forgotten here or not."""
        if offer.model.digest not in self.models:
            assert offer.model_file, "larger ones are fetched while they are the newest"
            _, flat = weights.read(offer.model_file)
            self.models[offer.model.digest] = Model(flat, bytes(offer.model_file))

    def forget_models(self, in_use: Iterable[Digest]) -> None:
        """All but the newest, these, and those that somebody may be fetching."""
        for digest in self.models.keys() - {self.newest, *in_use} - self._fetched:
            del self.models[digest]

    def _base_of(self, number: RoundId) -> Array:
        return self._bases[number]

    def _keep(self, flat: Array) -> Digest:
        file = weights.write(self.layout, flat)
        digest = weights.digest(file)
        self.models[digest] = Model(flat, file)
        return digest


@dataclass(slots=True)
class _Work:
    """One device's, on one offer."""

    offer: Offer
    purpose: Purpose
    measures_base: bool


@dataclass(slots=True)
class Cohort:
    """The devices' half: everybody's training, computed together."""

    task: str
    trainers: Trainers
    tensors: Tensors
    _at_work: dict[ClientId, _Work] = field(default_factory=dict)
    _done: dict[tuple[ClientId, RoundId], Update | Evaluation | str] = field(default_factory=dict)

    def begin(self, client: ClientId, offer: Offer, purpose: Purpose, *, measures: bool) -> None:
        """`measures`: it evaluates the model before it trains."""
        self.tensors.keep_sent(offer)
        self._at_work[client] = _Work(offer, purpose, measures)

    def stop(self, client: ClientId) -> None:
        work = self._at_work.pop(client, None)
        if work is not None:
            self._done.pop((client, work.offer.round), None)

    def answer(self, client: ClientId) -> Update | Evaluation | str:
        """What comes of the work that the device has just finished; why nothing does, as text."""
        offer = self._at_work[client].offer
        if (client, offer.round) not in self._done:
            self._compute(offer)
        del self._at_work[client]
        self.tensors.forget_models(work.offer.model.digest for work in self._at_work.values())
        return self._done.pop((client, offer.round))

    def named(self, content: Update | Evaluation) -> Answer:
        return named_answer(content)

    def _compute(self, offer: Offer) -> None:
        # In the order of names: what is trained together must not depend on who was invited first.
        todo = {
            client: work
            for client, work in sorted(self._at_work.items())
            if work.offer.round == offer.round and (client, offer.round) not in self._done
        }
        layout = self.tensors.layout
        base = self.tensors.models[offer.model.digest].flat
        named = layout.unflatten(base)
        measure = [
            client
            for client, work in todo.items()
            if work.purpose == "evaluate" or work.measures_base
        ]
        found = self.trainers.evaluate(named, measure) if measure else []
        measured: dict[ClientId, Measures | str] = {
            client: one if isinstance(one, str) else trainer.measures(one)
            for client, one in zip(measure, found, strict=True)
        }
        jobs = {
            client: self._job(client, work)
            for client, work in todo.items()
            if work.purpose == "train"
        }
        orders = [TrainJob(client, trainer.seed_of(job)) for client, job in jobs.items()]
        trained = self.trainers.train(named, orders, offer.training) if orders else []
        results = dict(zip(jobs, trained, strict=True))
        for client in todo:
            mine = measured.get(client)
            outcome: Update | Evaluation | str
            if isinstance(mine, str):
                outcome = mine
            elif client in results:
                outcome = _update(jobs[client], layout, base, results[client], mine)
            else:
                assert mine is not None
                outcome = Evaluation(
                    run=offer.run, round=offer.round, base=offer.model.digest, measures=mine
                )
            self._done[client, offer.round] = outcome

    def _job(self, client: ClientId, work: _Work) -> Job:
        offer = work.offer
        return Job(
            client=client,
            purpose=work.purpose,
            task=self.task,
            data_dir="",
            model_path="",
            outbox="",
            run=offer.run,
            round=offer.round,
            base=offer.model.digest,
            measure_base=work.measures_base,
            fingerprint=offer.model.fingerprint,
            training=offer.training,
            codec=offer.codec,
            seed=offer.seed,
        )


def _update(
    job: Job, layout: Layout, base: Array, result: Trained | str, measures: Measures | None
) -> Update | str:
    """What the real client would send; why it cannot, as text."""
    if isinstance(result, str):
        return result
    try:
        return trainer.update(job, layout, base, result, measures)
    except TaskError as bad:
        return str(bad)


def named_answer(content: Update | Evaluation) -> Answer:
    """The name by which a session knows it: of the very bytes that a real client would send."""
    if isinstance(content, Update):
        pieces: tuple[bytes | memoryview, ...] = messages.encode_pieces(content)
    else:
        pieces = (messages.encode(content),)
    digest = hashlib.sha256()
    size = 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece) if isinstance(piece, bytes) else piece.nbytes
    return Answer(content.run, content.round, Digest(digest.hexdigest()), size)
