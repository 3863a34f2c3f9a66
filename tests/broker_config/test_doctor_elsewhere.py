"""`fedmqtt doctor` on brokers of other makes: what differs between them is named."""

import pytest

from broker_config.local_broker import RunningBroker
from tests.broker_config.broker_facts import FOUND
from tests.broker_config.doctors_patient import examined

pytestmark = pytest.mark.broker


def test_names_and_wildcards_are_as_the_broker_has_them(
    any_broker: RunningBroker, broker_kind: str, federation_name: str
) -> None:
    if broker_kind not in FOUND:
        pytest.skip(f"nobody has written down what {broker_kind} does with dots and wildcards")
    facts = FOUND[broker_kind]
    report = examined(
        *("--broker", any_broker.url, "--federation", federation_name, "--insecure"),
        *("--devices", "2", "--packet-max", "140000"),
    )
    assert report.with_status("failed") == set(), report.checks
    doubts = report.with_status("warning")
    assert ("names" not in doubts) is facts.names_with_dots
    assert ("without dots" in report.lines_to_change("names")) is not facts.names_with_dots
    assert ("retained" not in doubts) is facts.retained_to_wildcards
    # Programs ask by name where wildcards bring nothing: there is nothing to change.
    assert not report.lines_to_change("retained")


@pytest.mark.parametrize(
    ("federation", "more"), [("home.1", ()), ("home", ("--role", "device", "--id", "pi.3"))]
)
def test_a_dot_in_ones_own_name_is_named_where_the_broker_takes_none(
    any_broker: RunningBroker,
    broker_kind: str,
    federation_name: str,
    federation: str,
    more: tuple[str, ...],
) -> None:
    if broker_kind not in FOUND:
        pytest.skip(f"nobody has written down what {broker_kind} does with dots and wildcards")
    words = ("--broker", any_broker.url, "--insecure", "--devices", "2", "--packet-max", "140000")
    report = examined(*words, "--federation", f"{federation_name}-{federation}", *more)
    # Other kinds of brokers are not doubted for it.
    if FOUND[broker_kind].names_with_dots:
        assert report.with_status("failed") == set(), report.checks
        return
    (failed,) = report.with_status("failed")
    assert "that may be for the dot in " in report.says(failed)
    assert "without dots" in report.lines_to_change(failed)
    assert "RabbitMQ" not in report.lines_to_change(failed)
