"""What a machine may ask of the world. Machines return these; shells and the simulator do them."""

from dataclasses import dataclass

from fedmqtt.messages import AnyMessage
from fedmqtt.topics import Address

Seconds = float
"""A moment on a clock that never jumps, or a span. Which clock is the shell's business."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a message to where it belongs; `None` clears what is retained there."""

    to: Address
    message: AnyMessage | None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Deliver a `Woke` event at this time. A later WakeAt replaces an earlier one."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line in the log; carries no obligation."""

    what: str
    about: str = ""
