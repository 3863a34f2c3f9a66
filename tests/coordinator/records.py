"""A closed round, as a run's history has it."""

from coordinator.persistence.history import Record
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT = map(ClientId, ("ann", "bob", "cat"))

FIGURES = Figures(clients=1, samples=3, metrics={"accuracy": 1.0}, confusion=((1, 0), (0, 2)))

RECORD = Record(
    round=RoundId(1),
    closed="2026-03-01T10:15:00.000+00:00",
    outcome="averaged",
    reason="cohort complete",
    base="ab" * 32,
    invited=[ANN, BOB, CAT],
    answered=[ANN],
    dropped=[BOB],
    declined={BOB: "not charging"},
    rejected={CAT: "has values that are not finite"},
    evaluated=[ANN],
    late_updates=2,
    duration_s=1.5,
    samples=60,
    train_metrics={"loss": 0.25},
    figures=FIGURES,
    bytes_received=100,
    bytes_published=200,
)
