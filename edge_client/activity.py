"""What the device does now, from the machine's state and from how far its work is. Pure.

Session, bytes fetched, batches, bytes sent ──of──▶ Now ──told──▶ Activity, in its presence
                                                     └──────────▶ one line on a terminal
"""

from dataclasses import dataclass
from typing import Literal

from edge_client.session import Fetching, Session, Working
from edge_client.training_job import Progress
from fedmqtt.messages import Activity, Purpose
from fedmqtt.topics import RoundId

What = Literal["waiting", "downloading", "training", "evaluating", "describing", "sending"]

_WORK: dict[Purpose, What] = {
    "train": "training",
    "evaluate": "evaluating",
    "describe": "describing",
}

_NO_ROUND = RoundId(0)

_STEP = 100
"""A presence tells whole hundredths."""


@dataclass(frozen=True, slots=True)
class Now:
    what: What
    round: RoundId = _NO_ROUND
    fraction: float = 0.0
    size_bytes: int = 0
    """Of what is fetched or sent."""
    work: Progress | None = None
    """Of the trainer, since it said so."""
    is_masked: bool = False
    hindrance: str = ""
    """Why it may not take part."""
    is_online: bool = False


@dataclass(slots=True)
class Measured:
    """How far the work is, as the agent hears of it. What belongs to a job ends with it."""

    fetched_bytes: int = 0
    work: Progress | None = None
    sent_bytes: int = 0


def of(state: Session, measured: Measured) -> Now:
    match state.job:
        case Fetching(offer=offer):
            size = offer.model.size_bytes
            done = _share(measured.fetched_bytes, size)
            return _now(state, "downloading", offer.round, done, size)
        case Working(offer=offer, purpose=purpose):
            work, is_masked = measured.work, offer.masking is not None
            done = 0.0 if work is None else work.fraction
            return _now(state, _WORK[purpose], offer.round, done, 0, work, is_masked=is_masked)
        case None if state.owed:
            answer = state.owed[-1].answer
            done = _share(measured.sent_bytes, answer.size_bytes)
            return _now(state, "sending", answer.round, done, answer.size_bytes)
        case None:
            return _now(state, "waiting")


def told(now: Now, uplink_kbps: float) -> Activity:
    """What everybody may read of it, in the device's presence."""
    kbps = round(uplink_kbps, 1)
    if now.what == "waiting":
        return Activity(uplink_kbps=kbps)
    epoch = epochs = 0
    if now.work is not None:
        epoch, epochs = now.work.epoch, now.work.epochs
    done = int(now.fraction * _STEP) / _STEP
    if now.is_masked:
        # A share of all batches tells how many there are, and so how many samples.
        done = (epoch - 1) / epochs if epoch else 0.0
    return Activity(
        doing=now.what,
        round=now.round,
        progress=min(1.0, max(0.0, done)),
        epoch=epoch,
        epochs=epochs,
        uplink_kbps=kbps,
    )


def _now(
    state: Session,
    what: What,
    number: RoundId = _NO_ROUND,
    fraction: float = 0.0,
    size_bytes: int = 0,
    work: Progress | None = None,
    *,
    is_masked: bool = False,
) -> Now:
    return Now(
        what,
        number,
        min(1.0, fraction),
        size_bytes,
        work,
        is_masked,
        state.hindrance,
        state.online,
    )


def _share(done: int, whole: int) -> float:
    return min(1.0, done / whole) if whole else 0.0
