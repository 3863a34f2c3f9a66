"""The data plane of a round: bytes become changes, changes one exact sum, the sum the next model.

    Update ──check──▶ fault, told to the sender
              └─────▶ change ──fold, once the machine accepts it──▶ sum ──finish──▶ next model

The machine decides who counts; here is what counts. What a strategy remembers goes from one round
to the next in `memory`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType

import numpy as np

from coordinator import aggregation, evaluation, late
from coordinator.aggregation import UNNUMBERED, Aggregation, KeepModel, Memory, Round
from coordinator.config import FederationConfig
from coordinator.rounds import Named
from fedmqtt import codec_chain, codec_chance, parts, settings
from fedmqtt.fixed_point import fraction_bits
from fedmqtt.messages import WIRE_VERSION, Evaluation, Measures, Update
from fedmqtt.settings import SettingsError
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array


@dataclass(slots=True)
class _Tally:
    """What a round's answers add up to, beside the sum."""

    samples: int = 0
    trained: list[tuple[dict[str, float], int]] = field(default_factory=list)
    measures: dict[ClientId, Measures] = field(default_factory=dict)


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
    ) -> None:
        """`terms_max`: the most answers that any round may fold. `folder`: where a strategy may
        keep a round's updates; the system's for what is temporary, where none is given. `memory`:
        what the strategy remembered when the run was interrupted. `base_of`: the model that an
        earlier round started from, for strategies that need it."""
        self._config = config
        self._size = size
        self._codec = codec_chain.read(config.codec)
        self._strategy: ModuleType = parts.load(aggregation, config.aggregation)
        self._settings = settings.convert(
            config.aggregation_settings, self._strategy.Settings, "aggregation_settings"
        )
        try:
            self._bits(terms_max)
        except ValueError as bad:
            raise SettingsError(str(bad)) from bad
        self._weighs_staleness: bool = getattr(self._strategy, "WEIGHS_STALENESS", False)
        self.needs_bases: bool = getattr(self._strategy, "NEEDS_BASES", False)
        """Whether `base_of` is asked for the models of earlier rounds."""
        self._base_of = base_of
        self._terms_max = terms_max
        self._folder = folder or Path(gettempdir())
        self._sum: Aggregation | None = None
        self.memory: Memory = {}
        """What the strategy remembers from the newest model's round."""
        self._remember(memory or {})
        self._written: Memory = {}
        """The same, once the open round's model is made."""
        self._tally = _Tally()
        self._change: Array | None = None
        """Of the update that was checked last."""

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
            terms_max=terms_max,
            seed=int.from_bytes(chance[:8]),
            memory=self._written,
            folder=self._folder,
            number=number,
            **({} if self._base_of is None else {"base_of": self._base_of}),
        )
        self._sum = self._strategy.build(self._settings, round_)
        self._tally = _Tally()

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        """What is wrong with an answer's numbers, for its sender; nothing if they may count."""
        if answer.wire != WIRE_VERSION:
            return f"wire version {answer.wire}, not {WIRE_VERSION}"
        if isinstance(answer, Evaluation):
            return self._measures_fault(answer.measures)
        return (
            self._change_fault(client, answer)
            or evaluation.metrics_fault(answer.metrics)
            or self._measures_fault(answer.measures)
        )

    def fold(
        self, client: ClientId, update: Update, *, evaluates: bool, staleness: int = 0
    ) -> None:
        """Count the update that was checked last. Its measures count if the client `evaluates`.

        It counts for less the more rounds ago (`staleness`) its own has closed.
        """
        assert self._change is not None and self._sum is not None
        # More would overflow: `fraction_bits` left room for so many.
        assert len(self._tally.trained) < self._terms_max, "more answers than the sum has room for"
        samples = update.sample_count
        if staleness and not self._weighs_staleness:
            samples = late.weight(samples, staleness)
        self._sum.fold(self._change, samples, Named(client, RoundId(update.round)))
        self._tally.samples += samples
        self._tally.trained.append((update.metrics, samples))
        # Who was not asked to evaluate has no say in how good the model is.
        if update.measures is not None and evaluates:
            self.take_measures(client, update.measures)

    def take_measures(self, client: ClientId, measures: Measures) -> None:
        self._tally.measures[client] = measures

    def let_go(self) -> None:
        """The answer that was checked last is dealt with: its bytes may be used again."""
        self._change = None

    @property
    def samples(self) -> int:
        """Trained on, over all updates that counted."""
        return self._tally.samples

    def train_metrics(self) -> dict[str, float]:
        return evaluation.weighted_means(self._tally.trained)

    def figures(self) -> Figures | None:
        """Of the model the round started from."""
        return evaluation.summarise(self._tally.measures)

    def finish(self, base: Array) -> Array:
        """The next model's numbers, shape (size,), from those the round started with.

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

    def end(self) -> None:
        """The round is over: what its sum took up is free again."""
        self._sum = None

    def _remember(self, memory: Memory) -> None:
        for array in memory.values():
            array.flags.writeable = False
        self.memory = memory

    def _bits(self, terms_max: int) -> int:
        limits = self._config.limits
        return fraction_bits(limits.change_max, limits.samples_max, terms_max)

    def _measures_fault(self, measures: Measures | None) -> str:
        if measures is None:
            return ""
        return evaluation.fault(measures, self._config.limits.samples_max)

    def _change_fault(self, client: ClientId, update: Update) -> str:
        limits = self._config.limits
        if update.codec != self._codec.text:
            return f"codec {update.codec!r}, not {self._codec.text!r}"
        if update.sample_count > limits.samples_max:
            return (
                f"claims {update.sample_count} samples; limits.samples_max is {limits.samples_max}"
            )
        chances = codec_chance.of_answer(self._config.seed, update.round, client)
        try:
            change = self._codec.decode(update.payload, self._size, chances)
        except ValueError as bad:
            return f"tensors of other shapes: {bad}"
        lowest, highest = float(change.min(initial=0)), float(change.max(initial=0))
        if not np.isfinite(lowest + highest):
            return "has values that are not finite"
        if max(-lowest, highest) > limits.change_max:
            return (
                f"changes a parameter by {max(-lowest, highest):.4g};"
                f" limits.change_max is {limits.change_max:g}"
            )
        self._change = change
        return ""
