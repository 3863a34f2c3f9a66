"""A real coordinator that adds noise: killed by -9, it makes the same model, and keeps its word."""

import hashlib
import json
import math
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from broker_config.local_broker import RunningBroker
from coordinator.noise import differential_privacy
from coordinator.noise.differential_privacy import DifferentialPrivacy, Plan
from coordinator.noise.private_sum import PrivateRound, PrivateSum
from coordinator.persistence import history
from fedmqtt.messages import Offer
from fedmqtt.privacy import gaussian
from tests.coordinator.guests import Guest, Room, roll_back, update
from tests.programs import Program, running

pytestmark = pytest.mark.broker

TASK = "learning_tasks.linear"
SIZE = 50
NAMES = ("ann", "bob", "cat")
MULTIPLIER = 0.5
START = np.linspace(-1, 1, SIZE, dtype=np.float32)


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


class Federation:
    def __init__(self, url: str, name: str, folder: Path, more: str) -> None:
        self._folder, self._url = folder, url
        self._config = folder / "federation.toml"
        save_file({"w": START}, folder / "start.safetensors")
        self._config.write_text(
            f'name = "{name}"\ntask = "{TASK}"\nruns = "{folder / "runs"}"\n'
            f'initial_model = "{folder / "start.safetensors"}"\n'
            "[evaluation]\nevery = 0\n[tuning]\nenabled = false\n"
            "[rounds]\ncount = 9\ncohort = 3\nover_selection = 1.0\nquorum = 2\nclients_min = 3\n"
            f"deadline_s = 1000\naway_grace_s = 1000\n[differential_privacy]\n{more}"
        )

    @contextmanager
    def coordinating(self, *words: str) -> Iterator[Program]:
        command = ["fedmqtt", "coordinator", str(self._config), "--broker", self._url]
        with running(self._folder, *command, *words) as program:
            yield program

    @property
    def run(self) -> Path:
        (folder,) = (self._folder / "runs").iterdir()
        return folder

    @property
    def model(self) -> NDArray[np.float32]:
        found: NDArray[np.float32] = load_file(self.run / "model.safetensors")["w"]
        return found


Mechanism = Literal["independent", "tree"]


def central(adaptive: bool = False, mechanism: Mechanism = "independent") -> str:
    return (
        f'noise = "central"\nnoise_multiplier = {MULTIPLIER}\nparticipations_max = 2\n'
        f'clip_norm = 1.5\nadaptive = {str(adaptive).lower()}\nmechanism = "{mechanism}"\n'
    )


def plan(adaptive: bool, mechanism: Mechanism = "independent") -> Plan:
    chosen = DifferentialPrivacy(
        noise="central",
        noise_multiplier=MULTIPLIER,
        participations_max=2,
        clip_norm=1.5,
        adaptive=adaptive,
        mechanism=mechanism,
    )
    made = differential_privacy.plan(chosen, 9)
    assert made is not None
    return made


def change(name: str, number: int) -> NDArray[np.float32]:
    chance = np.random.default_rng([number, *name.encode()])
    return chance.normal(size=SIZE).astype(np.float32) * np.float32(0.5)


def come(room: Room, *names: str) -> list[Guest]:
    guests = [room.guest(name) for name in names]
    for guest in guests:
        guest.come(task=TASK, purposes=("train",))
    return guests


def answer(guest: Guest, offer: Offer) -> None:
    guest.say(update(offer, list(change(str(guest.client), offer.round))), number=offer.round)
    receipt = guest.receipt()
    assert receipt.accepted and receipt.round == offer.round, receipt


def killed(room: Room, program: Program) -> None:
    program.process.send_signal(signal.SIGKILL)
    room.wait(lambda: program.process.poll() is not None)


def back(room: Room, guest: Guest, before: Offer) -> None:
    """A newer coordinator goes on, and hears who answers."""
    room.wait(lambda: any(one and one.epoch > before.epoch for one in guest.offers))


def answer_all(guests: Sequence[Guest], number: int) -> None:
    for guest in guests:
        answer(guest, guest.offered(number))


def expected(run: Path, made: Plan, *numbers: int) -> NDArray[np.float32]:
    """These rounds from the key in the run's folder and what the clients sent."""
    model, key, memory = START, (run / "noise.key").read_bytes(), {}  # type: ignore[var-annotated]
    for number in numbers:
        round_ = PrivateRound(made, key, number, memory, norm_max=64 * math.sqrt(SIZE))
        added = PrivateSum(SIZE, round_)
        for name in NAMES:
            added.add(change(name, number), 1)
        model = (model + added.mean()).astype(np.float32)
    return model


def said_epsilon(run: Path) -> dict[str, str]:
    with safe_open(run / "model.safetensors", "np") as file:
        about: dict[str, str] = json.loads(file.metadata()["fedmqtt"])
    return about


@pytest.mark.parametrize("adaptive", [False, True])
def test_killed_in_each_round_it_makes_the_same_model_and_ends_at_the_budget(
    url: str, federation_name: str, tmp_path: Path, adaptive: bool
) -> None:
    federation = Federation(url, federation_name, tmp_path, central(adaptive))
    with Room(url, federation_name) as room:
        ann, bob, cat = guests = come(room, *NAMES)
        with federation.coordinating() as program:
            answer(ann, first := ann.offered(1))
            killed(room, program)
        with federation.coordinating() as program:
            back(room, cat, first)
            answer_all([bob, cat], 1)
            answer(ann, second := ann.offered(2))
            killed(room, program)
        with federation.coordinating() as program:
            back(room, cat, second)
            answer_all([bob, cat], 2)
            # Nine rounds were asked for, and everybody may be in two.
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
            epsilon = gaussian.epsilon(MULTIPLIER, 2, 1e-5)
            assert program.said.splitlines()[-1].startswith("the privacy budget is used up")
            assert f"epsilon {epsilon:.4g} of {epsilon:.4g} at delta 1e-05" in program.said
        page = room.page("coordinator", lambda page: page.state == "finished")
        assert page.says == "the privacy budget is used up"
        assert page.round == 2
        assert "not in it: who took part and when" in page.privacy
        spent = room.page("model", lambda page: page.trained_rounds == 2).privacy
        assert (spent.participations, spent.participations_max) == (2, 2)
        assert spent.epsilon == pytest.approx(epsilon, abs=1e-9)
        assert not any(guest.offers and guest.offers[-1] for guest in guests)
    run = federation.run
    assert federation.model.tobytes() == expected(run, plan(adaptive), 1, 2).tobytes()
    records = history.read(run / "history.jsonl")
    told = [one.privacy.epsilon for one in records if one.privacy is not None]
    assert told == pytest.approx([gaussian.epsilon(MULTIPLIER, k, 1e-5) for k in (1, 2)], abs=1e-9)
    about = said_epsilon(run)
    assert (float(about["epsilon"]), float(about["delta"])) == (told[-1], 1e-5)
    # What clients said of their training has no noise, and is not told.
    assert all(one.train_metrics == {} and one.samples == 3 for one in records)
    with federation.coordinating() as program:
        # As after a reboot: another run, which knows nothing of the budget of this one.
        program.wait_for(f"before this run 1 run told up to epsilon {told[-1]:.4g} of one device")


@pytest.mark.parametrize(
    ("adaptive", "mechanism"), [(False, "independent"), (True, "independent"), (False, "tree")]
)
def test_a_rollback_gives_no_epsilon_back(
    url: str, federation_name: str, tmp_path: Path, adaptive: bool, mechanism: Mechanism
) -> None:
    federation = Federation(url, federation_name, tmp_path, central(adaptive, mechanism))
    made = plan(adaptive, mechanism)
    with Room(url, federation_name) as room:
        guests = come(room, *NAMES)
        with federation.coordinating() as program:
            answer_all(guests, 1)
            answer(guests[0], guests[0].offered(2))
            spent = room.page("model", lambda page: page.trained_rounds == 1).privacy
            roll_back(room, 0)
            third = guests[0].offered(3)
            assert third.model.digest == guests[0].offered(1).model.digest
            told = room.page("model", lambda page: page.trained_rounds == 0).privacy
            # An answer that no sum has is not counted, and one that a model had is for ever.
            assert told.participations == spent.participations == 1
            assert told.epsilon >= spent.epsilon > 0
            killed(room, program)
        with federation.coordinating() as program:
            back(room, guests[0], third)
            answer_all(guests, 3)
            # Nine rounds were asked for, and everybody may be in two sums.
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
            assert program.said.splitlines()[-1].startswith("the privacy budget is used up")
        end = room.page("model", lambda page: page.privacy.participations == 2)
        assert end.trained_rounds == 1
        assert end.privacy.epsilon == pytest.approx(made.epsilon(2, 3, SIZE), rel=1e-9)
    # From the noise of this round, and no other's; where the clip norm follows, as it began.
    assert federation.model.tobytes() == expected(federation.run, made, 3).tobytes()


def test_the_key_is_for_its_owner_alone_and_is_never_published(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, central())
    with Room(url, federation_name) as room:
        guests = come(room, *NAMES)
        with federation.coordinating() as program:
            answer_all(guests, 1)
            answer_all(guests, 2)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
        crossed = b"".join(one.payload for one in room.traffic)
        said = program.said + program.log
    path = federation.run / "noise.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_bytes()
    for shown in (key, key.hex().encode(), hashlib.sha256(key).digest()):
        assert shown not in crossed and shown.hex() not in said
    others = (one for one in federation.run.rglob("*") if one.is_file() and one != path)
    assert not any(key in one.read_bytes() for one in others)


def test_a_promise_cannot_be_changed_on_the_way(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, central())
    with Room(url, federation_name) as room:
        guests = come(room, *NAMES)
        with federation.coordinating() as program:
            answer_all(guests, 1)
            guests[0].offered(2)
        others = ("differential_privacy.noise_multiplier=9", "differential_privacy.clip_norm=9")
        for other in others:
            with federation.coordinating("--set", other) as program:
                assert program.wait() == 2
                assert "what was promised before holds no more" in program.log
        (federation.run / "noise.key").unlink()
        with federation.coordinating() as program:
            assert program.wait() == 2
            assert "noise.key" in program.log


def test_who_was_counted_twice_is_asked_no_more_though_others_go_on(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, central())
    with Room(url, federation_name) as room:
        old = come(room, *NAMES)
        with federation.coordinating() as program:
            answer_all(old, 1)
            old[0].offered(2)
            new = come(room, "dan", "eve", "fay")
            answer_all(old, 2)
            third = new[0].offered(3)
            assert third.train == ("dan", "eve", "fay")
            ann, _, _ = old
            ann.say(update(third, list(change("ann", 3))), number=3)
            assert not ann.receipt().accepted
            killed(room, program)
        with federation.coordinating():
            back(room, new[0], third)
            answer_all(new, 3)
            assert new[0].offered(4).train == ("dan", "eve", "fay")


def test_noise_that_drowns_the_model_is_told_at_the_start(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, central())
    loud = ("--set", "differential_privacy.noise_multiplier=5")
    with Room(url, federation_name) as room, federation.coordinating(*loud) as program:
        program.wait_for("the noise would drown the model")
        # 5 * 1.5 * sqrt(50) / 3
        program.wait_for("it has norm 17.7 over 50 numbers")
        page = room.page("coordinator", lambda page: "drown" in page.privacy)
        assert "this one from rounds.cohort = 36 on" in page.privacy
