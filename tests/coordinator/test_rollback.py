"""Going back to an older model, with what belongs to it, in a real coordinator."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.models import published_model
from coordinator.orders import NO_ORDERS, Order, Situation, obey
from coordinator.pacing import Pace
from coordinator.persistence import history
from coordinator.persistence.ledger import Carried, Ledger
from coordinator.persistence.run_folder import RunFolder
from fedmqtt.topics import RoundId
from fedmqtt.weights import Array, Layout
from tests.coordinator.guests import Room, roll_back
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    Federation,
    answer,
    answer_all,
    back,
    come,
    kill,
)
from tests.coordinator.records import RECORD
from tests.coordinator.sums.test_differences_at_work import agreed

WORDS = ("--set", "rounds.count=0")
LAYOUT = Layout((("w", (4,)),))


def _model(federation: Federation, name: str) -> bytes:
    return load_file(federation.run / name)["w"].tobytes()


@pytest.mark.broker
def test_what_a_strategy_remembered_beside_the_model_is_there_again(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    words = (*WORDS, "--set", "aggregation=fedavgm")
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            for number in (1, 2):
                answer_all(guests, guests[0].offered(number))
            third = guests[0].offered(3)
            answer(guests[0], third)
            roll_back(room, 1)
            fourth = guests[0].offered(4)
            assert fourth.model.digest == guests[0].offered(2).model.digest
            # The same answers to the same model, by the same velocity, make the same model.
            answer_all(guests, fourth)
            fifth = guests[0].offered(5)
            assert fifth.model.digest == third.model.digest
            kill(room, program)
        # And it is gone on with from there.
        with federation.coordinating(*words) as program:
            room.wait(lambda: len([one for one in guests[0].offers if one and one.round == 5]) > 1)
            program.process.terminate()
            room.wait(lambda: program.process.poll() is not None)
    # Both ways lead on from the first round's model, and none was written over.
    second = _model(federation, "kept/2.safetensors")
    assert _model(federation, "models/2-4.safetensors") == federation.model == second
    told = [(one.round, one.outcome, one.answered) for one in _records(federation)]
    everybody = sorted(CHANGES)
    assert told == [
        (1, "averaged", everybody),
        (2, "averaged", everybody),
        (3, "kept", [str(guests[0].client)]),
        (4, "averaged", everybody),
    ]


def _records(federation: Federation) -> list[history.Record]:
    return history.read(federation.run / "history.jsonl")


@pytest.mark.broker
def test_what_clients_remember_is_not_taken_back(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*WORDS, "--set", "aggregation=mifa") as program:
            agreed(guests, guests[0].offered(1), 0)
            agreed(guests, guests[0].offered(2), 1)
            third = guests[0].offered(3)
            agreed(guests[:1], third, 2)
            roll_back(room, 0)
            fourth = guests[0].offered(4)
            assert fourth.model.digest == guests[0].offered(1).model.digest
            # The one that answered to the round that was given up counted, as it was told.
            agreed(guests[:1], fourth, 3)
            agreed(guests[1:], fourth, 2)
            guests[0].offered(5)
            kill(room, program)
    assert [one.outcome for one in _records(federation)] == [
        *("averaged", "averaged", "kept", "averaged")
    ]


@pytest.mark.broker
@pytest.mark.parametrize("wrong", ["gone", "damaged"])
def test_a_rollback_whose_model_cannot_be_read_any_more_is_given_up(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, wrong: str
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*WORDS) as program:
            answer_all(guests, guests[0].offered(1))
            second = guests[0].offered(2)
            kill(room, program)
        # As if it had been killed between the order and what follows from it.
        number = 0 if wrong == "damaged" else 7
        _order_without_carrying_out(federation.run, number)
        if wrong == "damaged":
            (federation.run / "kept" / "0.safetensors").write_bytes(b"no model")
        with federation.coordinating(*WORDS) as program:
            third = guests[0].offered(3)
            assert third.model.digest == second.model.digest
            assert "the model of round" in program.log and "given up" in program.log
            # Who reads the page is not told for ever that it was done.
            page = room.page("orders", lambda page: page.orders and not page.orders[0].done)
            assert [one.order for one in page.orders] == [f"rollback {number}"]
            whose = (
                "the initial model cannot be read" if number == 0 else "round 7 made is not kept"
            )
            assert page.orders[0].result.startswith("given up, and the newest model stays: ")
            assert page.orders[0].result.endswith(f"{whose} any more")
            kill(room, program)
        # It is given up once.
        with federation.coordinating(*WORDS) as program:
            assert back(room, guests[0], third).round == 3
            kill(room, program)


def _order_without_carrying_out(run: Path, number: int) -> None:
    ledger = Ledger(run, lambda action: None, lambda failure: None)
    said = Order(token="1", operator="carol", at="noon", what="rollback", round=RoundId(number))
    situation = Situation(
        round=RoundId(2),
        next_named="round 2",
        is_open=False,
        is_ending=False,
        trains=True,
        models=(RoundId(number),),
    )
    control, obeyed = obey(ledger.control(), said, situation)
    assert obeyed.done
    ledger.order(control)
    ledger.close()


@pytest.mark.broker
def test_what_another_strategy_remembered_is_not_put_back(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*WORDS, "--set", "aggregation=fedavgm") as program:
            for number in (1, 2):
                answer_all(guests, guests[0].offered(number))
            third = guests[0].offered(3)
            kill(room, program)
        with federation.coordinating(*WORDS, "--set", "aggregation=fedavg") as program:
            # The third round is given up with its settings.
            answer_all(guests, back(room, guests[0], third))
            guests[0].offered(5)
            roll_back(room, 1)
            answer_all(guests, guests[0].offered(6))
            guests[0].offered(7)
            kill(room, program)
    assert (federation.run / "models" / "2-6.safetensors").exists()
    left = [one.stem for one in (federation.run / "memory").iterdir()]
    assert "2-6" not in left, "of a strategy that remembers nothing"


class _Folder:
    """A run's folder in which rounds make models of ones, twos, ..."""

    def __init__(self, path: Path, keeps: int) -> None:
        self.path = path
        self.folder = RunFolder(path, lambda action: None, lambda failure: None, keeps_models=keeps)
        self.beginning = self.folder.name_run("t", LAYOUT)
        self.carried = Carried(
            pace=Pace(over_selection=1.5, deadline_s=60.0), late=0, typical_s=0.0
        )
        self.folder.begin(self.beginning, self._model(0, 0), self.carried)

    def close(self, number: int, trained: int, memory: float | None = None) -> None:
        remembered = None if memory is None else {"velocity": np.full(4, memory, np.float32)}
        self.folder.close_round(
            structs.replace(RECORD, round=RoundId(number)),
            (),
            self.carried,
            self._model(number, trained),
            self.beginning,
            strategy="s",
            memory=remembered,
        )

    @property
    def kept(self) -> list[int]:
        return [one.round for one in self.folder.ledger.models()]

    @property
    def files(self) -> set[str]:
        folders = (self.path / "models", self.path / "kept", self.path / "memory")
        return {f"{file.parent.name}/{file.stem}" for one in folders for file in one.iterdir()}

    def numbers(self, number: int) -> Array:
        return self.folder.read_model(RoundId(number), LAYOUT)[1]

    def order_back(self, number: int) -> None:
        self.folder.ledger.order(structs.replace(NO_ORDERS, rollback=RoundId(number)))

    def back(self, number: int) -> None:
        kept, _, _ = self.folder.read_model(RoundId(number), LAYOUT)
        self.folder.go_back(kept, NO_ORDERS, remembers_clients=False)

    @staticmethod
    def _model(value: int, trained: int) -> published_model.PublishedModel:
        return published_model.make(LAYOUT, np.full(4, value, np.float32), trained, 1024)


def test_so_many_models_are_kept_and_no_more(tmp_path: Path) -> None:
    run = _Folder(tmp_path, keeps=2)
    for number in (1, 2, 3):
        run.close(number, number, memory=number)
    # The newest, and two before it.
    assert run.kept == [1, 2, 3]
    assert run.files == {
        *("kept/1", "kept/2", "models/3"),
        *("memory/1", "memory/2", "memory/3"),
    }
    np.testing.assert_array_equal(run.numbers(1), np.ones(4))
    with pytest.raises(KeyError):
        run.numbers(0)
    run.folder.ledger.close()


def test_after_going_back_no_file_is_written_over(tmp_path: Path) -> None:
    run = _Folder(tmp_path, keeps=5)
    run.close(1, 1, memory=1)
    run.close(2, 2, memory=2)
    run.back(1)
    recovered = run.folder.recover()
    assert recovered is not None and recovered.trained_rounds == 1
    np.testing.assert_array_equal(recovered.flat, np.ones(4))
    np.testing.assert_array_equal(recovered.memory["velocity"], np.ones(4))
    run.close(3, 2, memory=3)
    assert run.kept == [0, 1, 2, 3]
    np.testing.assert_array_equal(run.numbers(2), np.full(4, 2))
    np.testing.assert_array_equal(run.numbers(3), np.full(4, 3))
    assert {"kept/2", "models/2-3", "memory/2", "memory/2-3"} <= run.files
    run.folder.ledger.close()


def test_nothing_is_kept_where_nothing_is_asked_for(tmp_path: Path) -> None:
    run = _Folder(tmp_path, keeps=0)
    run.close(1, 1)
    assert run.kept == [] and run.files == {"models/1"}
    run.folder.ledger.close()


@pytest.mark.parametrize("keeps", [1, 0])
def test_a_model_that_is_to_come_back_stays_until_it_has(tmp_path: Path, keeps: int) -> None:
    run = _Folder(tmp_path, keeps=1)
    run.close(1, 1)
    run.order_back(0)
    # Started again with other settings, perhaps.
    run.folder.ledger.close()
    run.folder = RunFolder(tmp_path, lambda action: None, lambda failure: None, keeps_models=keeps)
    # The round whose model was being made when the order came.
    run.close(2, 2)
    assert run.kept == [0] + [1, 2] * keeps
    np.testing.assert_array_equal(run.numbers(0), np.zeros(4))
    run.back(0)
    run.close(3, 1)
    assert run.kept == [2, 3] * keeps
    run.folder.ledger.close()
