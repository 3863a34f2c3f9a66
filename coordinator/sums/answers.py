"""The data plane of a round: bytes become changes, changes one exact sum, the sum the next model.

    Update ──check──▶ fault, told to the sender
              └─────▶ change ──fold, once the machine accepts it──▶ sum ──finish──▶ next model

The machine decides who counts; here is what counts. What a strategy remembers goes from one round
to the next in `memory`.
"""

import hashlib
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType

import numpy as np

from coordinator import aggregation, codec_choice, evaluation, evaluation_groups, local_method
from coordinator.aggregation import (
    UNNUMBERED,
    Absorbs,
    Aggregation,
    Hears,
    Judges,
    KeepModel,
    Memory,
    Round,
    SharesByAge,
    TakesControls,
    TakesParts,
)
from coordinator.config import FederationConfig
from coordinator.masking.clipped import Clipped
from coordinator.noise import noise_checks
from coordinator.noise.private_sum import PrivateRound
from coordinator.rounds import Named
from coordinator.sites import totals
from coordinator.sites.above import AsMasked, Words
from coordinator.sites.totals import SiteSum
from coordinator.sites.words import WordSum
from coordinator.sums import counted, late, resolution
from coordinator.sums.client_store import ClientStore
from coordinator.sums.counted import Counted
from fedmqtt import codec_chance, parts
from fedmqtt.codec_chain import Sent
from fedmqtt.envelope import Author
from fedmqtt.fixed_point import ExactSum, Total, remembered_bits
from fedmqtt.messages import (
    PLAIN,
    WIRE_VERSION,
    Evaluation,
    Measures,
    Sum,
    SumOf,
    Update,
    method_name,
)
from fedmqtt.settings import SettingsError
from fedmqtt.status_pages import CodecCount, Figures
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Shapes


@dataclass(slots=True)
class _Tally:
    """What a round's answers add up to, beside the sum."""

    samples: int = 0
    trained: list[tuple[dict[str, float], int]] = field(default_factory=list)
    measures: dict[ClientId, Measures] = field(default_factory=dict)
    codecs: dict[str, CodecCount] = field(default_factory=dict)


class Answers:
    """The answers of one round after another, for models of `size` numbers.

    Raises SettingsError or UnknownPart on settings that no part takes.
    """

    def __init__(
        self,
        config: FederationConfig,
        size: int,
        terms_max: int,
        folder: Path | None = None,
        memory: Memory | None = None,
        base_of: Callable[[RoundId], Array] | None = None,
        shapes: Shapes = (),
        noise_key: bytes = b"",
        bits: Callable[[], int | None] = lambda: None,
        as_masked: Callable[[], AsMasked | None] = lambda: None,
    ) -> None:
        """`terms_max`: the most answers that any round may fold. `folder`: where a strategy may
        keep a round's updates; the system's for what is temporary, where none is given. `memory`:
        what the strategy remembered when the run was interrupted. `base_of`: the model that an
        earlier round started from, for strategies that need it. `shapes`: of the tensors of
        which the numbers are made, for codecs that go by them. `noise_key`: of differential
        privacy, where there is any. `bits`: of fraction in the exact sum, at a site, whose centre
        says so; `as_masked`: by what it adds up for an answer that is masked."""
        self._config = config
        self._bits_told, self._as_masked = bits, as_masked
        self._size = size
        self._shapes = shapes
        self._codecs = codec_choice.chains(config)
        self._strategy: ModuleType = parts.load(aggregation, config.aggregation)
        self._settings = local_method.strategy_settings(config)
        self._training = local_method.training(config)
        self._method = local_method.asked(config)
        # Before anybody is asked: no later round has more.
        self._bits(terms_max)
        self._weighs_staleness: bool = getattr(self._strategy, "WEIGHS_STALENESS", False)
        self.needs_bases: bool = getattr(self._strategy, "NEEDS_BASES", False)
        """Whether `base_of` is asked for the models of earlier rounds."""
        self._base_of = base_of
        self._plan = noise_checks.of_coordinator(config)
        assert self._plan is None or noise_key, "noise needs a key"
        self._noise_key = noise_key
        self._terms_max = terms_max
        self._folder = folder or Path(gettempdir())
        self._store: ClientStore | None = None
        if hasattr(self._strategy, "stores") and self._strategy.stores(self._settings):
            self._store = ClientStore(folder and folder / "clients", size)
        self._sum: Aggregation | None = None
        self._exact: list[ExactSum] = []
        """That the open round's strategy keeps."""
        self._counted = Counted({})
        self._folded: set[Named] = set()
        """Into the open round's sum."""
        self.memory: Memory = {}
        """What the strategy remembers from the round that closed last."""
        # Other limits, another grid: sums on both do not add up, and all is learned anew.
        fits = memory is not None and counted.fits(memory, self._remembered_bits)
        self._remember(memory if memory is not None and fits else {})
        self._written: Memory = {}
        """The same, once the open round's model is made."""
        self._tally = _Tally()
        self._change: Sent | None = None
        """Of the update that was checked last."""
        self._site_sum: SiteSum | None = None
        """In its place, where that stands for several devices."""
        self._how: AsMasked | None = None
        self._words: WordSum | None = None
        """At a site whose answers are masked: the open round's changes, as it masks them."""
        self._control: Array | None = None
        """Of the same, where its client has one: by how much it differs."""
        self.is_excused = False
        """Whether what is wrong with the answer that was checked last is not its sender's fault."""

    def begin(self, terms_max: int, number: RoundId = UNNUMBERED) -> None:
        """Round `number` is open. What its sum can resolve follows from how many answers may come.

        Raises NoRoom where the strategy needs more of the disk than there is.
        """
        self._terms_max = terms_max
        self.end()
        self._written = dict(self.memory)
        chance = hashlib.sha256(f"{self._config.seed}/aggregate/{number}".encode()).digest()
        round_ = Round(
            size=self._size,
            bits=self._bits(terms_max),
            remembered_bits=self._remembered_bits,
            terms_max=terms_max,
            seed=int.from_bytes(chance[:8]),
            memory=self._written,
            folder=self._folder,
            number=number,
            store=self._store,
            is_awaited=self._is_awaited,
            training=self._training,
            private=self._private(number),
            **({} if self._base_of is None else {"base_of": self._base_of}),
        )
        self._sum = self._build(round_)
        self._exact = round_.exact_sums
        self._how = self._as_masked()
        self._words = self._word_sum()
        self._tally = _Tally()

    def signed_by(self, client: ClientId, author: Author) -> None:
        """Whose signature proved what the client sends: before that is checked."""

    def author(self, client: ClientId) -> Author | None:
        """As it is to be kept with the client's answer; None where nobody asks for it."""
        return None

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        """What is wrong with an answer's numbers, for its sender; nothing if they may count."""
        self.is_excused = False
        if answer.wire != WIRE_VERSION:
            return f"wire version {answer.wire}, not {WIRE_VERSION}"
        if isinstance(answer, Evaluation):
            return self._measures_fault(answer.measures)
        return (
            self._method_fault(answer)
            or self._chain_fault(client, answer)
            or self._change_fault(client, answer)
            or evaluation.metrics_fault(answer.metrics)
            or self._measures_fault(answer.measures)
        )

    def fold(
        self, client: ClientId, update: Update, *, evaluates: bool, staleness: int = 0
    ) -> None:
        """Count the update that was checked last. Its measures count if the client `evaluates`.

        It counts for less the more rounds ago (`staleness`) its own has closed.
        """
        assert self._sum is not None
        # More would overflow: `fraction_bits` left room for so many.
        assert len(self._tally.trained) < self._terms_max, "more answers than the sum has room for"
        # What else it says is as telling as its numbers, and gets no noise.
        samples = update.sample_count if self._plan is None else 1
        metrics = update.metrics if self._plan is None else {}
        if staleness and not self._weighs_staleness:
            samples = late.weight(samples, staleness)
        named = Named(client, RoundId(update.round))
        self.take(named)
        self._folded.add(named)
        if isinstance(self._sum, Hears):
            self._sum.hear(named, update)
        if isinstance(self._sum, TakesControls) and self._control is not None:
            self._sum.fold_control(self._control, named)
        if self._site_sum is not None:
            (exact,) = self._exact
            moves = (
                samples * self._sum.share(named) if isinstance(self._sum, SharesByAge) else samples
            )
            exact.add_total(self._site_sum.on_grid(self.bits, moves), samples)
        else:
            assert self._change is not None
            fold_into(self._sum, self._change, samples, named)
            if self._words is not None:
                measures = update.measures if evaluates else None
                self._words.add(client, self._change.full(), samples, measures)
        self._count(samples, metrics, update.codec, update.payload.nbytes)
        # Who was not asked to evaluate has no say in how good the model is.
        if update.measures is not None and evaluates:
            self.take_measures(client, update.measures)

    def add_sum(self, summed: Sum, evaluates: Collection[ClientId]) -> None:
        """Count what a worker has added up of the open round, by the same settings. Measures count
        of who `evaluates`."""
        (exact,) = self._exact
        room = self._terms_max - len(self._tally.trained)
        assert len(summed.terms) <= room, "more answers than the sum has room for"
        exact.add_total(np.frombuffer(summed.payload, "<i8"), summed.weight)
        for term in summed.terms:
            self._count(term.samples, term.metrics, term.codec, term.size_bytes)
            if term.measures is not None and term.client in evaluates:
                self.take_measures(term.client, term.measures)

    def partial(self, bits: int) -> tuple[Aggregation, ExactSum]:
        """A strategy of its own for some of a round's changes, and the one exact sum that it keeps:
        for `add_sum`, elsewhere."""
        round_ = Round(size=self._size, bits=bits, training=self._training)
        strategy = self._build(round_)
        (exact,) = round_.exact_sums
        return strategy, exact

    def exact(self) -> tuple[Total, int] | None:
        """What the open round's changes add up to, in units of 2^-bits, shape (size,), and their
        weight; None where the strategy keeps no such sum, or nothing is in it."""
        if len(self._exact) != 1 or not self._exact[0].weight:
            return None
        return self._exact[0].total, self._exact[0].weight

    @property
    def words(self) -> Words | None:
        """The same, at a site whose answers are masked: as it masks them."""
        return None if self._words is None else self._words.found

    @property
    def bits(self) -> int:
        """Of fraction, in the exact sum of the open round."""
        return self._bits(self._terms_max)

    @property
    def change(self) -> Sent | None:
        """Of the update that was checked last, where nothing is wrong with it."""
        return self._change

    def take(self, named: Named) -> None:
        """It was accepted, and is folded now or in a later round."""
        if self._method.is_chained:
            self._counted.take(named)

    def leave_out(self, named: Named) -> None:
        """It was accepted, and will not be folded after all."""
        self._counted.drop(named)

    def counted_last(self, client: ClientId) -> RoundId | None:
        """What a receipt tells where clients send differences: see `messages.Receipt`."""
        return self._counted.last(client) if self._method.is_chained else None

    def take_measures(self, client: ClientId, measures: Measures) -> None:
        self._tally.measures[client] = measures

    def let_go(self) -> None:
        """The answer that was checked last is dealt with: its bytes may be used again."""
        self._change = self._control = self._site_sum = None

    @property
    def samples(self) -> int:
        """Trained on, over all updates that counted."""
        return self._tally.samples

    @property
    def codecs(self) -> dict[str, CodecCount]:
        """Of the updates that counted, by codec."""
        return dict(self._tally.codecs)

    def train_metrics(self) -> dict[str, float]:
        return evaluation.weighted_means(self._tally.trained)

    def figures(self) -> Figures | None:
        """Of the model the round started from."""
        return evaluation_groups.summarise(self._tally.measures)

    @property
    def clipped(self) -> Clipped | None:
        """What clients cut off before they masked their answers; None where they told nothing."""
        return None

    @property
    def judges(self) -> bool:
        """Whether an answer is judged by what the sum holds: none can be while it is finished."""
        return isinstance(self._sum, Judges | TakesControls)

    @property
    def control(self) -> Array | None:
        """What goes out with a model that is made now, shape (size,); None where nothing does."""
        if self._method.control == PLAIN.control:
            return None
        found: Array | None = self._strategy.control(self._settings, self.memory)
        return np.zeros(self._size, np.float32) if found is None else found

    def finish(self, base: Array) -> Array:
        """The next model's numbers, shape (size,), from those the round started with.

        May run in a thread beside others that `check`, and nothing more, until it is done.
        Raises KeepModel where these answers make none, and why.
        """
        assert self._sum is not None
        # What cannot be computed is seen below.
        with np.errstate(all="ignore"):
            model = self._sum.finish(base)
        if not np.isfinite(model).all():
            raise KeepModel("the next model would have values that are not finite")
        self._remember(self._written)
        return model

    def keep(self) -> None:
        """The round keeps its model. What clients remember of it now must not be lost here."""
        assert self._sum is not None
        if isinstance(self._sum, Absorbs):
            self._sum.absorb()
            self._remember(self._written)

    @property
    def remembers_clients(self) -> bool:
        """Whether the strategy remembers what each client gave last: clients do too, or it lies in
        a store that has the newest alone."""
        return self._method.is_chained or self._store is not None

    def go_back(self, memory: Memory) -> None:
        """The model is an older one again, beside which the strategy remembered this.

        What it `remembers_clients` by does not go back.
        """
        if not self.remembers_clients:
            self._remember(memory if counted.fits(memory, self._remembered_bits) else {})

    def end(self) -> None:
        """The round is over: what its sum took up is free again."""
        self._settle()
        self._sum = self._words = None

    def _count(self, samples: int, metrics: dict[str, float], codec: str, size_bytes: int) -> None:
        self._tally.samples += samples
        self._tally.trained.append((metrics, samples))
        before = self._tally.codecs.get(codec, CodecCount())
        self._tally.codecs[codec] = before.plus(size_bytes)

    def _word_sum(self) -> WordSum | None:
        return None if self._how is None else WordSum(self._how, self._size)

    def _private(self, number: RoundId) -> PrivateRound | None:
        if self._plan is None:
            return None
        norm_max = self._config.limits.change_max * math.sqrt(self._size)
        return PrivateRound(self._plan, self._noise_key, number, self._written, norm_max)

    def _settle(self) -> None:
        """What was folded is in the memory, or nowhere: a model of it could not be made."""
        for named in self._folded:
            self._counted.drop(named)
        self._folded = set()

    def _build(self, round_: Round) -> Aggregation:
        strategy: Aggregation = self._strategy.build(self._settings, round_)
        return strategy

    def _remember(self, memory: Memory) -> None:
        for array in memory.values():
            array.flags.writeable = False
        self.memory = memory
        if self._method.is_chained:
            self._counted.settle(counted.read(memory))

    def _is_awaited(self, client: ClientId) -> bool:
        return self._counted.has_waiting(client, but=self._folded)

    @property
    def _remembered_bits(self) -> int:
        return remembered_bits(self._config.limits.change_max)

    def _bits(self, terms_max: int) -> int:
        behind_each = max(1, self._config.sites.clients_max)
        room = resolution.fraction_bits(
            self._strategy, self._settings, self._config.limits, terms_max, behind_each
        )
        if (told := self._bits_told()) is None:
            return room
        if room < told:
            raise SettingsError(
                f"{terms_max} devices, each with up to {self._config.limits.samples_max} samples,"
                " are more than the centre leaves room for: lower rounds.cohort or"
                " limits.samples_max, or raise sites.clients_max there"
            )
        return told

    def _measures_fault(self, measures: Measures | None) -> str:
        if measures is None:
            return ""
        return evaluation.fault(measures, self._config.limits.samples_max)

    def _method_fault(self, update: Update) -> str:
        asked = method_name(self._training, self._method)
        if update.method != asked:
            return (
                f"was made by {update.method or 'plain local SGD'!r}, not by"
                f" {asked or 'plain local SGD'!r}: its program may be too old for that"
            )
        if (fault := getattr(self._strategy, "fault", None)) is None:
            return ""
        said: str = fault(self._settings, self._training, update)
        return said

    def _chain_fault(self, client: ClientId, update: Update) -> str:
        if not self._method.is_chained:
            return ""
        if self._counted.is_taken(Named(client, RoundId(update.round))):
            # It was found good when it came; others may have been counted since.
            return ""
        last = self._counted.last(client)
        if update.whole and not last:
            # What it counted is not remembered on either side: by another strategy before, say.
            return ""
        if update.since != last:
            # A device that lost what it remembered, or that was forgotten, has done nothing wrong.
            self.is_excused = True
            fault = f"goes by round {update.since} as the last that was counted; it was {last}"
            if not last:
                fault += (
                    ": what it gave before is not in the sum any more, as it was away for too long"
                    " or the settings have changed; with its next answer it begins anew"
                )
            return fault
        if update.whole and self._counted.has_waiting(client):
            self.is_excused = True
            return f"cannot take the place of round {last}, which is not added up yet"
        return ""

    def _change_fault(self, client: ClientId, update: Update) -> str:
        if isinstance(update.sum_of, SumOf):
            return self._sum_fault(update, update.sum_of)
        limits, method = self._config.limits, self._method
        if method.interval_max and not 1 <= update.interval <= method.interval_max:
            return f"takes part every {update.interval} rounds, as it says; 1 to" + (
                f" {method.interval_max} are taken"
            )
        if (codec := self._codecs.get(update.codec)) is None:
            return f"codec {update.codec!r}, not {' or '.join(map(repr, self._codecs))}"
        if update.sample_count > limits.samples_max:
            return (
                f"claims {update.sample_count} samples; limits.samples_max is {limits.samples_max}"
            )
        chances = codec_chance.of_answer(self._config.seed, update.round, client)
        try:
            change = codec.unpack(update.payload, self._sent_size, chances, self._sent_shapes)
        except ValueError as bad:
            return f"tensors of other shapes: {bad}"
        numbers = change.values
        lowest, highest = float(numbers.min(initial=0)), float(numbers.max(initial=0))
        if not np.isfinite(lowest + highest):
            return "has values that are not finite"
        if max(-lowest, highest) > limits.change_max:
            return (
                f"changes a parameter by {max(-lowest, highest):.4g};"
                f" limits.change_max is {limits.change_max:g}"
            )
        change, control = self._divided(change)
        fault = self._judged(client, update, change, control)
        if not fault:
            self._change, self._control = change, control
        return fault

    def _sum_fault(self, update: Update, sum_of: SumOf) -> str:
        try:
            self._site_sum = totals.read(self._config, update, sum_of, self._size)
        except ValueError as bad:
            return str(bad)
        return ""

    def _judged(self, client: ClientId, update: Update, change: Sent, control: Array | None) -> str:
        if self._sum is None:
            return ""
        fault = ""
        if isinstance(self._sum, Judges):
            fault = self._sum.judge(client, update, change.full())
        if isinstance(self._sum, TakesControls) and control is not None:
            fault = fault or self._sum.judge_control(client, update, control)
        return fault

    @property
    def _sent_size(self) -> int:
        """How many numbers an update has."""
        return self._size if self._method.control == PLAIN.control else 2 * self._size

    @property
    def _sent_shapes(self) -> Shapes:
        return self._shapes if self._sent_size == self._size else 2 * self._shapes

    def _divided(self, sent: Sent) -> tuple[Sent, Array | None]:
        """Into the change of the weights and that of the control."""
        if sent.size == self._size:
            return sent, None
        numbers = sent.full()
        return Sent(numbers[: self._size], self._size), numbers[self._size :]


def fold_into(sums: Aggregation, change: Sent, samples: int, named: Named) -> None:
    """Add a change to what a strategy keeps, without the places that were not sent where it can."""
    if change.places is not None and isinstance(sums, TakesParts):
        sums.fold_part(change.places, change.values, samples, named)
    else:
        sums.fold(change.full(), samples, named)
