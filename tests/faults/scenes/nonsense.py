"""A client that answers nonsense of every kind, one kind a round."""

from collections.abc import Callable, Sequence

from benchmarks.processes import peak_rss_mb
from fedmqtt import messages
from fedmqtt.messages import Announce, Offer, Update
from fedmqtt.topics import Digest
from tests.coordinator.guests import Guest, Room, update
from tests.faults import small_task
from tests.faults.plan import Plan
from tests.faults.scenario import scenario
from tests.faults.stage import Row, Stage, require


@scenario("a client that answers nonsense")
def nonsense(stage: Stage) -> Row:
    kinds = _kinds_of_nonsense()
    plan = Plan(rounds=len(kinds), over_selection=1.25, clients_min=5)
    with stage.federation(plan) as fed:
        everybody = plan.clients
        fed.hold(*everybody, number=1)
        fed.start()
        with Room(fed.broker.url, fed.name) as room:
            eve = room.guest("eve")
            eve.come(task=messages.task_name(str(plan.task)), purposes=("train",))
            for number, (kind, say) in enumerate(kinds.items(), start=1):
                say(eve, eve.offered(number))
                receipt = eve.receipt()
                require(not receipt.accepted, f"{kind} was accepted")
                require(receipt.round == number and bool(receipt.reason), f"{kind}: {receipt}")
                fed.hold(*everybody, number=number + 1)
            peak_mb = peak_rss_mb(fed.coordinator.now.process.pid)
            require(peak_mb < 300, f"the coordinator took {peak_mb:.0f} MB")
            fed.let_go(*everybody)
            like = Plan(rounds=len(kinds))
            return stage.row(fed, f"{', '.join(kinds)}: each refused with a reason", like=like)


def _kinds_of_nonsense() -> dict[str, Callable[[Guest, Offer], None]]:
    def numbers(value: float, count: int = small_task.SIZE) -> Callable[[Guest, Offer], None]:
        change: Sequence[float] = [value] * count
        return lambda eve, offer: eve.say(_answer(offer, change), number=offer.round)

    def shout(eve: Guest, offer: Offer, payload: bytes) -> None:
        eve.shout(eve.to(number=offer.round), payload)

    def truncated(eve: Guest, offer: Offer) -> None:
        shout(eve, offer, messages.encode(_answer(offer, [0.1] * small_task.SIZE))[:-20])

    def two_gigabytes(eve: Guest, offer: Offer) -> None:
        header, _ = messages.encode_pieces(_answer(offer, []))
        shout(eve, offer, header[:-4] + (2**31).to_bytes(4) + b"and that is all")

    def announced(eve: Guest, offer: Offer) -> None:
        digest = Digest("0" * 64)
        large = Announce(
            run=offer.run, round=offer.round, digest=digest, size_bytes=2**31, chunk_bytes=2**14
        )
        eve.say(large, part="announce", number=offer.round)

    return {
        "NaN": numbers(float("nan")),
        "wrong shapes": numbers(0.1, small_task.SIZE - 1),
        "1e30": numbers(1e30),
        "truncated MessagePack": truncated,
        "a header of 2 GB": two_gigabytes,
        "an announcement of 2 GB": announced,
    }


def _answer(offer: Offer, change: Sequence[float]) -> Update:
    return update(offer, change, samples=small_task.samples_of("eve"))
