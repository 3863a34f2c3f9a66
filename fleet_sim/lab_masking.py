"""Masked rounds in the lab: the numbers that a masked round makes, its bytes, and no masks.

    change ──values.to_words──▶ payload ──▶ MaskedAnswers ──▶ the sum, as if it had been opened

Masks cancel to the last bit, whoever opens a sum (`tests/fedmqtt/masking/test_sum.py`): what is
learned is the same without them, and a run of the lab can be repeated, which fresh seeds could not.
All else is the code of clients and coordinators: clipping, weights, rounding, the share of numbers
and their rotation, whole numbers that do not wrap, what a sum must be, and what becomes of it. What
stands in the place of seals, commitments and signatures is as long as they are.

Keyholders sign a key for each round, which devices check as they do at a broker. They have no
network of their own: they are always there, and open a sum in `masking.opening_s`.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator

import numpy as np

from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from coordinator.masking import masked_round
from coordinator.masking.masked_answers import MaskedAnswers
from coordinator.sums.answers import Answers
from edge_client import masked_answer
from edge_client.privacy import Terms
from edge_client.training_job import Job
from fedmqtt import signing
from fedmqtt.envelope import KEY_BYTES, TICKET_BYTES, Author
from fedmqtt.masking import commitments, noise, packing, seeds, values
from fedmqtt.masking.commitments import SEED_BYTES
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import SEAL_BYTES
from fedmqtt.messages import COMMITMENT_BYTES, Keyholder, Masked, Masking, Measures, Update
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId
from fedmqtt.weights import Array
from learning_tasks.seam import TaskError, Trained

NOBODY = Trust(federation_key="", keyholders=())
"""What its coordinator is told to believe: all is signed by hand."""
_UNSIGNED = Author(bytes(KEY_BYTES), bytes(TICKET_BYTES))


class LabKeyholders:
    """Of a federation; their keys follow from its seed."""

    def __init__(self, config: FederationConfig) -> None:
        """Raises SettingsError."""
        self._config = config
        self._round_keys = 0
        places, _ = masked_round.places(config)
        self._private = {
            ClientId(f"keyholder-{place}"): b64encode(self._drawn(f"key/{place}")).decode()
            for place in range(places)
        }

    @property
    def terms(self) -> Terms:
        """Of a device that knows them, and that has what masks an answer."""
        pinned = {name: signing.public_key(key) for name, key in self._private.items()}
        return Terms(federation=self._config.name, lacking="", pinned=pinned)

    def masking(self) -> Masking:
        """Of the next round, by keys that no round has had."""
        self._round_keys = number = self._round_keys + 1
        keyholders = []
        for place, (name, private) in enumerate(self._private.items()):
            public = self._drawn(f"round/{number}/{place}")
            key = signing.round_key(private, self._config.name, name, number, public)
            keyholders.append(Keyholder(name, place, key))
        return masked_round.masking(self._config, tuple(keyholders))

    def _drawn(self, what: str) -> bytes:
        return hashlib.sha256(f"{self._config.seed}/keyholders/{what}".encode()).digest()


class LabMaskedAnswers(MaskedAnswers):
    """Of clients that need not show who they are."""

    def open_unmasked(self) -> None:
        """What keyholders would open is there already, but for the noise that they add."""
        self.take_mean(self.open(self._noise()))

    def _noise(self) -> Iterator[Words]:
        """Less than no masks, under each seed."""
        masking = self._masking
        if masking is None or not masking.noise:
            return
        for seed in range(seeds.count(masking.places, masking.tolerated)):
            words = np.zeros(self.body + self.tail, np.uint32)
            # Nobody is hidden here: the same seed gives the same noise.
            said = f"{self._config.seed}/{self._number}/noise/{seed}"
            noise.subtract(words, masking, hashlib.sha256(said.encode()).digest())
            yield words

    def figures(self) -> Figures | None:
        # The judge tells them as they are: its data is nobody's.
        return super().figures() or Answers.figures(self)

    def fold(
        self, client: ClientId, update: Update, *, evaluates: bool, staleness: int = 0
    ) -> None:
        self.signed_by(client, _UNSIGNED)
        super().fold(client, update, evaluates=evaluates, staleness=staleness)

    def _attestation_fault(self, client: ClientId, update: Update) -> str:
        return ""


def update(
    job: Job,
    masking: Masking,
    fingerprint: str,
    change: Array,
    trained: Trained,
    measures: Measures | None = None,
) -> Update:
    """As `edge_client.masked_answer.update`, but for the masks. Raises TaskError."""
    try:
        words = masked_answer.words(job, masking, change, trained, measures)
    except ValueError as bad:
        raise TaskError(f"what training changed cannot be masked: {bad}") from bad
    payload = packing.to_payload(words, values.body_size(masking, change.size), masking.bits)
    return masked_answer.unseen(job, fingerprint, _seals(masking), payload)


def _seals(masking: Masking) -> Masked:
    """As long as they are."""
    held = seeds.held_by(masking.places, masking.tolerated)
    sealed = (SEED_BYTES * len(held[one.place]) + SEAL_BYTES for one in masking.keyholders)
    return Masked(
        exchange=bytes(32),
        sealed=tuple(map(bytes, sealed)),
        signature=bytes(64),
        commitments=bytes(COMMITMENT_BYTES * len(commitments.numbers(masking))),
    )
