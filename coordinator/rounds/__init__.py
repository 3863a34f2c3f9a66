"""The round machine: who was invited, who answered, when the round closes.

`step` reads no clock, draws no chance and touches no tensor; the service folds an update when it
sees `Accept`, writes it down and says `Stored`, and makes the next model when it sees `Close`. The
roster is the one thing that `step` changes in place.

    UpdateCame ──▶ Accept ──▶ (folded, on its way to the disk) ──▶ Stored ──▶ Receipt
                                                               └─▶ Lost: it is owed again

A receipt lets the client forget its answer, so it is said only when a loss of power would not lose
the answer, and no round closes while an answer that counts is still on its way there.

               enough clients                cohort complete, or nobody left to wait for,
               are willing                   or the deadline
    Waiting ───────────────────▶ Collecting ───────────────────────────┬──▶ Averaging
       ▲                                                               │        │
       │◀──────────────── fewer answers than the quorum: model kept ───┘        │ ModelReady
       │◀───────────────────────────────────────────────────────────────────────┘
       └──▶ Finished, after the last round and a last evaluation

Where rounds are asynchronous (`Rules.concurrency`), a round is a version of the model: it is over
with its cohort of answers to any version, `coordinator/concurrency.py` tells who is at work, and a
place that is free is given to another at once, by `Invite`.

    state, events, effects     what the machine knows, what happens to it, what it wants done
    opening, answers, closing  a round's life, each with what it decides
    reminding                  who is told of it again
    replies                    what clients are told
    step                       one event, one step
"""

from coordinator.rounds.answers import may_count, may_yet_count
from coordinator.rounds.closing import waits_for_storing_alone
from coordinator.rounds.effects import (
    Accept,
    AcceptEvaluation,
    Admit,
    Answer,
    Blame,
    Close,
    Effect,
    Finish,
    GoBack,
    Hold,
    Invite,
    Outcome,
    Remind,
    Shut,
)
from coordinator.rounds.events import (
    AnnounceCame,
    Barred,
    CalledOff,
    ClientCame,
    ClientLeft,
    Declined,
    EvaluationCame,
    Event,
    KeysCame,
    LeadCame,
    LinkDown,
    LinkUp,
    Lost,
    ModelReady,
    OrderCame,
    Stored,
    Unbarred,
    UpdateCame,
    Woke,
)
from coordinator.rounds.names import NOBODY, Clients, Named
from coordinator.rounds.opening import offer, to_one, work
from coordinator.rounds.reminding import REMINDERS
from coordinator.rounds.state import (
    BEGIN_SHARE,
    COMPLETE,
    DEADLINE,
    GIVEN_UP,
    HELD_PER_COHORT,
    MEASURED,
    REFUSED,
    ROOM_FACTOR,
    SETTLED_ROUNDS,
    SPREAD_MAX_S,
    UNSAID_MAX,
    UNSURE_BEGIN_SHARE,
    Averaging,
    Collecting,
    Finished,
    Late,
    Lead,
    OpenSoon,
    Past,
    Rules,
    S,
    Select,
    Settled,
    State,
    Waiting,
    begin,
    has_counted,
    is_to_come,
    masking_in_use,
    older_models,
    places,
    remembered_rounds,
    room,
    terms_max,
    trained_last,
)
from coordinator.rounds.step import is_used_up, resume, step

__all__ = [
    "BEGIN_SHARE",
    "COMPLETE",
    "DEADLINE",
    "GIVEN_UP",
    "HELD_PER_COHORT",
    "MEASURED",
    "NOBODY",
    "REFUSED",
    "REMINDERS",
    "ROOM_FACTOR",
    "SETTLED_ROUNDS",
    "SPREAD_MAX_S",
    "UNSAID_MAX",
    "UNSURE_BEGIN_SHARE",
    "Accept",
    "AcceptEvaluation",
    "Admit",
    "AnnounceCame",
    "Answer",
    "Averaging",
    "Barred",
    "Blame",
    "CalledOff",
    "ClientCame",
    "ClientLeft",
    "Clients",
    "Close",
    "Collecting",
    "Declined",
    "Effect",
    "EvaluationCame",
    "Event",
    "Finish",
    "Finished",
    "GoBack",
    "Hold",
    "Invite",
    "KeysCame",
    "Late",
    "Lead",
    "LeadCame",
    "LinkDown",
    "LinkUp",
    "Lost",
    "ModelReady",
    "Named",
    "OpenSoon",
    "OrderCame",
    "Outcome",
    "Past",
    "Remind",
    "Rules",
    "S",
    "Select",
    "Settled",
    "Shut",
    "State",
    "Stored",
    "Unbarred",
    "UpdateCame",
    "Waiting",
    "Woke",
    "begin",
    "has_counted",
    "is_to_come",
    "is_used_up",
    "masking_in_use",
    "may_count",
    "may_yet_count",
    "offer",
    "older_models",
    "places",
    "remembered_rounds",
    "resume",
    "room",
    "step",
    "terms_max",
    "to_one",
    "trained_last",
    "waits_for_storing_alone",
    "work",
]
