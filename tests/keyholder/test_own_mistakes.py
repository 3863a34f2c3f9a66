"""A keyholder in the test's own process, where its memory can be looked at, and a part of it can
make a mistake; on a real Mosquitto, with its own loop and thread."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials
from fedmqtt.event_loop import EventLoop
from fedmqtt.revocations import Enrolments
from fedmqtt.topics import ClientId
from keyholder.book import Book
from keyholder.program import Keyholder, Settings
from keyholder.sums import Keeper, Share
from tests.broker_config.kit_broker import KitBroker, plan, running_kit
from tests.keyholder.asking import Asking, answers
from tests.keyholder.masked_clients import Answers, keyholder, masking
from tests.programs import wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

CLIENTS = ("ann", "bob", "cat")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitBroker]:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    made = kit.create(folder, plan(folder))
    made.enroll("kh-a", keyholder=True)
    with running_kit(made, folder) as started:
        yield started


@contextmanager
def holding(broker: KitBroker, folder: Path, enrolled: Enrolments | None = None) -> Iterator[None]:
    path = broker.folder / "accounts" / "kh-a.toml"
    account, url = credentials.broker_of(path, ("device",))
    keeper = Keeper(
        federation=account.federation,
        federation_key=account.federation_key,
        name=ClientId(account.id),
        enrolled=enrolled,
    )
    settings = Settings(
        serves=("keyholders",), floor=2, tolerated=1, mixed_rounds=False, keep_s=100_000.0
    )
    book = Book(folder, account.federation, account.id, time.time)  # noqa: TID251 (real files)
    loop = EventLoop()
    program = Keyholder(loop, url, account, book, settings, keeper, on_denied=pytest.fail)
    program.start()
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield
    finally:
        loop.post_from_thread(program.stop)
        loop.post_from_thread(loop.stop)
        thread.join()
        loop.close()


def _made(asking: Asking) -> Answers:
    return answers(asking, masking([keyholder("kh-a", 0, asking.keys("kh-a")[0])]))


class _WrongOnce(Enrolments):
    """What nobody thought of, the first time that it is asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._asked = 0

    def includes(self, key: str) -> bool:
        self._asked += 1
        return self._asked // 0 > 0 if self._asked == 1 else True


def test_a_mistake_of_its_own_is_told_and_the_next_list_is_worked_on(
    broker: KitBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = _WrongOnce(broker.folder / "enrolled-devices")
    with Asking(broker).connected() as asking, holding(broker, tmp_path, wrong):
        made = _made(asking)
        asked = made.list([made.of(name) for name in CLIENTS], (1,))
        assert asking.refusal("kh-a", asked) == (
            "kh-a made a mistake (ZeroDivisionError): its log has more"
        )
        assert not asking.answer("kh-a", asked).refused
    assert "a mistake of this program, while it worked on a list" in caplog.text


def _shares() -> list[Share]:
    # By `type`: `isinstance` asks objects of others what they are, and some of them act on it.
    return [one for one in gc.get_objects() if type(one) is Share]


def test_seeds_of_a_list_that_is_given_up_are_forgotten(broker: KitBroker, tmp_path: Path) -> None:
    with Asking(broker).connected() as asking, holding(broker, tmp_path):
        made = _made(asking)
        entries = [made.of(name) for name in CLIENTS]
        looks = made.list(entries, (), looks=True)
        # Other tests may have left some: kept here, so that no new one gets an identity of theirs.
        of_others = _shares()

        def held() -> int:
            ids = set(map(id, of_others))
            return sum(id(one) not in ids for one in _shares())

        assert asking.answer("kh-a", looks).fit
        wait_until(lambda: held() == len(CLIENTS))
        # Another is looked at in its place, and comes to nothing.
        forged = structs.replace(entries[0], payload=bytes(32))
        other = made.list([forged, *entries[1:]], (), looks=True)
        assert "is not what it signed" in asking.refusal("kh-a", other)
        wait_until(lambda: not held())
        # And what is opened is not held for longer.
        assert asking.answer("kh-a", looks).fit
        opened = structs.replace(looks, looks=False, seeds=(1,))
        assert not asking.answer("kh-a", opened).refused
        wait_until(lambda: not held())
