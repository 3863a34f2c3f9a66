"""Parts are listed from their own words."""

from coordinator import aggregation
from fedmqtt import codecs, parts
from fedmqtt.parts_listing import listing


def test_a_part_is_a_line_and_its_settings_as_in_a_file() -> None:
    text = listing(aggregation, "Strategies:")
    assert text.startswith("Strategies:\n\n") and text.endswith("\n")
    fedavg = text[text.index("\nfedavg: ") :]
    assert fedavg.startswith("\nfedavg: Federated averaging: the mean of the clients' changes,")
    assert "\n    # How far to move along the mean; 1 is averaging.\n    rate = 1.0\n" in fedavg


def test_every_part_is_listed_also_one_without_settings() -> None:
    lines = listing(codecs, "Codecs:").splitlines()
    named = [line.partition(":")[0] for line in lines[1:] if line[:1].strip()]
    assert named == parts.names(codecs)
    assert max(map(len, lines)) <= 100
