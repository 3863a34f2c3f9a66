"""A change as it leaves a device whose answers are masked: nothing of it can be read but its sum
with others.

Its numbers, and what the client counts for, are under the mask; all else that an update may say of
its client's data is left out.
"""

import msgspec

from edge_client.training_job import Job, Mask
from fedmqtt import codec_chance
from fedmqtt.messages import Masking, Update, method_name
from fedmqtt.weights import Array
from learning_tasks.seam import TaskError, Trained


def update(job: Job, mask: Mask, fingerprint: str, change: Array, trained: Trained) -> Update:
    """`change`: what training changed of what is shared, float32, shape (size,).

    Raises TaskError where that cannot be masked.
    """
    # Here: who masks nothing is spared `cryptography`.
    from fedmqtt.masking import client, values

    masking = msgspec.msgpack.decode(mask.masking, type=Masking)
    chances = codec_chance.of_answer(job.seed, job.round, job.client)
    try:
        words = values.to_words(masking, change, trained.sample_count, chances)
        masked, payload = client.mask(
            masking,
            mask.federation,
            job.client,
            job.run,
            job.round,
            job.base,
            words,
            mask.signing_key,
            mask.ticket,
        )
    except ValueError as bad:
        raise TaskError(f"what training changed cannot be masked: {bad}") from bad
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
