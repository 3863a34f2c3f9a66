"""A browser for the tests of pages."""

from collections.abc import Iterator

import pytest

from tests.brokers import is_required
from tests.round_monitor import chromium
from tests.round_monitor.chromium import Page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = chromium.binary()
    if program is None:
        reason = "no chromium on this machine: apt-get install chromium"
        if is_required("chromium"):
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium.opened(program, tmp_path_factory.mktemp("profile")) as page:
        yield page
