"""Looks at each round that closes for whether a few clients give most of the answers, and says so.

What skew is, and when it can be told, is `skew.py`'s.
"""

import logging
from collections.abc import Collection, Sequence

from coordinator.config import FederationConfig
from coordinator.pages import skew
from coordinator.pages.skew import Turnout
from coordinator.pages.status import Facts
from fedmqtt.topics import ClientId

_log = logging.getLogger("coordinator")


class SkewWatch:
    def __init__(self, config: FederationConfig, facts: Facts) -> None:
        """What is found stands in `facts`, and once in the log."""
        self._config = config
        self._facts = facts
        self._turnout = Turnout()

    def closed(
        self,
        there: Sequence[ClientId],
        invited: Collection[ClientId],
        answered: Collection[ClientId],
        out: Collection[ClientId],
    ) -> None:
        """A round to which these were invited. `out` are in quarantine."""
        if not invited:
            # The last evaluation: nobody was asked to train.
            return
        config = self._config
        if not skew.can_be_told(len(there), config.rounds.cohort):
            # Who was there would be most of what is remembered.
            self._turnout = Turnout()
            return
        self._turnout.closed(there, invited, sorted(set(answered)), out)
        found = self._turnout.skew()
        said = ""
        if found is not None:
            said = found.sentence(config.selection, config.rounds.cohort, config.aggregation)
        if said and not self._facts.skew:
            _log.warning("%s", said)
        self._facts.skew = said
