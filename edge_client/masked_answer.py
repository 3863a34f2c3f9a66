"""A change as it leaves a device whose answers are masked: nothing of it can be read but its sum
with others.

Its numbers, what the client counts for and what it measured are under the mask; all else that an
update may say of its client's data is left out.
"""

from typing import TYPE_CHECKING

import msgspec

from edge_client.training_job import Job, Mask
from fedmqtt import codec_chance
from fedmqtt.messages import Masked, Masking, Measures, Update, method_name
from fedmqtt.weights import Array
from learning_tasks.seam import TaskError, Trained

if TYPE_CHECKING:
    from fedmqtt.masking.packing import Words


def masking_of(mask: Mask) -> Masking:
    return msgspec.msgpack.decode(mask.masking, type=Masking)


def update(
    job: Job,
    mask: Mask,
    fingerprint: str,
    change: Array,
    trained: Trained,
    measures: Measures | None = None,
) -> Update:
    """`change`: what training changed of what is shared, float32, shape (size,).

    Raises TaskError where that cannot be masked.
    """
    masking = masking_of(mask)
    try:
        found = words(job, masking, change, trained, measures)
    except ValueError as bad:
        raise _not_masked(bad) from bad
    return of_words(job, mask, fingerprint, found, change.size)


def of_words(job: Job, mask: Mask, fingerprint: str, numbers: "Words", size: int) -> Update:
    """The answer in which these are masked, in place: body and tail, of a change of so many
    numbers. Raises TaskError where that cannot be."""
    # Here: who masks nothing is spared `cryptography`.
    from fedmqtt.masking import client, values

    masking = masking_of(mask)
    try:
        masked, payload = client.mask(
            masking,
            mask.federation,
            job.client,
            job.run,
            job.round,
            job.base,
            numbers,
            values.body_size(masking, size),
            mask.signing_key,
        )
    except ValueError as bad:
        raise _not_masked(bad) from bad
    return unseen(job, fingerprint, masked, payload)


def words(
    job: Job,
    masking: Masking,
    change: Array,
    trained: Trained,
    measures: Measures | None = None,
) -> "Words":
    """What is masked, shape (body + tail,). Raises ValueError where that cannot be."""
    from fedmqtt.masking import values

    chances = codec_chance.of_answer(job.seed, job.round, job.client)
    return values.to_words(masking, change, trained.sample_count, chances, measures)


def unseen(job: Job, fingerprint: str, masked: Masked, payload: bytes) -> Update:
    """The answer of which nothing is to be read but the sum with others'."""
    return Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=fingerprint,
        # All that is told of its data is under the mask.
        sample_count=1,
        codec=job.codec,
        method=method_name(job.training, job.method),
        masked=masked,
        payload=memoryview(payload),
    )


def _not_masked(bad: ValueError) -> TaskError:
    return TaskError(f"what training changed cannot be masked: {bad}")
