"""A policy that goes by what clients told goes on by it after a coordinator was killed by -9."""

from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.ledger import Ledger
from fedmqtt.messages import Decline, Offer
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    SAMPLES,
    Federation,
    back,
    come,
    kill,
)

pytestmark = pytest.mark.broker

ROUNDS = 9
# Nothing in the choice depends on time: losses, samples, and the round's own chance.
POLICY = 'selection = "power_of_choice"\nselection_settings = { drawn = 1.5, explore = 0.3 }\n'
SETTINGS = ("--set", "rounds.cohort=1", "--set", "rounds.quorum=1", "--set", "rounds.count=9")


def answer(guests: dict[str, Guest], offer: Offer) -> None:
    """By whoever is invited: with a loss that falls as rounds go by, each from its own height."""
    (client,) = offer.train
    samples = SAMPLES[client]
    loss = {"loss": (1 + len(client) + samples) / (3 * offer.round)}
    guests[client].say(
        update(offer, CHANGES[client], samples, metrics=loss), number=int(offer.round)
    )
    receipt = guests[client].receipt()
    assert receipt.accepted and receipt.round == offer.round, receipt


def federation(url: str, name: str, folder: Path) -> Federation:
    folder.mkdir()
    found = Federation(url, name, folder)
    config = folder / "federation.toml"
    # Keys of the file itself stand before its sections.
    config.write_text(POLICY + config.read_text())
    return found


def run(url: str, name: str, folder: Path, killed_in: frozenset[int]) -> Federation:
    """All rounds; in these, the coordinator is killed when the offer is out."""
    made = federation(url, name, folder)
    with Room(url, name) as room:
        guests = {str(guest.client): guest for guest in come(room, *CHANGES)}
        ann, number = guests["ann"], 1
        to_come, killed = set(killed_in), None
        while number <= ROUNDS:
            with made.coordinating(*SETTINGS) as program:
                offer = ann.offered(1) if killed is None else back(room, ann, killed)
                while number <= ROUNDS and number not in to_come:
                    answer(guests, offer)
                    number += 1
                    offer = ann.offered(number) if number <= ROUNDS else offer
                if number <= ROUNDS:
                    to_come.remove(number)
                    killed = offer
                    kill(room, program)
                room.wait(lambda: program.process.poll() is not None)
    return made


def test_killed_again_and_again_it_invites_the_same_and_makes_the_same_model(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    calm = run(url, f"{federation_name}-c", tmp_path / "calm", frozenset())
    killed = run(url, f"{federation_name}-k", tmp_path / "killed", frozenset({2, 3, 6}))
    whom = [
        [record.invited for record in history.read(one.run / "history.jsonl")]
        for one in (calm, killed)
    ]
    assert whom[0] == whom[1] and len({str(one) for one in whom[0]}) > 1
    assert calm.model == killed.model
    known = []
    for one in (calm, killed):
        book = Ledger(one.run, post=lambda action: None)
        # How long an answer took is measured by a clock.
        known.append(
            {
                client: (
                    it.invited,
                    it.invited_last,
                    it.answered,
                    it.answered_last,
                    it.samples,
                    it.loss,
                )
                for client, it in book.known().items()
            }
        )
        assert all(len(it.took_s) == min(5, it.answered) for it in book.known().values())
        book.close()
    assert known[0] == known[1]


def test_what_it_takes_to_answer_is_known_of_an_answer_from_before_the_kill(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    made = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with made.coordinating() as program:
            first = guests[0].offered(1)
            guests[0].say(update(first, CHANGES["ann"], 3, metrics={"loss": 0.25}))
            assert guests[0].receipt().accepted
            kill(room, program)
        book = Ledger(made.run, post=lambda action: None)
        (kept,) = book.kept()
        book.close()
        assert kept.report is not None
        assert (kept.report.samples, kept.report.loss) == (3, 0.25)
        with made.coordinating() as program:
            again = back(room, guests[1], first)
            for guest in guests[1:]:
                guest.say(update(again, CHANGES[str(guest.client)], 5))
                assert guest.receipt().accepted
            room.page("history", lambda page: len(page.rounds) == 1)
            kill(room, program)
    book = Ledger(made.run, post=lambda action: None)
    known = book.known()
    book.close()
    assert known[guests[0].client].took_s == (kept.report.took_s,)
    assert {client: one.samples for client, one in known.items()} == {"ann": 3, "bob": 5, "cat": 5}


def test_that_one_client_gives_all_answers_is_told_after_a_restart_too(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    made = Federation(url, federation_name, tmp_path)
    one_is_enough = ("--set", "rounds.quorum=1", "--set", "rounds.count=40")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)

        def play(numbers: range) -> None:
            for number in numbers:
                offer = ann.offered(number)
                for lazy in (bob, cat):
                    lazy.say(
                        Decline(run=offer.run, round=offer.round, reason="on battery"),
                        number=number,
                    )
                ann.say(update(offer, CHANGES["ann"]), number=number)
                assert ann.receipt().accepted

        with made.coordinating(*one_is_enough) as program:
            play(range(1, 15))
            room.page("history", lambda page: len(page.rounds) == 14)
            assert room.page("coordinator").skew == "", "too few answers to tell"
            kill(room, program)
        with made.coordinating(*one_is_enough) as program:
            back(room, ann, ann.offered(15))
            play(range(15, 25))
            page = room.page("coordinator", lambda page: page.skew != "")
            kill(room, program)
    assert " gave few of the answers of the last " in page.skew
    assert "lengthen rounds.pause_s or rounds.deadline_s" in page.skew
