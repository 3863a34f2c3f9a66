"""What several scenarios begin with, and require."""

from collections.abc import Mapping

from tests.faults.federation import Federation
from tests.faults.stage import require


def until_dan_is_at_work(fed: Federation) -> None:
    """Start. Returns in round 2, when all others have their receipts."""
    everybody = fed.plan.clients
    # Round 2 invites all who are there: nobody is to come too late for that.
    fed.hold(*everybody, number=1)
    fed.start()
    fed.wait_for_connections()
    fed.hold("dan", number=2)
    fed.let_go(*(who for who in everybody if who != "dan"))
    fed.wait_for_training("dan", 2)
    for who in everybody:
        if who != "dan":
            fed.wait_for_receipt(who, 2)


def require_missing(fed: Federation, missing: Mapping[int, set[str]]) -> None:
    """In these rounds these clients' answers did not count; all others did."""
    for record in fed.records[: fed.plan.rounds]:
        absent = set(fed.plan.clients) - set(record.answered)
        wanted = missing.get(record.round, set())
        require(absent == wanted, f"round {record.round} went without {absent}, not {wanted}")
