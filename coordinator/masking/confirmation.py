"""Of which rounds a keyholder's word alone opened the sum: nobody else told of the same seeds.

Any two of three keyholders can open a round, and each then tells of one seed that the third alone
could confirm. Such a sum is taken, as nobody should have to wait for who is away; but a keyholder
that lied would not be found out. A later answer of the third confirms it yet, as long as no other
round was opened.
"""

import logging
from collections.abc import Mapping

from coordinator.masking.opening import Rules, Seeds, State, Sums
from coordinator.pages.status import Facts
from fedmqtt.masking import seeds as seeds_of
from fedmqtt.topics import ClientId, RoundId

_log = logging.getLogger("coordinator")


def unconfirmed(state: State, sums: Sums, rules: Rules) -> Seeds:
    """Seeds of whose sum of masks one keyholder has told, where there is another that could."""
    held = seeds_of.held_by(rules.places, rules.tolerated)
    return frozenset(
        seed
        for seed in rules.seeds
        if sum(seed in those for those in held) > 1
        and sum(told.get(seed) == sums[seed] for told in state.digests.values()) < 2
    )


class Confirmation:
    """Says it, in the log and among the facts."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._round = RoundId(0)
        self._sums: Sums = ()
        self._left: Seeds = frozenset()
        self._has_said = False
        """That rounds are unconfirmed, as none has been confirmed since."""

    def opened(self, number: RoundId, state: State, sums: Sums, rules: Rules) -> None:
        """These sums are taken."""
        self._round, self._sums = number, sums
        self._left = unconfirmed(state, sums, rules)
        if not self._left:
            if self._has_said:
                _log.info(
                    "round %d: each sum of masks has been told by two keyholders again", number
                )
            self._has_said = False
            return
        self._facts.unconfirmed.append(number)
        asked = [place for place in rules.names if place not in state.digests]
        held = seeds_of.held_by(rules.places, rules.tolerated)
        awaited = {seed for place in asked for seed in held[place]} & self._left
        # Whose key the round does not have cannot answer later either: said once, for all such.
        _log.log(
            logging.INFO if awaited or not self._has_said else logging.DEBUG,
            "round %d: one keyholder alone has told of the sums of masks %s: no other confirms them"
            "%s",
            *(number, ", ".join(map(str, sorted(self._left)))),
            " until it answers too" if awaited else ", as the round was offered without its key",
        )
        self._has_said = True

    def told(self, client: ClientId, digests: Mapping[int, bytes]) -> None:
        """What another keyholder says of the round that was opened last, afterwards."""
        confirmed = {
            seed for seed in self._left if seed in digests and digests[seed] == self._sums[seed]
        }
        self._left -= confirmed
        if confirmed and not self._left:
            self._has_said = False
            self._facts.unconfirmed.remove(self._round)
            _log.info("round %d: %s confirms the sums that opened it", self._round, client)
