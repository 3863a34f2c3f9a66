"""The data plane of a masked round: as `answers.py`, of answers of which nobody can read one.

    Update ──check──▶ fault, told to the sender: its form, its signature, and nothing of its numbers
              └─────▶ payload ──fold, once the machine accepts it──▶ masked sum, and a list of whose
    list ──▶ keyholders ──▶ sums of masks ──open──▶ the mean change ──finish──▶ the next model

Where rounds are asynchronous, answers are folded when the round closes, each as often as it is in
the sum then: see `public_weights.py`.

The strategy is given that mean as the one change of the round. What the answers tell beside it is
sums again: how the model that the round started from does, where clients measured it.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from msgspec import structs

from coordinator.aggregation import UNNUMBERED, KeepModel, Memory
from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from coordinator.masking import (
    adaptive_ranges,
    clipped,
    masked_figures,
    masked_noise,
    masked_round,
    public_weights,
)
from coordinator.masking.clipped import Clipped
from coordinator.masking.masked_sum import MaskedSum
from coordinator.noise.differential_privacy import Plan
from coordinator.noise.private_sum import CLIP
from coordinator.rounds import Named
from coordinator.sites import words as site_words
from coordinator.sites.above import AsMasked, Words
from coordinator.sums import staleness
from coordinator.sums.answers import Answers
from coordinator.sums.staleness import StalenessSettings
from fedmqtt import codec_chance, committee_promise, fixed_point
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.envelope import Author
from fedmqtt.masking import attested, commitments, packing, seeds, values
from fedmqtt.masking.attested import NotAttested
from fedmqtt.masking.commitments import SEED_BYTES
from fedmqtt.masking.committee import KeySum
from fedmqtt.masking.measured import MeasuredSum
from fedmqtt.masking.sealing import SEAL_BYTES
from fedmqtt.masking.values import MeanChange, NotASum
from fedmqtt.messages import Answered, Entry, Keyholder, Masking, Update
from fedmqtt.status_pages import CodecCount, Figures
from fedmqtt.topics import ClientId, Digest, RoundId
from fedmqtt.weights import Array, Shapes

_log = logging.getLogger("coordinator")

_THE_SUM = ClientId("sum")
"""In whose name the strategy is given the mean."""


_CURVE = StalenessSettings()
"""By which answers to older models count for less: as late answers do (`late.py`)."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """An answer that is in the sum, and to what."""

    entry: Entry
    round: RoundId
    base: Digest


class MaskedAnswers(Answers):
    def __init__(
        self,
        config: FederationConfig,
        size: int,
        terms_max: int,
        folder: Path | None = None,
        memory: Memory | None = None,
        base_of: Callable[[RoundId], Array] | None = None,
        shapes: Shapes = (),
        as_masked: Callable[[], AsMasked | None] = lambda: None,
        *,
        trust: Trust,
    ) -> None:
        self._trust = trust
        self._noised = masked_noise.of(config, size)
        self._masking: Masking | None = None
        self._running: MaskedSum | KeySum | None = None
        self._mean: MeanChange | None = None
        self._figures: Figures | None = None
        self._left_out: list[str] = []
        """Of the figures of the round before."""
        self._clipped: Clipped | None = None
        self._why_not = "its sum was not opened"
        self._mixes = masked_round.mixes_rounds(config)
        self._times: dict[Named, int] | None = None
        """Where rounds are asynchronous, once it is known of which answers the sum will be."""
        self._entries: dict[ClientId, _Counted] = {}
        self._authors: dict[ClientId, Author] = {}
        """Of what came in the open round."""
        self._payload_bytes = 0
        super().__init__(
            config, size, terms_max, folder, memory, base_of, shapes, as_masked=as_masked
        )

    def begin(self, terms_max: int, number: RoundId = UNNUMBERED) -> None:
        self._number = number
        self._entries = {}
        self._times = None
        if not self._mixes:
            self._authors = {}
        self._mean = self._running = self._figures = self._clipped = None
        super().begin(terms_max, number)

    def mask(self, masking: Masking) -> None:
        """As the round that has begun is masked: before anything of it is checked."""
        self._masking = masking
        self._masking_digest = attested.masking_digest(masking)
        if committee_promise.is_by_committee(masking):
            self._running = KeySum(masking, self._config.name, self.body, self.tail)
        else:
            self._running = MaskedSum(self.body, self.tail, masking.bits)
        self._payload_bytes = self._running.payload_bytes

    def masking_by(self, keyholders: tuple[Keyholder, ...]) -> Masking:
        """How the next round is masked, as far as it can be said now."""
        masking = masked_round.masking(self._config, keyholders, self.ranges)
        if (how := self._as_masked()) is not None:
            # Of the rounds in which something is measured, as the centre says.
            asked = how.masking
            masking = structs.replace(masking, metrics=asked.metrics, classes=asked.classes)
        return masking if self._noised is None else self._noised.masking(masking, self._clip)

    @property
    def plan(self) -> Plan | None:
        """What noise by keyholders promises; None where they add none."""
        return None if self._noised is None else self._noised.plan

    @property
    def body(self) -> int:
        """How many values a payload has."""
        assert self._masking is not None
        return values.body_size(self._masking, self._size)

    @property
    def tail(self) -> int:
        """How many whole numbers stand behind them."""
        assert self._masking is not None
        return values.tail_size(self._masking, self.body)

    @property
    def opened(self) -> tuple[int, int, int]:
        """What keyholders tell of: packed words, whole ones, and the bits of a packed one."""
        assert self._masking is not None
        return committee_promise.opened(self._masking, self.body, self.tail)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of the answers that count, in an order that is fixed."""
        return tuple(one.entry for one in self._in_order)

    @property
    def answered(self) -> tuple[Answered, ...]:
        """What those answer, in the same order; none where rounds are synchronous."""
        if not self._mixes:
            return ()
        of = groupby(self._in_order, lambda one: (one.round, one.base))
        return tuple(Answered(*offer, len([*some])) for offer, some in of)

    @property
    def _in_order(self) -> list["_Counted"]:
        return sorted(
            self._entries.values(), key=lambda one: (one.round, one.base, one.entry.client)
        )

    def named(self, clients: Collection[ClientId]) -> frozenset[Named]:
        """The answers of these clients that count."""
        return frozenset(
            Named(client, counted.round)
            for client, counted in self._entries.items()
            if client in clients
        )

    # How often each is in the sum, where rounds are asynchronous

    def weigh(self, counted: Iterable[Named]) -> frozenset[Named]:
        """The sum will be of these: from now on each that is folded is added as often as it should
        be, and of a client's several the newest. The others, which are in no sum."""
        newest: dict[ClientId, RoundId] = {}
        answers = frozenset(counted)
        for one in answers:
            newest[one.client] = max(one.round, newest.get(one.client, one.round))
        self._times = self._weighed(Named(*one) for one in newest.items())
        return answers - self._times.keys()

    def weigh_again(self) -> dict[Named, int]:
        """Once some were left out: those of the others that are in the sum another number of times
        from now on, and how often more than now (see `count_again`)."""
        if self._times is None:
            return {}
        now = {Named(client, one.round): one.entry.times for client, one in self._entries.items()}
        self._times = self._weighed(now)
        return {one: often - now[one] for one, often in self._times.items() if often != now[one]}

    def count_again(self, client: ClientId, update: Update, more: int) -> None:
        """It is in the sum so many times more, or less."""
        assert self._running is not None
        self._running.add(update.payload, more)
        counted = self._entries[client]
        entry = structs.replace(counted.entry, times=counted.entry.times + more)
        self._entries[client] = replace(counted, entry=entry)

    def _weighed(self, answers: Iterable[Named]) -> dict[Named, int]:
        weights = {one: staleness.weight(_CURVE, self._number - one.round) for one in answers}
        return public_weights.times(weights, self._config.privacy.floor)

    # One answer

    def signed_by(self, client: ClientId, author: Author) -> None:
        self._authors[client] = author

    def author(self, client: ClientId) -> Author | None:
        return self._authors.get(client)

    def fold(
        self, client: ClientId, update: Update, *, evaluates: bool, staleness: int = 0
    ) -> None:
        assert self._running is not None and update.masked is not None
        if self._mixes and self._times is None:
            # It is read again from the ledger, when it is known how often it is in the sum.
            return
        times = 1
        if self._times is not None:
            times = self._times.get(Named(client, update.round), 0)
            if not times:
                # Another of its client's is newer.
                return
        # More would wrap: `bits` left room for so many.
        assert len(self._entries) < self._terms_max, "more answers than the sum has room for"
        assert client not in self._entries
        self._running.add(update.payload, times)
        entry = self._entry(client, update, times)
        self._entries[client] = _Counted(entry, update.round, update.base)

    def take_out(self, client: ClientId, update: Update) -> None:
        """What was folded of this client: the sum is as if it had never come."""
        assert self._running is not None
        self._running.add(update.payload, -self._entries[client].entry.times)
        del self._entries[client]

    def _change_fault(self, client: ClientId, update: Update) -> str:
        return (
            _told_fault(update)
            or self._form_fault(update)
            or self._attestation_fault(client, update)
        )

    def _form_fault(self, update: Update) -> str:
        masked, masking = update.masked, self._masking
        if masked is None or masking is None:
            return (
                "can be read, and answers to this round are masked: its program may be too old for"
                " that"
            )
        if update.codec != "full":
            return f"codec {update.codec!r}, not 'full'"
        held = seeds.held_by(masking.places, masking.tolerated)
        wanted = [
            SEED_BYTES * len(held[keyholder.place]) + SEAL_BYTES for keyholder in masking.keyholders
        ]
        if (found := [len(one) for one in masked.sealed]) != wanted:
            return f"seals {found} bytes to keyholders, not {wanted}"
        if wrong := commitments.fault(masking, masked.commitments):
            return wrong
        if update.payload.nbytes != self._payload_bytes:
            return f"tensors of other shapes: {update.payload.nbytes} bytes where" + (
                f" {self._payload_bytes} belong"
            )
        return ""

    def _attestation_fault(self, client: ClientId, update: Update) -> str:
        if client not in self._authors:
            return "is not signed by its device"
        try:
            attested.check(
                self._config.name,
                self._trust.federation_key,
                update.run,
                update.round,
                update.base,
                self._masking_digest,
                self._entry(client, update),
            )
        except NotAttested as bad:
            return str(bad)
        return ""

    def _entry(self, client: ClientId, update: Update, times: int = 1) -> Entry:
        assert update.masked is not None
        payload = hashlib.sha256(update.payload).digest()
        return Entry(client, times, payload, update.masked, *self._authors[client])

    # Their sum

    def open(self, mask_sums: Iterable[packing.Words]) -> MeanChange:
        """What the answers come to without these masks, one sum of each seed's. Raises NotASum."""
        assert self._running is not None and self._masking is not None
        words = self._running.open(mask_sums)
        shared = codec_chance.of_answer(self._config.seed, self._number, _THE_SUM).shared
        mean = values.from_sum(self._masking, words, self._size, self._terms, shared)
        if np.abs(mean.change).max(initial=0.0) > self._change_max:
            raise NotASum("a sum of larger changes than clients can send")
        return mean if self._how is None else replace(mean, words=words)

    def take_mean(self, mean: MeanChange) -> None:
        """That is it: `finish` makes the model of it."""
        self._mean = mean
        if mean.measured is not None:
            self._take_measured(mean.measured, mean.clients)
        if self._noised is None:
            self._clipped = self._clipped_in(mean)
            if said := self._clipped.sentence():
                _log.info("round %d: %s", self._number, said)

    def _take_measured(self, found: MeasuredSum, clients: int) -> None:
        """Of so many devices, some of which have measured."""
        assert self._masking is not None
        floor = self._masking.floor
        self._figures, left_out = masked_figures.figures(found, clients, floor)
        if left_out != self._left_out:
            # Once: of most it is so in each round.
            _log.warning("round %d: %s", self._number, "; ".join(left_out) or "all is told again")
        self._left_out = left_out

    def _clipped_in(self, mean: MeanChange) -> Clipped:
        # Of few clients that measured nothing is told.
        told = mean.measured if self._figures is not None else None
        return Clipped(
            numbers=clipped.share(mean.clipped, self.body * mean.clients),
            norms=clipped.share(mean.norms_clipped, mean.clients),
            measures=0.0 if told is None else clipped.share(told.clipped, told.clients),
        )

    @property
    def _terms(self) -> int:
        """Of the sum: each answer as often as it is in it."""
        return sum(one.entry.times for one in self._entries.values())

    @property
    def ranges(self) -> tuple[float, ...]:
        """Of the values in the next round, by block; none while they are not known."""
        chosen = self._config.privacy
        return adaptive_ranges.remembered(self.memory, chosen.change_max, chosen.share)

    def give_up(self, reason: str) -> None:
        """Nobody opens the sum: `finish` makes no model, and says why."""
        self._why_not = reason

    @property
    def words(self) -> Words | None:
        how, masking, mean = self._how, self._masking, self._mean
        if how is None or masking is None or mean is None:
            return None
        return site_words.of_opened(masking, mean, self._size, self._number, how)

    def finish(self, base: Array) -> Array:
        assert self._sum is not None
        if self._mean is None:
            raise KeepModel(self._why_not)
        if (norms := self._mean.block_norms).size:
            chosen = self._config.privacy
            following = adaptive_ranges.following(
                norms, chosen.change_max, chosen.share, self.ranges
            )
            self._written.update(following)
        self._move_clip(self._mean.balance)
        change = self._mean.change.astype(np.float32)
        self._sum.fold(change, 1, Named(_THE_SUM, self._number))
        return super().finish(base)

    def figures(self) -> Figures | None:
        return self._figures

    @property
    def clipped(self) -> Clipped | None:
        return self._clipped

    @property
    def codecs(self) -> dict[str, CodecCount]:
        count = len(self._entries)
        if not count:
            return {}
        return {"full": CodecCount(updates=count, bytes=count * self._payload_bytes)}

    @property
    def _clip(self) -> float:
        """Norm of the next round's changes at most, where there is noise."""
        assert self._noised is not None
        if not self._noised.plan.adaptive or (kept := self.memory.get(CLIP)) is None:
            return self._noised.plan.clip_norm
        return float(kept[0])

    def _move_clip(self, balance: float) -> None:
        if self._noised is None or not self._noised.plan.adaptive:
            return
        assert self._masking is not None
        # From what the round that ends was masked by: so it was written down with its offer.
        moved = self._noised.following(self._masking.norm_max, balance)
        self._written[CLIP] = np.array([moved], np.float64)

    def _word_sum(self) -> None:
        # Keyholders open it.
        return None

    def _private(self, number: RoundId) -> None:
        # The sum has its noise when it comes.
        return None

    def _bits(self, terms_max: int) -> int:
        # Of the one mean.
        return fixed_point.fraction_bits(self._change_max, 1, 1)

    @property
    def _change_max(self) -> float:
        """Of one number of the mean: less than what is left of the largest values."""
        chosen = self._config.privacy
        # Rounding may take a value one level further. What is drawn stands for a run of numbers,
        # one more at most than there are on average; a rotation may bring a block's norm together.
        level = 1 + chosen.weight_max / values.level_max(chosen.value_bits)
        if self._noised is not None:
            # No sum exceeds its modulus, and the mean is over as many as it takes to open one.
            level = 2.0 ** (self._noised.bits - 1) / values.level_max(chosen.value_bits)
            level *= self._noised.clip_max / self._noised.plan.clip_norm / chosen.floor
        share = 1.0 if chosen.share == 1 else 1 / chosen.share + 2
        rotated = 1 + math.isqrt(BLOCK) if chosen.rotate else 1
        return chosen.change_max * level * share * rotated


def _told_fault(update: Update) -> str:
    """What it tells of its client beside the sum."""
    told = [
        name
        for name, silent in (
            ("sample_count", 1),
            ("metrics", {}),
            ("measures", None),
            ("steps", 0),
            ("base_loss", None),
            ("since", 0),
            ("whole", False),
            ("interval", 1.0),
        )
        if getattr(update, name) != silent
    ]
    if not told:
        return ""
    return f"tells {' and '.join(told)} in the clear, and answers to this round tell nothing"
