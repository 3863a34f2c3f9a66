"""Which client took part in which of the last rounds: the participation page."""

from collections import deque
from collections.abc import Mapping

from msgspec import structs

from coordinator.persistence.history import Record
from fedmqtt.status_pages import PARTICIPANTS, PARTICIPATION_ROUNDS, ParticipationPage
from fedmqtt.topics import ClientId, RoundId

_NOT_INVITED = "."


class Participation:
    """The last rounds in which clients were invited to train."""

    def __init__(self) -> None:
        self._rounds: deque[RoundId] = deque(maxlen=PARTICIPATION_ROUNDS)
        self._lines: dict[ClientId, str] = {}
        """Of each who is in one of these rounds, a letter for each of them."""
        self._page: ParticipationPage | None = None

    def add(self, record: Record) -> None:
        """A round that has closed, the one after those before."""
        if not record.invited:
            return
        letters = _letters(record)
        is_full = int(len(self._rounds) == PARTICIPATION_ROUNDS)
        before = [(client, line[is_full:]) for client, line in self._lines.items()]
        absent = _NOT_INVITED * min(len(self._rounds), PARTICIPATION_ROUNDS - 1)
        # Lines grow: to ask for each letter of each line took 13 ms for a thousand clients.
        lines = {
            client: line + letters.pop(client, _NOT_INVITED)
            for client, line in before
            if line.strip(_NOT_INVITED)
        }
        self._lines = lines | {client: absent + letter for client, letter in letters.items()}
        self._rounds.append(record.round)
        self._page = None

    def page(self) -> ParticipationPage | None:
        """None where no round has closed. Made once a round: pages are asked for twice a second."""
        if self._page is None and self._rounds:
            self._page = ParticipationPage(
                rounds=list(self._rounds),
                clients=_listed(self._lines, PARTICIPANTS),
                clients_known=len(self._lines),
            )
        return self._page


def halved(page: ParticipationPage) -> ParticipationPage:
    """With half of the clients, for a broker that takes no larger messages."""
    return structs.replace(page, clients=_listed(page.clients, len(page.clients) // 2))


def _letters(record: Record) -> dict[ClientId, str]:
    # The later ones say more: who declined is among the dropped, too.
    letters = dict.fromkeys(record.quarantined, "q")
    letters |= dict.fromkeys(record.dropped, "d")
    letters |= dict.fromkeys(record.surplus, "s")
    letters |= dict.fromkeys(record.declined, "n")
    letters |= dict.fromkeys((client for client, _ in record.late_counted), "l")
    letters |= dict.fromkeys(record.rejected, "r")
    letters |= dict.fromkeys(record.answered, "a")
    return letters


def _listed(lines: Mapping[ClientId, str], at_most: int) -> dict[ClientId, str]:
    """Those who were there most lately, by name."""
    newest = sorted(lines, key=lambda client: (-len(lines[client].rstrip(_NOT_INVITED)), client))
    return {client: lines[client] for client in sorted(newest[:at_most])}
