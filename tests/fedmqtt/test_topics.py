from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import topics
from fedmqtt.topics import (
    CHANNELS,
    Address,
    ClientId,
    CoordinatorSeat,
    Digest,
    Inbox,
    LanesOf,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    SeatClaim,
    StatusPage,
    Topics,
    UpdatePart,
    WorkOf,
)

HOME = Topics("home")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
CLIENTS = NAMES.map(ClientId)
NUMBERS = st.integers(0, 2**31)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
PARTS = st.one_of(st.just("announce"), NUMBERS.map(str))
ADDRESSES = st.one_of(
    st.just(OfferBoard()),
    st.builds(ModelChunk, DIGESTS, NUMBERS),
    st.builds(UpdatePart, NUMBERS, CLIENTS, NUMBERS.map(RoundId), PARTS),
    st.builds(Inbox, CLIENTS),
    st.builds(PresenceOf, CLIENTS),
    st.just(CoordinatorSeat()),
    st.just(SeatClaim()),
    st.builds(WorkOf, CLIENTS),
    st.builds(LanesOf, CLIENTS),
    st.builds(StatusPage, st.sampled_from(["round", "coordinator", "clients/ann", "history/12"])),
)


@given(ADDRESSES)
def test_every_address_comes_back_from_its_topic(address: Address) -> None:
    topic = HOME.path(address)
    assert HOME.parse(topic) == address
    assert topic.count("/") <= 7, "AWS admits no more"
    assert len(topic.encode()) <= 256, "nor a longer topic"


@given(NAMES, ADDRESSES)
def test_another_federation_is_not_ours(name: str, address: Address) -> None:
    if name != "home":
        assert HOME.parse(Topics(name).path(address)) is None


def test_a_topic_below_a_clients_own_is_its_also_where_nothing_belongs() -> None:
    for end in ("update/0/pi-3/1/0", "update/x/pi-3/y/z", "update/0/pi-3", "presence/pi-3"):
        assert HOME.owner(f"fed/v1/home/{end}") == "pi-3"
    for end in ("offer", "update", "update/0", "presence", "inbox/pi-3", "update/0/a+b/1", "#"):
        assert HOME.owner(f"fed/v1/home/{end}") is None


def test_a_topic_where_a_broker_is_tried_is_told_from_others() -> None:
    trial, answer = (
        UpdatePart(0, ClientId("pi-3"), RoundId(0), part) for part in ("doctor-1", "0")
    )
    assert HOME.is_trial(HOME.path(trial)) and HOME.parse(HOME.path(trial)) is None
    assert not HOME.is_trial(HOME.path(answer))


@given(st.text(alphabet="abz019/+#._-\x00\u0667\u00e9", max_size=40))
def test_any_other_topic_is_nobody_s(end: str) -> None:
    topic = f"fed/v1/home/{end}"
    address = HOME.parse(topic)
    assert address is None or HOME.path(address) == topic


@pytest.mark.parametrize(
    "end",
    [
        "update/0/ann/07/0",
        "update/0/ann/7/00",
        "update/0/ann/\u0667/0",
        "update/0/ann/-7/0",
        "update/0/ann/7/Announce",
        "update/0/ann/7",
        "update/0/ann/7/0/0",
        "update/0/+/7/0",
        "update/0//7/0",
        "update/0/ann/7/0\n",
        "inbox/#",
        "inbox/ann\n",
        "inbox/",
        "presence/.ann",
        f"presence/{'a' * 65}",
        f"model/{'A' * 64}/0",
        f"model/{'a' * 63}/0",
        "model//0",
        "offer/",
        "seat/",
        "seat/1",
        "Seat",
        "claim/",
        "claim/x",
        "status/",
        "status/round/+",
        "status/round/a/b",
        "",
    ],
)
def test_one_spelling_per_address(end: str) -> None:
    assert HOME.parse(f"fed/v1/home/{end}") is None


@pytest.mark.parametrize(
    "name", ["", "a/b", "+", "#", "a#", "$SYS", " ", "a\0", "\u00e9", "a" * 65]
)
def test_a_federation_cannot_be_named_like_a_wildcard(name: str) -> None:
    with pytest.raises(ValueError, match="federation name"):
        Topics(name)


def test_the_wildcards_cover_what_they_should() -> None:
    assert HOME.any_update == "fed/v1/home/update/+/+/+/+"
    part = UpdatePart(3, ClientId("ann"), RoundId(7), "announce")
    assert HOME.path(part) == "fed/v1/home/update/3/ann/7/announce"
    assert HOME.lane(3) == "fed/v1/home/update/3/+/+/+"
    assert HOME.filter(WorkOf) == HOME.any_work == "fed/v1/home/work/+"
    assert HOME.any_presence == "fed/v1/home/presence/+"
    assert HOME.any_status == "fed/v1/home/status/#"


def test_a_coordinator_finds_the_seat_and_who_claims_it() -> None:
    assert HOME.path(CoordinatorSeat()) == HOME.seat == "fed/v1/home/seat"
    assert HOME.path(SeatClaim()) == HOME.claim == "fed/v1/home/claim"
    # The seat is found by who comes late; a claim that is read later is no claim.
    assert CHANNELS[CoordinatorSeat].retain
    assert not CHANNELS[SeatClaim].retain


def test_each_kind_of_address_has_a_channel() -> None:
    assert set(CHANNELS) == set(get_args(Address))


def test_only_clients_write_what_only_clients_may() -> None:
    written = {kind for kind, channel in CHANNELS.items() if channel.writer == "client"}
    assert written == {UpdatePart, PresenceOf}


def test_lanes_are_the_same_on_every_machine() -> None:
    lanes = [topics.lane_of(ClientId(f"c{number}"), 8) for number in range(10)]
    assert lanes == [7, 1, 3, 5, 6, 0, 2, 4, 5, 3]
    assert topics.lane_of(ClientId("c0"), 1) == 0


@given(CLIENTS, st.integers(1, 4096))
def test_a_lane_is_below_their_count(client: ClientId, lane_count: int) -> None:
    assert 0 <= topics.lane_of(client, lane_count) < lane_count
