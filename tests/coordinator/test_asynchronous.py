"""A real coordinator whose rounds wait for nobody: what is late counts, also when it was killed."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import Offer
from fedmqtt.topics import Digest, ModelChunk
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    SAMPLES,
    SIZE,
    Federation,
    answer,
    back,
    come,
    kill,
)

pytestmark = pytest.mark.broker

MODE = ["--set", "rounds.mode=asynchronous", "--set", "rounds.concurrency=3"]
MODE += ["--set", "rounds.quorum=1"]
BUFFER = [*MODE, "--set", "rounds.cohort=2", "--set", "rounds.count=3"]
MODELS = [
    [("ann", 1), ("bob", 1)],
    [("cat", 1), ("ann", 2)],
    [("bob", 2), ("cat", 2)],
]
"""Which answers make which model."""


def invited(room: Room, guest: Guest, number: int) -> Offer:
    """The offer of this round that invites the guest, once it is there."""

    def found() -> Offer | None:
        offers = (one for one in guest.offers if one is not None and one.round == number)
        return next((one for one in offers if guest.client in one.train), None)

    room.wait(lambda: found() is not None)
    offer = found()
    assert offer is not None
    return offer


def ran(
    url: str, name: str, folder: Path, words: Sequence[str], killed: Collection[int] = ()
) -> Federation:
    """The answers of `MODELS`, as they come; `killed` says after which of them the coordinator
    was."""
    folder.mkdir()
    federation, said = Federation(url, name, folder), count(1)
    with Room(url, name) as room, ExitStack() as lives:
        ann, bob, cat = come(room, *CHANGES)
        program = lives.enter_context(federation.coordinating(*words))

        def say(guest: Guest, offer: Offer) -> None:
            nonlocal program
            answer(guest, offer)
            if next(said) in killed:
                before = offer if guest.offers[-1] is None else guest.offers[-1]
                kill(room, program)
                program = lives.enter_context(federation.coordinating(*words))
                back(room, guest, before)

        first = ann.offered(1)
        assert first.train == ("ann", "bob", "cat") and first.asynchronous
        say(ann, first)
        say(bob, first)
        # Cat is at work on the first version, and goes on.
        second = ann.offered(2)
        assert second.train == ("ann", "bob")
        say(cat, first)
        # At once she is asked for the second, which is not complete.
        cats_second = invited(room, cat, 2)
        say(ann, second)
        invited(room, ann, 3)
        say(bob, second)
        say(cat, cats_second)
        room.wait(lambda: program.process.poll() is not None)
        assert program.wait() == 0
    return federation


def fedbuff(
    models: list[NDArray[np.float64]], answers: list[tuple[str, int]]
) -> NDArray[np.float64]:
    samples = [SAMPLES[name] for name, _ in answers]
    stale = [len(models) - number for _, number in answers]
    changes = [
        n * np.array(CHANGES[name]) / np.sqrt(1 + u)
        for n, u, (name, _) in zip(samples, stale, answers, strict=True)
    ]
    mean: NDArray[np.float64] = sum(changes) / np.float64(sum(samples))
    return models[-1] + mean


def fedasync(
    models: list[NDArray[np.float64]], answers: list[tuple[str, int]]
) -> NDArray[np.float64]:
    total = sum(SAMPLES[name] for name, _ in answers)
    after = np.zeros(SIZE)
    for name, number in answers:
        mixing = 0.6 / np.sqrt(1 + len(models) - number)
        trained = models[number - 1] + np.array(CHANGES[name])
        after += SAMPLES[name] / total * ((1 - mixing) * models[-1] + mixing * trained)
    return after


@pytest.mark.parametrize("mix", [fedbuff, fedasync])
def test_killed_at_any_answer_it_makes_the_same_models(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    mix: Callable[[list[NDArray[np.float64]], list[tuple[str, int]]], NDArray[np.float64]],
) -> None:
    url, strategy = mosquitto_broker.url, mix.__name__
    words = [*BUFFER, "--set", f"aggregation={strategy}"]
    whole = ran(url, f"{federation_name}-u", tmp_path / "undisturbed", words)
    killed = ran(url, federation_name, tmp_path / "killed", words, killed={1, 3, 5})
    assert killed.model == whole.model
    models = [np.linspace(-1, 1, SIZE, dtype=np.float32).astype(np.float64)]
    for answers in MODELS:
        models.append(mix(models, answers))
    found = load_file(killed.run / "model.safetensors")["w"]
    np.testing.assert_allclose(found, models[-1], atol=1e-6)
    records = history.read(killed.run / "history.jsonl")
    counted = [
        sorted([*one.late_counted, *((name, one.round) for name in one.answered)])
        for one in records
    ]
    assert counted == [sorted(answers) for answers in MODELS]
    # Who was not asked at the beginning is in the record too.
    assert records[1].invited == ["ann", "bob", "cat"]
    has_bases = strategy == "fedasync"
    assert (killed.run / "bases").exists() == has_bases


def test_an_older_model_can_be_fetched_for_as_long_as_somebody_is_at_work_on_it(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # 6 kB: too large to come with an offer, and small enough for one message as an answer.
    url, size = mosquitto_broker.url, 1500
    federation = Federation(url, federation_name, tmp_path, size)
    words = [*MODE, "--set", "rounds.cohort=1", "--set", "rounds.count=4"]
    words += ["--set", "transfer.chunk_bytes=1024"]
    change = [0.5] * size

    def say(guest: Guest, offer: Offer) -> None:
        guest.say(update(offer, change), number=offer.round)
        assert guest.receipt().accepted

    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)

        def lie() -> set[Digest]:
            """The models that lie on the broker, whole."""
            now = {one.address: bool(one.payload) for one in room.model_chunks()}
            chunks = [one for one, is_there in now.items() if is_there]
            lying = Counter(one.digest for one in chunks if isinstance(one, ModelChunk))
            return {digest for digest, parts in lying.items() if parts == 6}

        with federation.coordinating(*words) as program:
            first = ann.offered(1)
            say(ann, first)
            second = invited(room, ann, 2)
            say(ann, second)
            third = invited(room, ann, 3)
            # Bob and cat began with the first; nobody is left who began with the second.
            room.wait(lambda: lie() == {first.model.digest, third.model.digest})
            # Nor is it forgotten by a coordinator that comes back.
            kill(room, program)
        with federation.coordinating(*words) as program:
            back(room, ann, third)
            say(bob, first)
            fourth = invited(room, bob, 4)
            room.wait(lambda: lie() >= {one.model.digest for one in (first, third, fourth)})
            say(cat, first)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
        room.wait(lambda: room.retained_model_bytes == 0)


def test_a_damaged_older_model_is_told_and_nothing_stays_on_the_broker(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    words = [*MODE, "--set", "rounds.cohort=1", "--set", "aggregation=fedasync"]
    with Room(url, federation_name) as room:
        ann, bob, _ = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            first = ann.offered(1)
            answer(ann, first)
            invited(room, ann, 2)
            older = federation.run / "bases" / "1.safetensors"
            # By another name of the file, another model would be damaged with it.
            older.unlink()
            older.write_bytes(b"noise")
            answer(bob, first)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 2
        room.wait(lambda: room.retained_model_bytes == 0 and ann.offers[-1] is None)
    assert f"model {older}: " in program.log and "put back a copy of what is damaged" in program.log
    assert "Traceback" not in program.log
