"""Everything that is delivered comes more than once and in another order."""

from random import Random

from tests.faults.plan import COORDINATOR, Plan
from tests.faults.scenario import scenario
from tests.faults.shuffler import Shuffler
from tests.faults.stage import Row, Stage, require


@scenario("deliveries duplicated and reordered")
def deliveries_disturbed(stage: Stage) -> Row:
    return _disturbed(stage, large=False)


@scenario("deliveries of chunks duplicated and reordered")
def chunk_deliveries_disturbed(stage: Stage) -> Row:
    return _disturbed(stage, large=True)


def _disturbed(stage: Stage, *, large: bool) -> Row:
    seed = f"{stage.theatre.seed}/{stage.name}"
    shufflers: list[Shuffler] = []

    def disturbance() -> Shuffler:
        shufflers.append(Shuffler(Random(f"{seed}/{len(shufflers)}")))
        return shufflers[-1]

    everybody = (COORDINATOR, *Plan().clients)
    plan = Plan(large=large, proxied=everybody, disturbance=disturbance)
    with stage.federation(plan) as fed:
        fed.start()
        row = stage.row(fed, "each at least twice, in both directions")
        least = min(shuffler.copies for shuffler in shufflers)
        require(least > 10, f"somebody got only {least} copies")
        return row
