"""Answers that are on the disk already, once more into a sum: after a restart, and late ones when
their round takes them up.

The same sum comes out in whatever order they are folded.
"""

from collections.abc import Callable
from pathlib import Path

from coordinator import rounds
from coordinator.persistence.ledger import Kept
from coordinator.persistence.run_errors import LedgerDamaged
from coordinator.persistence.run_folder import RunFolder
from coordinator.rounds import Named
from coordinator.sums.answers import Answers
from coordinator.workers import partial_sum
from fedmqtt import messages
from fedmqtt.messages import Evaluation, Sum, Update, WireError
from fedmqtt.topics import RunId


class KeptAnswers:
    """Of one run, whose sums have `size` numbers."""

    def __init__(
        self, folder: RunFolder, answers: Answers, size: int, count: Callable[[Update], None]
    ) -> None:
        """`count` hears of each that is to the open round."""
        self._count = count
        self._folder = folder
        self._answers = answers
        self._size = size

    def fold_all(self, run: RunId, state: rounds.Collecting) -> None:
        """What the open round had accepted before the coordinator ended. Raises LedgerDamaged."""
        for path in self._folder.ledger.sums(state.round):
            self._answers.add_sum(self._sum(path, run, state), state.evaluate)
        for kept in self._folder.ledger.kept():
            if kept.named.round == state.round and not kept.is_summed:
                evaluates = kept.named.client in state.evaluate
                if fault := self.fold(kept, evaluates=evaluates, staleness=0):
                    # It was found good when it came, under the same settings.
                    raise self._damaged(kept, fault)

    def fold(self, kept: Kept, *, evaluates: bool, staleness: int) -> str:
        """What is wrong with it, if anything: then it does not count. Raises LedgerDamaged."""
        try:
            answer = messages.read_from_client(kept.read())
        except (OSError, WireError) as bad:
            raise self._damaged(kept, str(bad)) from bad
        if not isinstance(answer, Update | Evaluation):
            raise self._damaged(kept, f"it is a {type(answer).__name__}")
        if kept.author is not None:
            self._answers.signed_by(kept.named.client, kept.author)
        fault = self._answers.check(kept.named.client, answer)
        if not fault and isinstance(answer, Update):
            self._answers.fold(kept.named.client, answer, evaluates=evaluates, staleness=staleness)
            if not staleness:
                self._count(answer)
        elif not fault and isinstance(answer, Evaluation):
            self._answers.take_measures(kept.named.client, answer.measures)
        self._answers.let_go()
        return fault

    def _sum(self, path: Path, run: RunId, state: rounds.Collecting) -> Sum:
        """That a worker has handed over."""
        try:
            summed = messages.read_sum(path.read_bytes())
        except (OSError, WireError) as bad:
            raise LedgerDamaged(f"{path}: {bad}") from bad
        names = [Named(term.client, state.round) for term in summed.terms]
        now = (run, state.round, self._answers.bits, self._size)
        fault = partial_sum.fault(summed, *now, names)
        if fault or not state.answered.issuperset(named.client for named in names):
            raise LedgerDamaged(f"{path}: {fault or 'it is of answers that the ledger lacks'}")
        return summed

    def _damaged(self, kept: Kept, why: str) -> LedgerDamaged:
        whose = f"the answer of {kept.named.client} to round {kept.named.round}"
        return LedgerDamaged(f"{self._folder.path}: {whose}: {why}")
