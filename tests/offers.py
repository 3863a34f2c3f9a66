"""An offer of a round to ann, for tests that look at a part of it."""

from typing import Any

from msgspec import structs

from fedmqtt import offered_work
from fedmqtt.messages import ModelRef, Offer, Training
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

ANN = ClientId("ann")
RUN = RunId("r")
MODEL = ModelRef(digest=Digest("a" * 64), size_bytes=1, chunk_bytes=1024, fingerprint="f")


def offer(number: int = 1, **changes: Any) -> Offer:
    plain = Offer(
        run=RUN,
        round=RoundId(number),
        task="t",
        model=MODEL,
        train=(ANN,),
        evaluate=(),
        closes_in_s=60.0,
        training=Training(),
        codec="full",
        lanes=1,
        seed=0,
    )
    return offered_work.stamped(structs.replace(plain, **changes))
