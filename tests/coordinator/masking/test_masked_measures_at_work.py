"""The figures of masked rounds: on the status page and in the history, and of nobody alone."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from coordinator import evaluation
from coordinator.config import Evaluation
from coordinator.masking.clipped import Clipped
from fedmqtt.masking import values
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Measures
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId
from tests.coordinator.guests import Room, Running, zeros
from tests.coordinator.masked_room import (
    CHANGES,
    HOLDERS,
    MEAN,
    Keys,
    answer,
    keyholders,
    masked_update,
)
from tests.coordinator.masking.test_masked_rounds import config, model

pytestmark = pytest.mark.broker

MEASURED = {
    ClientId("ann"): Measures(
        sample_count=10, metrics={"loss": 0.5}, confusion=((4, 1), (2, 3)), label="phone"
    ),
    ClientId("bob"): Measures(
        sample_count=40, metrics={"loss": 2.0}, confusion=((20, 0), (15, 5)), label="watch"
    ),
    ClientId("cat"): Measures(
        sample_count=7, metrics={"loss": 0.25}, confusion=((3, 0), (0, 4)), label="phone"
    ),
}
EVALUATION = Evaluation(every=2, metrics=("loss",), classes=2)


@pytest.fixture
def keys(federation_name: str) -> Keys:
    return Keys(federation_name, *HOLDERS)


def _run(
    url: str,
    keys: Keys,
    folder: Path,
    measured: Mapping[ClientId, Measures | None],
    rounds: int = 1,
) -> tuple[Running, Figures | None]:
    """So many rounds in which all answer; what the page of the model says in the end."""
    chosen = structs.replace(config(url, keys, count=rounds), evaluation=EVALUATION)
    with Room(url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES)
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), folder, trust=keys.trust) as running:
            for number in range(1, rounds + 1):
                offer = guests[0].offered(number)
                assert offer.masking is not None and not offer.evaluate
                assert offer.masking.is_measured == (number % 2 == 1)
                for guest in guests:
                    change, own = CHANGES[guest.client], measured[guest.client]
                    answer(guest, keys, offer, change, measures=own)
                for holder in holders.values():
                    holder.answer()
            room.ended(running)
        page = room.page("model")
    return running, page.figures


def test_the_figures_are_those_of_the_plain_answers_added_up(
    mosquitto_broker: RunningBroker, keys: Keys, tmp_path: Path
) -> None:
    running, shown = _run(mosquitto_broker.url, keys, tmp_path, MEASURED, rounds=3)
    # As in rounds whose answers can be read, but for groups and spread.
    wanted = evaluation.summarise(MEASURED)
    assert wanted is not None and wanted.clients == 3 and not wanted.groups
    first, second, third = running.records
    assert first.figures == wanted
    assert second.figures is None and third.figures == wanted
    assert shown == wanted
    assert running.service.totals.figures_round == 3
    # Nobody is told apart: not by a list of who measured, nor by samples that were trained on.
    assert all(not one.evaluated and not one.samples for one in running.records)
    assert [one.outcome for one in running.records] == ["averaged"] * 3
    assert [one.clipped for one in running.records] == [Clipped(numbers=0.0, norms=0.0)] * 3


def test_of_how_many_clients_that_measured_a_figure_was_clipped_is_in_the_history(
    mosquitto_broker: RunningBroker, keys: Keys, tmp_path: Path
) -> None:
    bob = structs.replace(MEASURED[ClientId("bob")], metrics={"loss": 2.0**24})
    running, _ = _run(mosquitto_broker.url, keys, tmp_path, {**MEASURED, ClientId("bob"): bob})
    (record,) = running.records
    assert record.clipped == Clipped(numbers=0.0, norms=0.0, measures=0.333333)


def test_fewer_that_measured_than_a_sum_needs_are_not_told_of(
    mosquitto_broker: RunningBroker, keys: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = {**MEASURED, ClientId("bob"): None}
    running, shown = _run(mosquitto_broker.url, keys, tmp_path, alone)
    (record,) = running.records
    assert record.figures is None and shown is None and record.outcome == "averaged"
    assert "no figures are told of the 2 clients that measured: 3 must" in caplog.text


_TAIL = len(CHANGES["ann"]) + values.COUNTS
"""The first word of what is measured: how many clients did."""


def _honest(words: Words) -> None:
    pass


def _cell(words: Words) -> None:
    """More of a class than there are samples."""
    words[-1] = 2**31


def _many(words: Words) -> None:
    """More clients than answered."""
    words[_TAIL] = 1000


@pytest.mark.parametrize(
    ("spoil", "told", "said"),
    [
        (_honest, {"accuracy", "loss", "macro_f1"}, ""),
        (_cell, {"loss"}, "the confusion matrix is not told: clients cannot have measured"),
        (_many, None, "adds up to what they cannot have measured"),
    ],
)
def test_one_client_that_lies_stops_no_round_and_spoils_no_model(
    mosquitto_broker: RunningBroker,
    keys: Keys,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Words], None],
    told: set[str] | None,
    said: str,
) -> None:
    chosen = structs.replace(config(mosquitto_broker.url, keys), evaluation=EVALUATION)
    with Room(mosquitto_broker.url, keys.federation, seals=keys) as room:
        guests = room.guests(*CHANGES)
        holders = keyholders(room, keys, *HOLDERS)
        with room.coordinating(chosen, zeros(3), tmp_path, trust=keys.trust) as running:
            offer = guests[0].offered(1)
            for guest in guests:
                change, own = CHANGES[guest.client], MEASURED[guest.client]
                lies = spoil if guest.client == "cat" else _honest
                made = masked_update(keys, guest.client, offer, change, measures=own, spoil=lies)
                guest.say(made)
                assert guest.receipt().accepted
            for holder in holders.values():
                holder.answer()
            room.ended(running)
    (record,) = running.records
    assert record.outcome == "averaged"
    np.testing.assert_allclose(model(running), MEAN, atol=1e-5)
    assert (None if record.figures is None else {*record.figures.metrics}) == told
    assert said in caplog.text
