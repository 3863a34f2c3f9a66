"""What the browser's client takes up, declines, sends again and forgets: a coordinator's part is
played by the test, word by word, over a real broker."""

import queue
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from fedmqtt import messages, sortition, weights
from fedmqtt.messages import (
    EVERYBODY,
    Announce,
    AnyMessage,
    Decline,
    Evaluation,
    Go,
    Method,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    Sortition,
    Training,
    Update,
)
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import (
    Address,
    ClientId,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
    lane_of,
)
from tests.broker_config.plain_client import PlainClient, connected
from tests.examples.browser_page import EVENTS, opened, wait_to_hear
from tests.examples.shutting_out import closing_on_mqtt_5
from tests.fedmqtt.test_messages import MASKING
from tests.own_broker import free_port, mosquitto_at
from tests.programs import wait_until
from tests.round_monitor.chromium import Page
from tests.round_monitor.dashboards import violations

pytestmark = pytest.mark.broker

BROWSER, RUN, LANES = ClientId("browser"), RunId("r1"), 4
LAYOUT = weights.Layout((("bias", (3,)), ("weight", (4, 3))))
MODEL = weights.write(LAYOUT, np.zeros(LAYOUT.size, np.float32))
OFFER = Offer(
    run=RUN,
    round=RoundId(1),
    task="learning_tasks.linear",
    model=ModelRef(
        digest=weights.digest(MODEL),
        size_bytes=len(MODEL),
        chunk_bytes=1024,
        fingerprint=LAYOUT.fingerprint,
    ),
    train=(BROWSER,),
    evaluate=(),
    closes_in_s=600.0,
    training=Training(),
    codec="full",
    lanes=LANES,
    seed=7,
    model_file=MODEL,
)


@dataclass
class Room:
    """The broker, and the test in the place of a coordinator."""

    topics: Topics
    plain: PlainClient

    def say(self, address: Address, message: AnyMessage, *, retain: bool = False) -> None:
        self.plain.publish(self.topics.path(address), messages.encode(message), retain)

    def offer(self, number: int, **changes: Any) -> Offer:
        said = structs.replace(OFFER, round=RoundId(number), **changes)
        self.say(OfferBoard(), said, retain=True)
        return said

    def receipt(self, number: int, **told: Any) -> None:
        told = {"accepted": True, **told}
        self.say(Inbox(BROWSER), Receipt(run=RUN, round=RoundId(number), **told))

    def answer(self) -> tuple[UpdatePart, messages.FromClient]:
        """The next part of an answer, and where it came."""
        while True:
            arrived = self.plain.receive()
            address = self.topics.parse(arrived.topic)
            if isinstance(address, UpdatePart):
                assert address.lane == lane_of(BROWSER, LANES)
                return address, messages.read_from_client(bytes(arrived.payload))

    def presence(self, holds: Callable[[Presence], bool]) -> Presence:
        """The next one that is so."""
        while True:
            arrived = self.plain.receive()
            if self.topics.parse(arrived.topic) == PresenceOf(BROWSER) and arrived.payload:
                said = messages.read_presence(bytes(arrived.payload))
                if holds(said):
                    return said

    def hears_no_answer(self) -> None:
        """Up to now; what the client says after the presence that is asked for comes later."""
        try:
            while True:
                topic = self.plain.arrived.get_nowait().topic
                assert not isinstance(self.topics.parse(topic), UpdatePart), topic
        except queue.Empty:
            return


@pytest.fixture
def room(mosquitto_broker: RunningBroker, federation_name: str) -> Iterator[Room]:
    with connected(mosquitto_broker.url, "coordinator") as plain:
        topics = Topics(federation_name)
        for topic_filter in (topics.any_update, topics.any_presence):
            plain.subscribe(topic_filter)
        yield Room(topics, plain)


@pytest.fixture
def page(
    browser: Page,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    room: Room,
) -> Iterator[Page]:
    words = ("--broker", mosquitto_broker.url, "--federation", federation_name, "--id", BROWSER)
    with opened(browser, tmp_path, *words):
        yield browser


def test_an_answer_is_kept_and_sent_again_until_its_receipt(page: Page, room: Room) -> None:
    room.offer(1)
    where, update = room.answer()
    assert isinstance(update, Update) and where.part == "0"
    assert update.fingerprint == LAYOUT.fingerprint and update.codec == "full"
    assert len(update.payload) == 4 * LAYOUT.size
    assert update.sample_count == 60 and update.steps == 4, "75 rows, a fifth of them held out"
    # The page is loaded anew: the answer is in the browser still, and the offer is no news.
    page.run("location.reload()")
    again, same = room.answer()
    assert (again, same) == (where, update)
    room.receipt(1)
    wait_to_hear(page, "counted")
    page.run("location.reload()")
    wait_to_hear(page, "online")
    room.offer(2)
    where, _ = room.answer()
    assert where.round == 2


def test_a_receipt_that_refuses_ends_it_too_and_blame_is_shown(page: Page, room: Room) -> None:
    room.offer(1)
    room.answer()
    room.receipt(1, accepted=False, reason="late: round 1 is closed")
    wait_to_hear(page, "not counted")
    room.offer(2)
    room.answer()
    room.receipt(2, accepted=False, reason="not finite", blamed=True)
    said = room.presence(lambda one: bool(one.note))
    assert said.note == "the coordinator refuses the answer to round 2: not finite"


def test_an_offer_that_is_said_to_it_alone_is_taken_up_once_as_one_on_the_board(
    page: Page, room: Room
) -> None:
    # Nothing stands on the board: it is as if the broker had not shown it.
    said = structs.replace(OFFER, closes_in_s=500.0)
    room.say(Inbox(BROWSER), said)
    where, update = room.answer()
    assert isinstance(update, Update) and where.round == 1
    # Once more: what is owed is sent again, and nothing is trained again.
    room.say(Inbox(BROWSER), said)
    assert room.answer() == (where, update)
    room.receipt(1)
    wait_to_hear(page, "counted")
    room.say(Inbox(BROWSER), said)
    room.offer(2)
    where, _ = room.answer()
    assert where.round == 2


_NOT_DONE: list[tuple[dict[str, Any], str]] = [
    ({"wire": 2}, "this client speaks wire version 1, not 2"),
    ({"task": "digits"}, "this client runs task learning_tasks.linear, not digits"),
    ({"codec": "eden"}, "this client knows the codecs full, int8, not eden"),
    ({"describes": True}, "this client does not describe its data"),
    ({"masking": MASKING}, "this client cannot mask its answers"),
    ({"method": Method(sends="gradient")}, "does not know sends"),
    ({"method": Method(personal=("bias",))}, "does not know personal"),
    (
        {"model": structs.replace(OFFER.model, size_bytes=2**30)},
        "the model has more than 4000000 bytes",
    ),
    (
        {"model": structs.replace(OFFER.model, fingerprint="0" * 16)},
        "the model is not built as it was offered",
    ),
]


def test_what_it_does_not_know_it_declines(page: Page, room: Room) -> None:
    for number, (changes, why) in enumerate(_NOT_DONE, 1):
        room.offer(number, **changes)
        where, said = room.answer()
        assert where.part == "0" and isinstance(said, Decline)
        assert (said.run, said.round) == (RUN, number) and why in said.reason


def test_it_does_as_the_offer_asks(page: Page, room: Room) -> None:
    room.offer(
        1,
        training=Training(epochs=2, batch_size=7, proximal=1e-5),
        method=Method(partial=True, tells_loss=True),
        codec="int8",
        evaluate=(BROWSER,),
    )
    _, update = room.answer()
    assert isinstance(update, Update)
    assert update.method == "proximal=1e-05 partial tells-loss" and update.steps == 2 * 9
    assert update.base_loss == pytest.approx(np.log(3)), "zeros say nothing of three classes"
    assert len(update.payload) == 4 + LAYOUT.size
    assert update.measures is not None and update.measures.sample_count == 15
    assert np.sum(update.measures.confusion or ()) == 15
    room.receipt(1)
    room.offer(2, train=(), evaluate=(BROWSER,))
    _, measured = room.answer()
    assert isinstance(measured, Evaluation) and measured.base == OFFER.model.digest


def test_it_draws_as_the_offer_says(page: Page, room: Room) -> None:
    [drawn] = sortition.draws("salt", RoundId(1), "train", [BROWSER])
    room.offer(1, train=(), sortition=Sortition(salt="salt", train=drawn, evaluate=0))
    wait_to_hear(page, "passed over")
    room.hears_no_answer()
    [drawn] = sortition.draws("salt", RoundId(2), "train", [BROWSER])
    room.offer(2, train=(), sortition=Sortition(salt="salt", train=drawn + 1, evaluate=0))
    where, said = room.answer()
    assert where.round == 2 and isinstance(said, Update)
    room.receipt(2)
    room.offer(3, train=(), sortition=Sortition(salt="salt", train=0, evaluate=EVERYBODY))
    _, said = room.answer()
    assert isinstance(said, Evaluation)


def test_an_older_coordinators_offer_is_ignored_and_a_new_one_hears_what_is_owed(
    page: Page, room: Room
) -> None:
    room.offer(1, epoch=2)
    _, first = room.answer()
    room.offer(2, epoch=1)
    # What the first one had taken in and not stored is gone with it.
    room.offer(1, epoch=3)
    where, again = room.answer()
    assert where.round == 1 and again == first


def test_a_large_answer_asks_first(
    browser: Page,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    room: Room,
) -> None:
    layout = weights.Layout((("bias", (3,)), ("weight", (400, 3))))
    file = weights.write(layout, np.zeros(layout.size, np.float32))
    model = ModelRef(
        digest=weights.digest(file),
        size_bytes=len(file),
        chunk_bytes=2048,
        fingerprint=layout.fingerprint,
    )
    for index in range(3):
        topic = f"fed/v1/{federation_name}/model/{model.digest}/{index}"
        room.plain.publish(topic, file[2048 * index : 2048 * (index + 1)], retain=True)
    words = ("--broker", mosquitto_broker.url, "--federation", federation_name, "--id", BROWSER)
    with opened(browser, tmp_path, *words, more="&chunk_bytes=1024"):
        rows = "\\n".join(",".join(["1"] * 400 + [str(n % 3)]) for n in range(10))
        browser.run(f"document.querySelector('#rows').value = '{rows}'")
        room.offer(1, model=model, model_file=b"")
        where, asked = room.answer()
        assert where.part == "announce" and isinstance(asked, Announce)
        assert asked.chunk_bytes == 1024 and asked.size_bytes > 4 * layout.size
        # Some chunks and not others; one twice, and some that there are not.
        room.say(
            Inbox(BROWSER),
            Go(run=RUN, round=RoundId(1), digest=asked.digest, ranges=((3, 99), (1, 2))),
        )
        got: dict[int, bytes] = {}
        while len(got) < 3:
            where, piece = room.answer()
            assert isinstance(piece, messages.Chunk) and piece.digest == asked.digest
            got[int(where.part)] = bytes(piece.data)
        assert sorted(got) == [1, 3, 4]
        room.say(
            Inbox(BROWSER),
            Go(run=RUN, round=RoundId(1), digest=asked.digest, ranges=((0, 1), (2, 3))),
        )
        while len(got) < 5:
            where, piece = room.answer()
            assert isinstance(piece, messages.Chunk)
            got[int(where.part)] = bytes(piece.data)
        whole = b"".join(got[number] for number in sorted(got))
        assert weights.digest(whole) == asked.digest
        assert isinstance(messages.read_from_client(whole), Update)


def test_an_old_wills_word_is_corrected_and_a_stranger_is_not_fought(
    page: Page, room: Room
) -> None:
    birth = room.presence(lambda one: one.online)
    assert birth.purposes == ("train", "evaluate") and birth.draws
    room.say(PresenceOf(BROWSER), Presence(online=False, session=birth.session), retain=True)
    assert room.presence(lambda one: one.online).session == birth.session
    stranger = Presence(online=True, session="another")
    room.say(PresenceOf(BROWSER), stranger, retain=True)
    told = room.presence(lambda one: one.session != "another" and bool(one.note))
    assert "another client calls itself browser" in told.note


def test_its_owner_says_when_it_takes_part(page: Page, room: Room) -> None:
    page.run("document.querySelector('#takes-part').click()")
    idle = room.presence(lambda one: not one.purposes)
    assert idle.online and idle.note == "its owner does not take part now"
    room.offer(1)
    _, said = room.answer()
    assert isinstance(said, Decline) and said.reason == idle.note
    page.run("document.querySelector('#takes-part').click()")
    assert room.presence(lambda one: bool(one.purposes)).note == ""
    room.offer(2)
    _, update = room.answer()
    assert isinstance(update, Update)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_it(page: Page, room: Room, dark: bool) -> None:
    room.offer(1)
    room.answer()
    page.look(360, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
    assert page.complaints() == []


def test_a_page_that_is_left_is_gone(page: Page, room: Room) -> None:
    birth = room.presence(lambda one: one.online)
    page.go("about:blank")
    # Its goodbye, or its will.
    assert room.presence(lambda one: not one.online).session == birth.session


def test_nonsense_ends_nothing(page: Page, room: Room) -> None:
    inbox, offer = (room.topics.path(one) for one in (Inbox(BROWSER), OfferBoard()))
    for topic in (inbox, offer, room.topics.path(PresenceOf(BROWSER))):
        for payload in (b"\xc1", b"\x91" * 1000, b"\x80", b"\xc1\x01" + bytes(64) + b"\x80"):
            room.plain.publish(topic, payload)
    room.offer(1)
    _, said = room.answer()
    assert isinstance(said, Update)
    told = page.run("[...document.querySelectorAll('#events b')].map(one => one.textContent)")
    assert "error" in told


def test_a_broker_that_has_lost_everything_gets_the_answer_again(
    browser: Page, federation_name: str, tmp_path: Path
) -> None:
    port, topics = free_port(), Topics(federation_name)
    url = f"mqtt://127.0.0.1:{port}"
    words = ("--broker", url, "--federation", federation_name, "--id", BROWSER)
    with ExitStack() as stack:
        with listening_at(port, topics, url) as room:
            stack.enter_context(opened(browser, tmp_path, *words))
            room.offer(1)
            first = room.answer()
        wait_to_hear(browser, "offline")
        with listening_at(port, topics, url) as room:
            assert room.answer() == first
            room.receipt(1)
            wait_to_hear(browser, "counted")


def test_who_is_to_send_a_part_sends_what_there_is_when_time_is_up(page: Page, room: Room) -> None:
    """`closes_in_s` ends the training, long before all epochs are through: they are 60 million
    steps, which no machine takes in that time."""
    rows = "document.getElementById('rows').value"
    page.run(f"{rows} = {rows}.repeat(100)")
    room.offer(
        1,
        training=Training(epochs=10_000, batch_size=1),
        method=Method(partial=True),
        closes_in_s=5.0,
    )
    _, update = room.answer()
    assert isinstance(update, Update) and update.method == "partial"
    assert 0 < update.steps < 10_000 * 6_000


def test_trouble_that_is_over_is_told_of_no_longer(page: Page, room: Room) -> None:
    room.offer(1, model=structs.replace(OFFER.model, fingerprint="0" * 16))
    told = room.presence(lambda one: bool(one.note))
    assert "not built as it was offered" in told.note
    room.offer(2)
    assert room.presence(lambda one: not one.note).session == told.session


def test_a_chunk_of_another_size_is_waited_for(page: Page, room: Room) -> None:
    """As of a coordinator that lays its model out anew, for other packets."""
    birth = room.presence(lambda one: one.online)
    chunk = room.topics.path(ModelChunk(OFFER.model.digest, 0))
    room.plain.publish(chunk, MODEL[:-1], retain=True)
    room.offer(1, model_file=b"")
    wait_to_hear(page, "fetching")
    # What it says after it has subscribed: by then the broker has sent it that one.
    room.say(PresenceOf(BROWSER), Presence(online=False, session=birth.session), retain=True)
    room.presence(lambda one: one.online)
    room.plain.publish(chunk, MODEL, retain=True)
    _, update = room.answer()
    assert isinstance(update, Update)


def test_who_drew_and_forgot_its_answer_hears_that_it_has_one(page: Page, room: Room) -> None:
    drawn = Sortition(salt="salt", train=EVERYBODY, evaluate=0)
    room.offer(1, train=(), sortition=drawn, model_file=b"")
    wait_to_hear(page, "fetching")
    room.receipt(1, accepted=False, reason="duplicate: round 1 has an answer of this client")
    wait_to_hear(page, "passed over")
    room.offer(2)
    where, _ = room.answer()
    assert where.round == 2


def test_a_broker_that_closes_on_mqtt_5_without_a_word_is_spoken_to_in_3_1_1(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = parse_broker_url(mosquitto_broker.url)
    with closing_on_mqtt_5(url.host, url.port) as port:
        words = ("--broker", f"mqtt://127.0.0.1:{port}", "--federation", federation_name)
        # Yields once the page has told that it is online.
        with opened(browser, tmp_path, *words, "--id", BROWSER):
            assert browser.run(f"{EVENTS}.filter(one => one.startsWith('offline')).length") == 2


@contextmanager
def listening_at(port: int, topics: Topics, url: str) -> Iterator[Room]:
    """A broker of our own, which knows nothing yet, and is gone with the block."""
    with mosquitto_at(port):
        wait_until(lambda: is_listening(port))
        with connected(url, "coordinator") as plain:
            plain.subscribe(topics.any_update)
            yield Room(topics, plain)


def is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
