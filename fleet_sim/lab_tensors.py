"""The lab's data plane: real updates in, one exact sum, real models out; and who trains them.

    begin(client) ... begin(client)          devices are at work, in virtual time
             answer(client) ──▶ all of them are trained in one go ──▶ each waits to be fetched

A device's training takes no virtual time but what its hardware says, so nothing is computed before
the first answer of a round is due; then everybody at work on the same model is trained together.
What is computed for a device that vanishes meanwhile is not used, as on the device itself.
"""

import functools
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from coordinator import local_method
from coordinator.aggregation import KeepModel
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from coordinator.models import downlink, published_model
from coordinator.models.published_model import PublishedModel
from coordinator.rounds import Close, Named, State
from coordinator.statistics.sums import SumsOfData
from coordinator.sums.answers import Answers
from edge_client import control_variates, local_methods, trainer
from edge_client.control_variates import Control
from edge_client.remembered import NOTHING, Remembered
from edge_client.session import Answer
from edge_client.training_job import Job
from fedmqtt import control, data_query, messages, personal, weights
from fedmqtt.messages import (
    SMALL_MODEL_BYTES,
    Evaluation,
    Masking,
    Measures,
    ModelRef,
    Offer,
    Update,
)
from fedmqtt.personal import Division
from fedmqtt.topics import ClientId, Digest, RoundId
from fedmqtt.weights import Array, Layout, Weights
from fleet_sim.kept_memory import KeptMemory
from fleet_sim.lab_device import Assignment
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.trainers import Trainers
from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError, Trained

if TYPE_CHECKING:
    from fleet_sim.lab_masking import LabMaskedAnswers


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """As clients have it."""

    flat: Array
    file: bytes
    control: Array | None = None
    """That came with it, where the strategy has one."""


class Tensors:
    """The coordinator's half. `models` are kept for as long as anybody works on one."""

    def __init__(self, config: FederationConfig, layout: Layout, flat: Array, terms: int) -> None:
        """`terms`: the most answers that any round may fold. Raises SettingsError, UnknownPart."""
        self.layout = layout
        self.models: dict[Digest, Model] = {}
        self.kept_because = ""
        """Why the round that closed last made no model of its answers; empty where it did."""
        self.left_out: set[Named] = set()
        """Of the late answers that it took up, those that count in no model."""
        self.division = personal.division(layout, local_method.asked(config).personal)
        self._held: dict[Named, Update] = {}
        self._fetched: frozenset[Digest] = frozenset()
        self._late_rounds_max = config.late.rounds_max
        self._bases: dict[RoundId, Array] = {}
        """Of the last rounds, where the strategy needs them."""
        self._downlink = downlink.read(config.downlink_codec)
        chunk_bytes = config.transfer.chunk_bytes
        self._masked: LabMaskedAnswers | None = None
        self.answers = self._data_plane(config, terms)
        its_control = self.answers.control
        self.published = published_model.make(layout, flat, 0, chunk_bytes, its_control)
        """The newest model."""
        self.newest = self._initial = self._keep(self.published)

    @property
    def initial(self) -> Digest:
        return self._initial

    @property
    def flat(self) -> Array:
        """The newest model's numbers, shape (size,): the coordinator's own."""
        return self.published.flat

    @property
    def trained_rounds(self) -> int:
        return self.published.trained_rounds

    def model(self, digest: Digest, chunk_bytes: int) -> ModelRef:
        assert digest == self.newest
        return published_model.cut(self.published, chunk_bytes).ref

    def dress(self, offer: Offer) -> Offer:
        file = self.models[offer.model.digest].file
        if len(file) > SMALL_MODEL_BYTES:
            return offer
        return msgspec.structs.replace(offer, model_file=file)

    def begin(self, number: RoundId, terms_max: int) -> None:
        self.kept_because = ""
        self.left_out = set()
        if self.answers.needs_bases:
            held = (named.round for named in self._held)
            oldest = min([number - self._late_rounds_max, *held])
            self._bases[number] = self.flat
            self._bases = {n: base for n, base in self._bases.items() if n >= oldest}
        self.answers.begin(terms_max, number)

    def adapted(self, masking: Masking) -> Masking:
        assert self._masked is not None
        return self._masked.masking_by(masking.keyholders)

    def mask(self, masking: Masking) -> None:
        assert self._masked is not None
        self._masked.mask(masking)

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        return self.answers.check(client, answer)

    @property
    def is_excused(self) -> bool:
        return self.answers.is_excused

    def accept(self, client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
        if isinstance(answer, Update):
            self.answers.fold(client, answer, evaluates=evaluates)
        else:
            self.answers.take_measures(client, answer.measures)
        self.answers.let_go()

    def hold(self, named: Named, answer: Update) -> None:
        self._held[named] = answer
        self.answers.take(named)

    def counted_last(self, client: ClientId) -> RoundId | None:
        return self.answers.counted_last(client)

    def keep(self) -> None:
        self.answers.keep()
        self.answers.end()

    def restart(self, state: State) -> None:
        raise AssertionError("nobody kills the lab's coordinator")

    def still_fetched(self, fetched: Collection[Digest]) -> None:
        self._fetched = frozenset(fetched)

    def next_model(self, base: Digest, close: Close) -> Digest:
        for named in close.held:
            late = self._held.pop(named)
            if self.answers.check(named.client, late):
                # What was folded since it was accepted has made it too much.
                self.left_out.add(named)
                self.answers.leave_out(named)
                continue
            staleness = close.round - named.round
            self.answers.fold(named.client, late, evaluates=False, staleness=staleness)
        self.answers.let_go()
        old = self.published
        if self._masked is not None:
            self._masked.open_unmasked()
        try:
            shared = self.answers.finish(self.division.shared_of(old.flat))
            flat = self.division.with_shared(old.flat, shared)
        except KeepModel as why:
            self.kept_because = str(why)
            self.left_out.update(close.held)
            return base
        finally:
            self.answers.end()
        self.published = downlink.following(old, flat, self._downlink, self.answers.control)
        self.newest = self._keep(self.published)
        return self.newest

    def keep_sent(self, offer: Offer) -> None:
        """A small model came with its offer: who reads that late has it, forgotten here or not."""
        if offer.model.digest not in self.models:
            assert offer.model_file, "larger ones are fetched while they are the newest"
            _, flat, its_control = control.split(*weights.read(offer.model_file))
            self.models[offer.model.digest] = Model(flat, bytes(offer.model_file), its_control)

    def forget_models(self, in_use: Iterable[Digest]) -> None:
        """All but the newest, these, and those that somebody may be fetching."""
        for digest in self.models.keys() - {self.newest, *in_use} - self._fetched:
            del self.models[digest]

    def _data_plane(self, config: FederationConfig, terms: int) -> Answers:
        if data_query.is_layout(self.layout):
            return SumsOfData(config, self.layout, terms, asked=lambda: self.flat)
        size, shapes = self.division.size, self.division.shared.shapes
        if masked_round.is_masked(config):
            # Here: who masks nothing is spared `cryptography`.
            from fleet_sim.lab_masking import NOBODY, LabMaskedAnswers

            self._masked = LabMaskedAnswers(config, size, terms, shapes=shapes, trust=NOBODY)
            return self._masked
        return Answers(
            config,
            size,
            terms,
            base_of=self._base_of,
            shapes=shapes,
            # Nobody is hidden here: the same seed gives the same noise.
            noise_key=hashlib.sha256(f"{config.seed}/noise".encode()).digest(),
        )

    def _base_of(self, number: RoundId) -> Array:
        return self.division.shared_of(self._bases[number])

    def _keep(self, model: PublishedModel) -> Digest:
        size = model.layout.size
        flat, rest = model.published[:size], model.published[size:]
        its_control = rest if rest.size else None
        self.models[model.ref.digest] = Model(flat, model.file, its_control)
        return model.ref.digest


@dataclass(frozen=True, slots=True)
class _Trained:
    """Computed, and not yet made an answer of: what the device remembers may change until then."""

    job: Job
    result: Trained | str
    measured: Measures | None
    control: Control | None
    masking: Masking | None


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of it, or why nothing; and the layers that stay on the device."""

    answer: Update | Evaluation | _Trained | str
    own: Array | None = None


@dataclass(slots=True)
class Cohort:
    """The devices' half: everybody's training, computed together."""

    task: str
    trainers: Trainers
    tensors: Tensors
    folder: Path = Path()
    """Of the clients' data, for who describes it: what is trained is the trainers' business."""
    _at_work: dict[ClientId, Assignment] = field(default_factory=dict)
    _controls: dict[ClientId, Control | None] = field(default_factory=dict)
    """As those at work began with them: what they remember may change meanwhile."""
    _done: dict[tuple[ClientId, RoundId], _Done] = field(default_factory=dict)
    _own: dict[ClientId, Array] = field(default_factory=dict)
    """Each device's personal layers, from when it has trained some."""
    _memories: dict[ClientId, KeptMemory] = field(default_factory=dict)
    """Of those that remember anything, as on their disks."""
    _told: set[str] = field(default_factory=set)
    """Why training failed."""

    def begin(self, client: ClientId, work: Assignment) -> None:
        self.tensors.keep_sent(work.offer)
        self._at_work[client] = work
        self._controls[client] = self._control(client, work) if work.purpose == "train" else None

    def stop(self, client: ClientId) -> None:
        work = self._at_work.pop(client, None)
        if work is not None:
            del self._controls[client]
            self._done.pop((client, work.offer.round), None)

    def answer(self, client: ClientId) -> Update | Evaluation | str:
        """What comes of the work that the device has just finished; why nothing does, as text."""
        offer = self._at_work[client].offer
        if (client, offer.round) not in self._done:
            self._compute(offer)
        done = self._done.pop((client, offer.round))
        answer = done.answer
        if isinstance(answer, _Trained):
            answer = self._answer_of(client, answer)
        if isinstance(answer, str) and offer.masking is not None:
            self._tell(answer)
        del self._at_work[client], self._controls[client]
        self.tensors.forget_models(work.offer.model.digest for work in self._at_work.values())
        if done.own is not None and not isinstance(answer, str):
            self._own[client] = done.own
        return answer

    def _tell(self, why_not: str) -> None:
        """Once: a device whose answers are masked tells its own log alone, and here it has none."""
        if why_not not in self._told:
            self._told.add(why_not)
            _log.warning("training failed: %s", why_not)

    def remembers(self, client: ClientId, answer: Answer) -> bool:
        memory = self._memories.get(client)
        return memory is not None and memory.has(answer)

    def settle(
        self, client: ClientId, answer: Answer, accepted: bool, counted: RoundId | None
    ) -> None:
        if memory := self._memories.get(client):
            memory.settle(answer, accepted, counted)

    def _control(self, client: ClientId, work: Assignment) -> Control | None:
        memory = self._memories.get(client)
        before = NOTHING if memory is None else memory.of(work.offer.run)
        came = self.tensors.models[work.offer.model.digest].control
        return control_variates.begin(self._job(client, work), self.tensors.division, came, before)

    def _answer_of(self, client: ClientId, done: _Trained) -> Update | str:
        memory = self._memories.setdefault(client, KeptMemory())
        made = _update(done, self.tensors.division, self._start(done.job), memory.committed)
        if isinstance(made, str):
            return made
        update, remembered = made
        if remembered is not None:
            memory.keep(named_answer(update), remembered)
        return update

    def _start(self, job: Job) -> Array:
        """What the client begins with: the model, and the layers of its own in it."""
        base = self.tensors.models[job.base].flat
        return self.tensors.division.with_personal(base, self._own.get(job.client))

    def named(self, content: Update | Evaluation) -> Answer:
        return named_answer(content)

    def _compute(self, offer: Offer) -> None:
        base = self.tensors.models[offer.model.digest].flat
        named = self.tensors.layout.unflatten(base)
        # In the order of names: what is trained together must not depend on who was invited first.
        jobs = {
            client: self._job(client, work)
            for client, work in sorted(self._at_work.items())
            if work.offer.round == offer.round and (client, offer.round) not in self._done
        }
        measured = self._measured(offer, named, jobs)
        trained = self._trained(offer, named, jobs)
        for client, job in jobs.items():
            mine = measured.get(client)
            if isinstance(mine, str):
                done = _Done(mine)
            elif job.purpose == "describe":
                done = _Done(self._described(job, base))
            elif client in trained:
                begun = self._controls[client]
                done = self._done_of(_Trained(job, trained[client], mine, begun, offer.masking))
            else:
                assert mine is not None
                done = _Done(Evaluation(run=job.run, round=job.round, base=job.base, measures=mine))
            self._done[client, offer.round] = done

    def _measured(
        self, offer: Offer, named: Weights, jobs: Mapping[ClientId, Job]
    ) -> dict[ClientId, Measures | str]:
        """Of those that are to measure the model; why they could not, as text."""
        asked = [job for job in jobs.values() if job.purpose == "evaluate" or job.measure_base]
        if not asked:
            return {}
        orders = list(map(self._order, asked))
        found = self.trainers.evaluate(named, orders, _unheard, offer.training, offer.method)
        return {
            job.client: one if isinstance(one, str) else trainer.measures(one, job.label)
            for job, one in zip(asked, found, strict=True)
        }

    def _trained(
        self, offer: Offer, named: Weights, jobs: Mapping[ClientId, Job]
    ) -> dict[ClientId, Trained | str]:
        """Of those that are to train it; why they could not, as text."""
        asked = [job for job in jobs.values() if job.purpose == "train"]
        if not asked:
            return {}
        orders = list(map(self._order, asked))
        found = self.trainers.train(named, orders, offer.training, _unheard, offer.method)
        return {job.client: one for job, one in zip(asked, found, strict=True)}

    def _done_of(self, trained: _Trained) -> _Done:
        division, own = self.tensors.division, None
        start = self._start(trained.job)
        if division.names and isinstance(trained.result, Trained):
            own = trainer.own_layers(division, start, trained.result, trained.job)
        if local_methods.remembers(trained.job.method, trained.job.codec):
            return _Done(trained, own)
        made = _update(trained, division, start, NOTHING)
        return _Done(made if isinstance(made, str) else made[0], own)

    def _order(self, job: Job) -> TrainJob:
        own, division = self._own.get(job.client), self.tensors.division
        kept = b"" if own is None else own.tobytes()
        correction = b""
        if (begun := self._controls[job.client]) is not None:
            named = begun.correction(division, job.training.learning_rate)
            correction = division.layout.flatten(named).tobytes()
        return TrainJob(job.client, trainer.seed_of(job), job.steps_max, kept, correction)

    def _described(self, job: Job, base: Array) -> Update | str:
        task = _task(self.task)
        try:
            data = task.load_data(self.folder, job.client, "train")
            return trainer.description(job, self.tensors.layout, base, task, data)
        except TaskError as bad:
            return str(bad)

    def _job(self, client: ClientId, work: Assignment) -> Job:
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
            method=offer.method,
            steps_max=work.steps_max,
            label=work.label,
        )


# A file would be run again for each client.
_task = functools.lru_cache(maxsize=4)(load_task)


def _update(
    done: _Trained, division: Division, base: Array, before: Remembered
) -> tuple[Update, Remembered | None] | str:
    """What the real client would send and remember; why it cannot, as text."""
    if isinstance(done.result, str):
        return done.result
    try:
        if done.masking is not None:
            return _masked(done, done.masking, division, base, done.result), None
        return trainer.update(
            done.job, division, base, done.result, done.measured, before, done.control
        )
    except TaskError as bad:
        return str(bad)


def _masked(
    done: _Trained, how: Masking, division: Division, base: Array, trained: Trained
) -> Update:
    # Here: who masks nothing is spared `cryptography`.
    from fleet_sim import lab_masking

    job, fingerprint = done.job, division.layout.fingerprint
    change = trainer.shared_change(job, division, base, trained)
    return lab_masking.update(job, how, fingerprint, change, trained, done.measured)


def _unheard(fraction: float) -> None:
    """A round's work is done in one go: nobody waits to hear how far it is."""


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
