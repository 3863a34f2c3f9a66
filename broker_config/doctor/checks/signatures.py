"""Is the offer on this broker one that a program with these credentials takes?"""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok, warning
from fedmqtt.envelope import BadSignature

NEEDS = ("acl_allows",)


def check(case: Case) -> Finding:
    if case.role in ("monitor", "operator", "worker"):
        return not_checked(f"{case.role}s read no offers")
    with case.connected() as probe:
        try:
            offer = case.offer(probe)
        except BadSignature as bad:
            return failed(
                f"an offer lies there, and {bad}",
                "This program does not hear the coordinator that wrote it. It has credentials of"
                " another kit or none, or it is somebody else.",
                {"": "give coordinators and devices --credentials, all of one kit"},
            )
    if case.is_anonymous:
        return not_checked("without an account there are no keys")
    if case.broker.seal is None:
        return warning(
            "these credentials hold no keys, so nothing is signed",
            "Whoever has the broker in hand can make up rounds.",
            {"": "a new kit: fedmqtt broker-kit; its credentials hold keys"},
        )
    if offer is None:
        return ok("offers must be signed; there is none now to look at")
    return ok("the offer that lies there is signed by this federation")
