"""What answers contain and models are made of: headers in a storm, tensors in the lab.

The machines decide who counts; a data plane does what `coordinator/sums/answers.py` and the model's
chunks are for in the real coordinator. `Headers` has no numbers at all, so that ten thousand
clients cost little and every promise can be checked; `lab_tensors.py` has real ones.
"""

import hashlib
from collections.abc import Collection
from typing import Protocol

from coordinator.rounds import Close, Named, State
from fedmqtt.messages import Evaluation, Masking, ModelRef, Offer, Update
from fedmqtt.topics import ClientId, Digest, RoundId

NONSENSE = memoryview(b"nan")
"""The payload of an update that is not a finite number."""

INITIAL_MODEL = Digest(hashlib.sha256(b"initial").hexdigest())
FINGERPRINT = "f"


class DataPlane(Protocol):
    @property
    def initial(self) -> Digest:
        """The first model."""

    def model(self, digest: Digest, chunk_bytes: int) -> ModelRef:
        """What the offer says of a model, published in chunks of at most so many bytes."""

    def dress(self, offer: Offer) -> Offer:
        """The offer as it is published: with the model in it, where that is small."""

    def begin(self, number: RoundId, terms_max: int) -> None:
        """A round is open, into which so many answers may be folded."""

    def adapted(self, masking: Masking) -> Masking:
        """How the next round is masked, by what came of those before: ranges, a clip norm."""

    def mask(self, masking: Masking) -> None:
        """So the answers to the round that has begun are masked."""

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        """What is wrong with a client's; nothing if it may count."""

    @property
    def is_excused(self) -> bool:
        """Whether what `check` found last is nobody's fault."""

    def accept(self, client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
        """It counts in the open round; with its measures if the client was asked for them."""

    def hold(self, named: Named, answer: Update) -> None:
        """It came late, and will count in the round that names it when it closes."""

    def counted_last(self, client: ClientId) -> RoundId | None:
        """What receipts tell of it where clients send differences."""

    def keep(self) -> None:
        """The open round keeps its model."""

    def restart(self, state: State) -> None:
        """The coordinator was killed, and goes on from there: what was not on its disk is gone."""

    def still_fetched(self, fetched: Collection[Digest]) -> None:
        """These are the models that somebody may be fetching."""

    def next_model(self, base: Digest, close: Close) -> Digest:
        """The model that the round makes; `base` where its answers make none."""


class Headers:
    """The same base and the same answers make the same model: that is all that is known of it."""

    initial = INITIAL_MODEL

    def model(self, digest: Digest, chunk_bytes: int) -> ModelRef:
        return ModelRef(
            digest=digest, size_bytes=8, chunk_bytes=chunk_bytes, fingerprint=FINGERPRINT
        )

    def dress(self, offer: Offer) -> Offer:
        return offer

    def begin(self, number: RoundId, terms_max: int) -> None:
        pass

    def adapted(self, masking: Masking) -> Masking:
        return masking

    def mask(self, masking: Masking) -> None:
        pass

    def check(self, client: ClientId, answer: Update | Evaluation) -> str:
        is_nonsense = isinstance(answer, Update) and answer.payload == NONSENSE
        return "not a finite number" if is_nonsense else ""

    @property
    def is_excused(self) -> bool:
        return False

    def accept(self, client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
        pass

    def hold(self, named: Named, answer: Update) -> None:
        pass

    def counted_last(self, client: ClientId) -> RoundId | None:
        return None

    def keep(self) -> None:
        pass

    def restart(self, state: State) -> None:
        pass

    def still_fetched(self, fetched: Collection[Digest]) -> None:
        pass

    def next_model(self, base: Digest, close: Close) -> Digest:
        folded = [*sorted(close.answered), *sorted((one.client, one.round) for one in close.held)]
        return Digest(hashlib.sha256(f"{base} {folded}".encode()).hexdigest())
