"""What a device does for its owner without being told: real programs, killed, on a real broker."""

import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from broker_config.mosquitto import find_mosquitto
from fedmqtt import messages, offered_work, signing, weights
from fedmqtt.masking import sealing
from fedmqtt.messages import (
    Decline,
    Keyholder,
    Masking,
    ModelRef,
    Offer,
    Receipt,
    Training,
    Update,
)
from fedmqtt.privacy import gaussian
from fedmqtt.topics import ClientId, Inbox, OfferBoard, RoundId, RunId, UpdatePart
from tests.broker_config.kit_broker import FEDERATION
from tests.keyholder.asking import Asking
from tests.masked_federation import TASK, MaskedFederation, masked_federation
from tests.planted_task import initial_weights
from tests.programs import wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
RUN = RunId("r")
NOISE = 4.0
"""Clip norms."""
_ENVELOPE_BYTES = 2 + 32 + 64 + 64
"""Of a device."""


def test_a_coordinator_that_turns_plain_is_answered_by_nobody_whom_its_owner_did_not_tell_to(
    tmp_path: Path,
) -> None:
    names = ("ann", "bob", "cat", "dan")
    with masked_federation(tmp_path, KEYHOLDERS, names) as federation, ExitStack() as stack:
        for name in KEYHOLDERS:
            stack.enter_context(federation.keyholder(name))
        lives = [stack.enter_context(federation.client(name)) for name in names[:3]]
        rounds = "count = 1\ncohort = 3\nquorum = 3\nclients_min = 3"
        privacy = 'aggregation = "keyholders"\nfloor = 3\nvalue_bits = 20'
        with federation.coordinating(rounds, privacy) as coordinator:
            federation.open_gates(1, *names)
            assert coordinator.wait() == 0, coordinator.log
        # One remembers it in another life; dan has never answered, and knows keyholders.
        lives[0].process.kill()
        lives[0].wait()
        stack.enter_context(federation.client("ann"))
        stack.enter_context(federation.client("dan"))
        _turn_plain(federation, stack, names)


def _turn_plain(federation: MaskedFederation, stack: ExitStack, names: tuple[str, ...]) -> None:
    federation.run = federation.folder / "plain"
    before = len(federation.crossed())
    rounds = "count = 1\ncohort = 4\nquorum = 1\nclients_min = 4"
    coordinator = stack.enter_context(federation.coordinating(rounds, 'aggregation = "plain"'))
    assert coordinator.wait() == 1, coordinator.log
    assert "devices that know of them decline" in coordinator.log
    (record,) = federation.records
    refused = "this client's answers would not be masked, and"
    hint = "; to allow it, start it with --at-least plain"
    masked = f"{refused} its answers were hidden better before ('keyholders'){hint}"
    pinned = f"{refused} its credentials name keyholders{hint}"
    assert record.declined == dict.fromkeys(names[:3], masked) | {"dan": pinned}
    said = [
        messages.read_from_client(data[_ENVELOPE_BYTES:])
        for to, data in federation.crossed()[before:]
        if isinstance(to, UpdatePart)
    ]
    assert len(said) == 4 and all(isinstance(one, Decline) for one in said)


# A budget


def test_each_noised_answer_is_in_the_budget_once_however_often_its_device_is_killed(
    tmp_path: Path,
) -> None:
    with masked_federation(tmp_path, KEYHOLDERS, ("ann",)) as federation:
        coordinator = Asking(federation.broker)
        # So that it says when its trainer is at work.
        asks = ("--set", "privacy.epsilon_max=1.5", "--verbose")
        with coordinator.connected():
            with federation.client("ann", *asks) as ann:
                # Its answer is out, and has no receipt.
                _offer(coordinator, federation, 1)
                federation.open_gates(1, "ann")
                first = coordinator.hears(Update, "ann")
                assert first.round == 1
                ann.process.kill()
            with federation.client("ann", *asks) as ann:
                ann.wait_for(f"epsilon so far: {_epsilon(1)} at delta 1e-05")
                _receive(coordinator, federation, 1)
                # And one that is finished while nobody is there to count it.
                _offer(coordinator, federation, 2)
                ann.wait_for("round 2: 50%")
                ann.process.send_signal(signal.SIGSTOP)
                federation.open_gates(2, "ann")
                wait_until(lambda: _owed(federation) == [2])
                ann.process.kill()
            with federation.client("ann", *asks) as ann:
                ann.wait_for(f"epsilon so far: {_epsilon(2)} at delta 1e-05")
                _receive(coordinator, federation, 2)
                # What was begun and never finished is in none.
                _offer(coordinator, federation, 3, noise=40.0)
                ann.wait_for("round 3: 50%")
                ann.process.kill()
            with federation.client("ann", *asks) as ann:
                ann.wait_for(f"epsilon so far: {_epsilon(2)} at delta 1e-05")
                _offer(coordinator, federation, 4)
                said = coordinator.hears(Decline, "ann")
                assert said.round == 4 and said.reason == (
                    f"this answer would bring epsilon from {_epsilon(2)} to {_epsilon(3)} at delta"
                    " 1e-05, above this client's privacy.epsilon_max = 1.5"
                )


def _epsilon(answers: int) -> str:
    return f"{gaussian.epsilon(NOISE, answers, 1e-5):.3g}"


def _owed(federation: MaskedFederation) -> list[int]:
    files = (federation.folder / "ann" / "outbox").glob("*.answer")
    return sorted(int(path.name.split("-")[-2]) for path in files)


def _receive(coordinator: Asking, federation: MaskedFederation, number: int) -> None:
    coordinator.clears(OfferBoard())
    receipt = Receipt(run=RUN, round=RoundId(number), accepted=True)
    coordinator.says(Inbox(ClientId("ann")), receipt)
    wait_until(lambda: not _owed(federation))


def _offer(
    coordinator: Asking, federation: MaskedFederation, number: int, noise: float = NOISE
) -> None:
    initial = initial_weights(0)
    layout = weights.layout_of(initial)
    # By its model's age the task knows which round it is.
    model = weights.write(layout, layout.flatten(initial | {"age": np.full(1, number - 1.0)}))
    ref = ModelRef(
        digest=weights.digest(model),
        size_bytes=len(model),
        chunk_bytes=1024,
        fingerprint=layout.fingerprint,
    )
    offer = Offer(
        run=RUN,
        round=RoundId(number),
        task=messages.task_name(TASK),
        model=ref,
        model_file=model,
        train=(ClientId("ann"),),
        evaluate=(),
        closes_in_s=1000.0,
        training=Training(),
        codec="full",
        lanes=4,
        seed=1,
        masking=Masking(
            mode="keyholders",
            keyholders=tuple(
                _keyholder(federation, name, place, number) for place, name in enumerate(KEYHOLDERS)
            ),
            places=3,
            tolerated=1,
            floor=3,
            bits=24,
            value_bits=20,
            change_max=1.0,
            norm_max=1.0,
            noise=noise,
            norm_steps=2**18 if noise else 0,
        ),
    )
    coordinator.says(OfferBoard(), offered_work.stamped(offer), retain=True)


def _keyholder(federation: MaskedFederation, name: str, place: int, number: int) -> Keyholder:
    _, public = sealing.new_round_key()
    own = federation.broker.account(name).signing_key
    key = signing.round_key(own, FEDERATION, ClientId(name), number, public)
    return Keyholder(ClientId(name), place, key)
