"""A folder of parts as a page for people."""

from coordinator import selection
from fedmqtt import codecs, parts
from fedmqtt.parts_listing import listing


def test_parts_without_settings_are_a_name_and_a_line() -> None:
    for folder in (codecs, selection):
        said = listing(folder, "What there is.")
        assert said.startswith("What there is.\n\n")
        for name in parts.names(folder):
            first = (parts.load(folder, name).__doc__ or "").splitlines()[0]
            assert f"\n{name}\n    {first}\n" in said
