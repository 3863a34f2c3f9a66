"""What a scenario is: one fault, and the function that plays it.

@scenario("the last outstanding client killed")
def last_outstanding_killed(stage: Stage) -> Row: ...
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.arrangement import ON_A_LAPTOP, Arrangement
from tests.faults.stage import Row, Stage

Play = Callable[[Stage], Row]


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    """On the command line."""
    fault: str
    """In the table."""
    takes_s: float
    """About: the longest go first."""
    play: Play
    needs: tuple[str, ...] | None = None
    """Of an `Arrangement`; None: it is played on a laptop's, and on no other."""

    def fits(self, arrangement: Arrangement) -> bool:
        if self.needs is None or arrangement == ON_A_LAPTOP:
            return self.needs is None and arrangement == ON_A_LAPTOP
        return all(getattr(arrangement, need) for need in self.needs)


def scenario(
    fault: str, *, takes_s: float = 5.0, needs: tuple[str, ...] | None = None
) -> Callable[[Play], Scenario]:
    """The function becomes a scenario of its own name."""
    return lambda play: Scenario(play.__name__.replace("_", "-"), fault, takes_s, play, needs)
