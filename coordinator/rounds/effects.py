"""What the round machine wants done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from coordinator import fleet_size
from coordinator.known import Learned
from coordinator.orders import Control, Obeyed
from coordinator.pacing import Pace
from coordinator.rounds.names import Clients, Named
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.topics import ClientId, RoundId


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the client send the answer it announced, when there is room for it."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Accept:
    """Fold the update that just came into the running sum, and store it; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class AcceptEvaluation:
    """Count the evaluation that just came, and store it; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Hold:
    """Store the late update that just came, to be folded with a later round; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Blame:
    """What the client sent was refused for what it is: not for being late, or not asked for."""

    client: ClientId
    reason: str


@dataclass(frozen=True, slots=True)
class Invite:
    """More clients are invited to train in the open round: write down who was, and say its offer
    again."""

    round: RoundId
    clients: Clients
    """The new ones."""


@dataclass(frozen=True, slots=True)
class Remind:
    """Say the open round's offer again, to these alone: it may have been lost on its way."""

    round: RoundId
    clients: tuple[ClientId, ...]
    """Who is there and has said nothing of the round; sorted."""


@dataclass(frozen=True, slots=True)
class Shut:
    """By sortition, somebody is to be refused for want of room, for the first time in this round.
    Before that, write down who has come in: were some of them forgotten, there would be room again,
    and a copy of what was refused would count."""

    round: RoundId
    clients: Clients
    """All that are to train."""


Outcome = Literal["averaged", "kept", "evaluated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The round is over. `averaged`: make the next model from the running sum; else keep it."""

    round: RoundId
    outcome: Outcome
    reason: str
    invited: Clients
    answered: Clients
    evaluated: Clients
    declined: Mapping[ClientId, str]
    rejected: Mapping[ClientId, str]
    surplus: Clients
    """There and at work when the round was complete without them: over-selection's price. Where
    rounds are asynchronous, they go on."""
    duration_s: Seconds
    held: tuple[Named, ...] = ()
    """Late answers to fold into this round's sum before the model is made."""
    pace: Pace
    """What the next round will go by, and why."""
    sizes: fleet_size.Belief = ()
    """So, too, in a quiet federation."""
    learned: Learned = field(default_factory=dict)
    """Of those that took part: written down with the round."""
    participations: Mapping[ClientId, int] = field(default_factory=dict)
    """What is counted of those whose answers its sum has, where that has an end: written down with
    the round too, whatever comes of the sum."""

    @property
    def counted(self) -> list[tuple[ClientId, RoundId]]:
        """The answers that went into it: whose, and to which round; in an order that is fixed."""
        in_time = [(client, self.round) for client in sorted(self.answered)]
        return [*((one.client, one.round) for one in self.held), *in_time]

    @property
    def dropped(self) -> Clients:
        """Invited to train, and lost: gone, too slow for the deadline, or declined."""
        return self.invited - self.answered - self.rejected.keys() - self.surplus


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the operator what came of its order. Where the order `is_new`, `control` is written down
    before: an operator that was told is not contradicted after a kill."""

    obeyed: Obeyed
    is_new: bool
    control: Control
    """Before anything follows from the order: who is wanted by it is invited yet."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """Make the model of this closed round the current one, and say `ModelReady`."""

    round: RoundId
    dropped: tuple[Named, ...]
    """Late answers that were to be folded, and count in no round now."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more will happen: withdraw what is retained, and end."""


Effect = (
    Publish
    | WakeAt
    | Note
    | Admit
    | Accept
    | AcceptEvaluation
    | Hold
    | Invite
    | Remind
    | Shut
    | Blame
    | Close
    | Answer
    | GoBack
    | Finish
)
