"""Who is let in: nobody of another origin, by a name that was made to point here, or tokenless."""

import pytest
from websockets.datastructures import Headers

from round_monitor.web_door import Door

DOOR = Door("127.0.0.1", "the-token")
HERE = "127.0.0.1:8710"


def _headers(**said: str) -> Headers:
    return Headers({"Host": HERE} | said)


@pytest.mark.parametrize(
    "host", [HERE, "localhost:8710", "[::1]:8710", "192.168.1.7:8710", "[::1]"]
)
def test_addresses_and_this_machine_are_here(host: str) -> None:
    assert DOOR.fault(_headers(Host=host)) == ""


@pytest.mark.parametrize(
    "host", ["evil.example:8710", "", "127.0.0.1:8710/x", "127.0.0.1.evil.example", "a b", "[::1"]
)
def test_a_name_that_was_made_to_point_here_is_not(host: str) -> None:
    assert "not one of the dashboard's" in DOOR.fault(_headers(Host=host))


def test_the_name_that_it_was_told_to_listen_at_is_here() -> None:
    assert Door("pi.local", "t").fault(_headers(Host="pi.local:8710")) == ""


def test_two_hosts_are_none() -> None:
    headers = _headers()
    headers["Host"] = HERE
    assert DOOR.fault(headers)


@pytest.mark.parametrize("origin", [f"http://{HERE}", f"https://{HERE}"])
def test_its_own_pages_are_let_in(origin: str) -> None:
    assert DOOR.fault(_headers(Origin=origin)) == ""
    assert DOOR.relay_fault(_headers(Origin=origin), "the-token") == ""


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:8000",
        "http://localhost:8710",
        "null",
        "",
        "http://evil.example",
        "file://",
    ],
)
def test_other_origins_are_not(origin: str) -> None:
    assert "another origin" in DOOR.fault(_headers(Origin=origin))
    assert "another origin" in DOOR.relay_fault(_headers(Origin=origin), "the-token")


def test_two_origins_are_none() -> None:
    headers = _headers(Origin=f"http://{HERE}")
    headers["Origin"] = "http://evil.example"
    assert "another origin" in DOOR.fault(headers)


def test_the_relay_is_for_pages_with_the_token() -> None:
    assert "no Origin" in DOOR.relay_fault(_headers(), "the-token")
    for token in ("", "the-token2", "the-toke", "\N{SNOWMAN}"):
        assert "the token is wrong" in DOOR.relay_fault(_headers(Origin=f"http://{HERE}"), token)


@pytest.mark.parametrize("said", ["", "the-token", "Basic the-token", "Bearer other", "Bearer "])
def test_secrets_are_for_who_has_the_token(said: str) -> None:
    assert "the token is wrong" in DOOR.secrets_fault(_headers(Authorization=said))
    assert DOOR.secrets_fault(_headers(Authorization="Bearer the-token")) == ""
