"""What is said of a client that keyholders would not have in a sum, and whose doing it is."""

import pytest

from coordinator.masking import opening, unfitness
from fedmqtt.messages import WhyUnfit
from fedmqtt.topics import ClientId

A, B, C = range(3)
RULES = opening.Rules(
    places=3,
    tolerated=1,
    names={place: ClientId(f"kh-{'abc'[place]}") for place in (A, B, C)},
    timeout_s=10,
    deadline_s=100,
)


def test_what_each_keyholder_says_is_told_and_the_same_once() -> None:
    said: dict[int, WhyUnfit] = {A: "unenrolled", B: "seal", C: "unenrolled"}
    assert unfitness.told(said, RULES) == (
        "it is on no list of enrolled devices, says kh-a and kh-c; what it sealed does not hold,"
        " says kh-b"
    )


@pytest.mark.parametrize("why", ["revoked", "unenrolled", "spent", "twin"])
def test_what_a_client_could_not_have_done_otherwise_is_not_its_doing(why: WhyUnfit) -> None:
    assert not unfitness.is_its_doing(dict.fromkeys((A, B, C), why), RULES)
    # One that lies is not made right by one that says something else.
    assert not unfitness.is_its_doing({A: "seal", B: why, C: why}, RULES)
    assert unfitness.is_its_doing({A: "seal", B: why, C: "signature"}, RULES)
