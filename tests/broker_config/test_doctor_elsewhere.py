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
