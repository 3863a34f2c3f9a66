"""A broker that gives wildcards nothing retained is asked by name, for no more than it takes."""

import pytest

from fedmqtt.wildcards import asked_by_name

AWS = "a1b2-ats.iot.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("host", "is_v5", "shares", "asks"),
    [
        ("broker.local", True, True, False),
        ("broker.local", True, False, True),
        ("broker.local", False, True, True),
        (AWS, True, True, True),
        (AWS.upper() + ".", True, True, True),
        ("amazonaws.com.example", True, True, False),
    ],
)
def test_who_is_asked_by_name(host: str, is_v5: bool, shares: bool, asks: bool) -> None:
    assert (asked_by_name(host, is_v5=is_v5, shares=shares) is not None) is asks


@pytest.mark.parametrize("is_v5", [True, False])
def test_aws_is_asked_for_no_more_than_it_takes(is_v5: bool) -> None:
    most = asked_by_name(AWS, is_v5=is_v5, shares=True)
    assert most is not None and most.names_max is not None
    # 8 in one SUBSCRIBE, 50 for a connection: docs/managed-brokers.md.
    assert most.filters_max <= 8 and most.names_max + 16 <= 50
