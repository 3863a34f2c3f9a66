"""What a worker is told to do, and what it answers: the same in this process, in others, on Ray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from fedmqtt.messages import PLAIN, Method, Purpose, Training
from fedmqtt.weights import Weights
from learning_tasks.seam import Evaluated, Trained


class TrainJob(msgspec.Struct, frozen=True):
    """One client's training in one round."""

    client: str
    seed: int
    steps_max: int = 0
    """It has time for so many steps; 0: for all."""
    own: bytes = b""
    """The layers that it keeps for itself, float32 in the model's order; empty: it has none yet."""
    correction: bytes = b""
    """To be added to each gradient, float32 of the whole model; empty: nothing is."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Clients whose work is one piece: they are trained together, or one after the other."""

    purpose: Purpose
    jobs: tuple[TrainJob, ...]
    training: Training = Training()
    method: Method = PLAIN
    together: bool = False
    check: bool = False
    """Train some of them alone too, and refuse to train together where that makes a difference."""


class Verdict(msgspec.Struct, frozen=True):
    """What came of an attempt to train together."""

    is_checked: bool = False
    """Some clients were trained both ways, with the same results within the tolerance."""
    refusal: str = ""
    """Why each was trained alone after all."""


Result = Trained | Evaluated | str
"""A string is the sentence that says why there is none."""


class Answer(msgspec.Struct, frozen=True):
    results: list[Result]
    """In the order of the jobs."""
    verdict: Verdict = Verdict()


_DEATHS_MAX = 2
"""So often is the same work begun before it is taken to be what kills its worker."""


@dataclass(eq=False, slots=True)
class Piece:
    """An order, or a part of one, on its way through the workers."""

    order: Order
    answer: int
    """Its results belong to this answer, from job `begin` on."""
    begin: int = 0
    deaths: int = 0

    def after_a_death(self) -> "list[Piece]":
        """What is to be done instead, its worker having died; nothing if its one client is why."""
        self.deaths += 1
        if self.deaths < _DEATHS_MAX:
            return [self]
        if len(self.order.jobs) == 1:
            return []
        # One client may be the cause, and the others of its group must not suffer for it.
        alone = msgspec.structs.replace(self.order, together=False, check=False)
        return [
            Piece(msgspec.structs.replace(alone, jobs=(job,)), self.answer, self.begin + i)
            for i, job in enumerate(self.order.jobs)
        ]

    def put(self, answers: list[Answer], results: Sequence[Result], verdict: Verdict) -> None:
        """Write results and verdict into the answer that they belong to."""
        answer = answers[self.answer]
        answer.results[self.begin : self.begin + len(results)] = results
        answers[self.answer] = msgspec.structs.replace(answer, verdict=verdict)


def open_answers(orders: Sequence[Order]) -> list[Answer]:
    """One for each order, with room for its results."""
    return [Answer([""] * len(order.jobs)) for order in orders]


class Workers(Protocol):
    """Carries out orders, however many at a time; the answers do not depend on how many."""

    def run(
        self, base: Weights, orders: Sequence[Order], progress: Callable[[int], None]
    ) -> list[Answer]:
        """The answers in the order of the orders. `progress` hears how many jobs are done."""

    def close(self) -> None:
        """End what was started."""
