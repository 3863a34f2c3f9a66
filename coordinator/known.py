"""What the coordinator knows of each client from earlier rounds: what selection policies go by.

    an answer is accepted ──Report──▶ Knowledge ──▶ its round closes ──▶ Known, one per client

A `Known` changes only when a round closes, and is written down with the round. A `Report` is
written down with its answer. So a coordinator that was killed at any moment knows exactly what it
knew. Pure; the one exception, `label`, is what the client says of itself each time it comes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import Struct, structs

from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, RoundId

CLIENTS_MAX = 100_000
"""Of more, those that are away and were invited longest ago are forgotten. So many take 42 MB."""

TIMES = 5
"""Of so many of its last answers a client's duration is the median: one slow day changes little."""

LOSS = "loss"
"""The training metric that policies go by."""


class Report(Struct, frozen=True, gc=False):
    """What one accepted answer told of its sender."""

    samples: int
    """Trained on, as it says itself."""
    loss: float | None = None
    """Mean over its training samples; None where its task reports none."""
    took_s: Seconds | None = None
    """From the round's opening, or from its own invitation where rounds are asynchronous; None for
    a late answer to a synchronous one, and where it is not known any more."""


class Known(Struct, frozen=True, omit_defaults=True, gc=False):
    """One client, as of the rounds that have closed."""

    invited: int = 0
    """How often, to train."""
    invited_last: RoundId = RoundId(0)
    """The newest round it was invited to train in; 0: never."""
    answered: int = 0
    """How many of its answers were taken up in a round."""
    answered_last: RoundId = RoundId(0)
    """The newest round it has answered; 0: never."""
    took_s: tuple[Seconds, ...] = ()
    """Of its last answers of which it is known, oldest first; at most `TIMES`."""
    samples: int = 0
    """Of its last answer; 0: it has never given one."""
    loss: float | None = None
    """Of its last answer that told one."""
    label: str = ""
    """What its owner calls the kind of device: phone, watch, a site."""

    @property
    def duration_s(self) -> Seconds | None:
        """The median; the lower one of two. None before the first answer in time."""
        return sorted(self.took_s)[(len(self.took_s) - 1) // 2] if self.took_s else None


UNKNOWN = Known()

Answer = tuple[ClientId, RoundId]
"""Whose, and to which round."""

Learned = Mapping[ClientId, Known | None]
"""What is known from now on of those of whom it has changed; None: nothing any more."""


@dataclass(slots=True)
class Knowledge:
    """Of all clients. A part of the roster, and as mutable."""

    clients: dict[ClientId, Known] = field(default_factory=dict)
    reports: dict[Answer, Report] = field(default_factory=dict)
    """Of accepted answers that no closed round contains yet."""

    def said(self, client: ClientId, label: str) -> None:
        before = self.clients.get(client, UNKNOWN)
        if label != before.label:
            self.clients[client] = structs.replace(before, label=label)

    def let_go(self, answers: Iterable[Answer]) -> Learned:
        """A round has closed with these answers, and nothing is kept of them."""
        for answer in answers:
            self.reports.pop(answer, None)
        return {}

    def closed(
        self,
        number: RoundId,
        invited: Iterable[ClientId],
        answers: Iterable[Answer],
        is_online: Callable[[ClientId], bool],
    ) -> Learned:
        """A round has closed, to which these were invited to train, with these answers in it."""
        changed: set[ClientId] = set()
        for client in sorted(invited):
            changed.add(client)
            before = self.clients.get(client, UNKNOWN)
            self.clients[client] = structs.replace(
                before, invited=before.invited + 1, invited_last=number
            )
        for client, answered in answers:
            changed.add(client)
            report = self.reports.pop((client, answered), None)
            before = self.clients.get(client, UNKNOWN)
            self.clients[client] = _with_answer(before, answered, report)
        changed.update(self._forget_some(is_online))
        return {client: self.clients.get(client) for client in sorted(changed)}

    def _forget_some(self, is_online: Callable[[ClientId], bool]) -> list[ClientId]:
        surplus = len(self.clients) - CLIENTS_MAX
        if surplus <= 0:
            return []
        away = (client for client in self.clients if not is_online(client))
        oldest = sorted(away, key=lambda client: (self.clients[client].invited_last, client))
        for client in oldest[:surplus]:
            del self.clients[client]
        return oldest[:surplus]


def _with_answer(before: Known, number: RoundId, report: Report | None) -> Known:
    answered, newest = before.answered + 1, max(before.answered_last, number)
    known = structs.replace(before, answered=answered, answered_last=newest)
    if report is None:
        # Written down by a version of this program that kept none.
        return known
    took_s = known.took_s if report.took_s is None else (*known.took_s, report.took_s)[-TIMES:]
    if number < newest:
        # A late one, and a newer one has told more.
        return structs.replace(known, took_s=took_s)
    loss = known.loss if report.loss is None else report.loss
    return structs.replace(known, took_s=took_s, samples=report.samples, loss=loss)
