"""The data plane of a masked round: as `answers.py`, of answers of which nobody can read one.

    Update ──check──▶ fault, told to the sender: its form, its signature, and nothing of its numbers
              └─────▶ payload ──fold, once the machine accepts it──▶ masked sum, and a list of whose
    list ──▶ keyholders ──▶ sums of masks ──open──▶ the mean change ──finish──▶ the next model

The strategy is given that mean as the one change of the round. What the answers tell beside it is
nothing: no samples, no metrics.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from coordinator.aggregation import UNNUMBERED, KeepModel, Memory
from coordinator.answers import Answers
from coordinator.config import FederationConfig
from coordinator.masked_sum import MaskedSum
from coordinator.rounds import Named
from coordinator.trust import Trust
from fedmqtt import codec_chance, fixed_point
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.masking import attested, packing, seeds, values
from fedmqtt.masking.attested import NotAttested
from fedmqtt.masking.masks import SEED_BYTES
from fedmqtt.masking.sealing import SEAL_BYTES
from fedmqtt.masking.values import MeanChange, NotASum
from fedmqtt.messages import Entry, Masking, Update
from fedmqtt.status_pages import CodecCount
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Shapes

_THE_SUM = ClientId("sum")
"""In whose name the strategy is given the mean."""


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
        *,
        trust: Trust,
    ) -> None:
        self._trust = trust
        self._masking: Masking | None = None
        self._running: MaskedSum | None = None
        self._mean: MeanChange | None = None
        self._why_not = "its sum was not opened"
        self._entries: dict[ClientId, Entry] = {}
        self._payload_bytes = 0
        super().__init__(config, size, terms_max, folder, memory, base_of, shapes)

    def begin(self, terms_max: int, number: RoundId = UNNUMBERED) -> None:
        self._number = number
        self._entries = {}
        self._mean = self._running = None
        super().begin(terms_max, number)

    def mask(self, masking: Masking) -> None:
        """As the round that has begun is masked: before anything of it is checked."""
        self._masking = masking
        self._masking_digest = attested.masking_digest(masking)
        self._running = MaskedSum(self.body, values.TAIL, masking.bits)
        self._payload_bytes = packing.payload_bytes(self.body, values.TAIL, masking.bits)

    @property
    def body(self) -> int:
        """How many values a payload has."""
        assert self._masking is not None
        return values.body_size(self._masking, self._size)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of the answers that count, in an order that is fixed."""
        return tuple(self._entries[client] for client in sorted(self._entries))

    # One answer

    def fold(
        self, client: ClientId, update: Update, *, evaluates: bool, staleness: int = 0
    ) -> None:
        assert self._running is not None and update.masked is not None
        # More would wrap: `bits` left room for so many.
        assert len(self._entries) < self._terms_max, "more answers than the sum has room for"
        assert not staleness and client not in self._entries
        self._running.add(update.payload)
        self._entries[client] = _entry(client, update)

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
        if update.payload.nbytes != self._payload_bytes:
            return f"tensors of other shapes: {update.payload.nbytes} bytes where" + (
                f" {self._payload_bytes} belong"
            )
        return ""

    def _attestation_fault(self, client: ClientId, update: Update) -> str:
        try:
            attested.check(
                self._config.name,
                self._trust.federation_key,
                update.run,
                update.round,
                update.base,
                self._masking_digest,
                _entry(client, update),
            )
        except NotAttested as bad:
            return str(bad)
        return ""

    # Their sum

    def open(self, mask_sums: Iterable[packing.Words]) -> MeanChange:
        """What the answers come to without these masks, one sum of each seed's. Raises NotASum."""
        assert self._running is not None and self._masking is not None
        words = self._running.open(mask_sums)
        shared = codec_chance.of_answer(self._config.seed, self._number, _THE_SUM).shared
        mean = values.from_sum(self._masking, words, self._size, len(self._entries), shared)
        if np.abs(mean.change).max(initial=0.0) > self._change_max:
            raise NotASum("a sum of larger changes than clients can send")
        return mean

    def take_mean(self, mean: MeanChange) -> None:
        """That is it: `finish` makes the model of it."""
        self._mean = mean

    def give_up(self, reason: str) -> None:
        """Nobody opens the sum: `finish` makes no model, and says why."""
        self._why_not = reason

    def finish(self, base: Array) -> Array:
        assert self._sum is not None
        if self._mean is None:
            raise KeepModel(self._why_not)
        change = self._mean.change.astype(np.float32)
        self._sum.fold(change, 1, Named(_THE_SUM, self._number))
        return super().finish(base)

    @property
    def codecs(self) -> dict[str, CodecCount]:
        count = len(self._entries)
        if not count:
            return {}
        return {"full": CodecCount(updates=count, bytes=count * self._payload_bytes)}

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
        share = 1.0 if chosen.share == 1 else 1 / chosen.share + 2
        rotated = 1 + math.isqrt(BLOCK) if chosen.rotate else 1
        return chosen.change_max * level * share * rotated


def _entry(client: ClientId, update: Update) -> Entry:
    assert update.masked is not None
    return Entry(client, 1, hashlib.sha256(update.payload).digest(), update.masked)


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
