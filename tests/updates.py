"""An update, for tests that look at a part of it."""

from typing import Any

import numpy as np
from msgspec import structs

from fedmqtt.messages import Update
from fedmqtt.topics import Digest, RoundId, RunId


def update(number: int = 1, numbers: Any = (), **changes: Any) -> Update:
    """To this round, with these numbers as `full` codes them."""
    plain = Update(
        run=RunId("r.1"),
        round=RoundId(number),
        base=Digest("0" * 64),
        fingerprint="f",
        sample_count=1,
        codec="full",
        payload=memoryview(np.asarray(numbers, np.float32).tobytes()),
    )
    return structs.replace(plain, **changes)
