"""Real programs, and devices with credentials that seal nonsense, or different seeds to different
keyholders: the others' sum is opened, in that same round and to the bit."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from broker_config.mosquitto import find_mosquitto
from fedmqtt import messages
from fedmqtt.credentials import Credentials
from fedmqtt.masking import client, values
from fedmqtt.messages import Masked, Masking, Offer, Presence, Update
from fedmqtt.topics import Address, ClientId, PresenceOf, Topics, UpdatePart, lane_of
from tests.broker_config.kit_broker import FEDERATION
from tests.broker_config.raw_client import RawClient
from tests.masked_federation import TASK, MaskedFederation, masked_federation
from tests.planted_task import SIZE
from tests.programs import wait_until
from tests.spoiled import What, divided, spoiled
from tests.test_masked_federation import KEYHOLDERS, NAMES, PRIVACY, model_in, models

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

EVE, MAL = ClientId("eve"), ClientId("mal")


Spoil = Callable[[Masked, bytes, Masking, What, str], Masked]
"""Of an honest answer another, given its payload, by whose keys and what it is for."""


def _nonsense(masked: Masked, payload: bytes, masking: Masking, what: What, key: str) -> Masked:
    return spoiled(masked, payload, masking, what, key, KEYHOLDERS)


def _to_some(*wrong: tuple[str, int]) -> Spoil:
    """These keyholders are given other seeds under these numbers."""

    def divide(masked: Masked, payload: bytes, masking: Masking, what: What, key: str) -> Masked:
        return divided(masked, payload, masking, what, key, wrong)

    return divide


def _spoiling(who: ClientId, account: Credentials, offer: Offer, spoil: Spoil) -> Update:
    """An answer that is right in all that the coordinator can see."""
    assert offer.masking is not None
    what = (account.federation, who, offer.run, offer.round, offer.model.digest)
    body = 1 + SIZE
    words = np.zeros(body + values.tail_size(offer.masking, body), np.uint32)
    masked, payload = client.mask(offer.masking, *what, words, body, account.signing_key)
    return Update(
        run=offer.run,
        round=offer.round,
        base=offer.model.digest,
        fingerprint=offer.model.fingerprint,
        sample_count=1,
        codec="full",
        masked=spoil(masked, payload, offer.masking, what, account.signing_key),
        payload=memoryview(payload),
    )


class _Spoiler:
    """By hand, with an account of the kit's."""

    def __init__(
        self, who: ClientId, federation: MaskedFederation, raw: RawClient, account: Credentials
    ) -> None:
        seal = account.seal()
        assert seal is not None
        self._who = who
        self._federation, self._raw, self._account, self._seal = federation, raw, account, seal

    def _says(self, to: Address, message: messages.AnyMessage) -> None:
        topic = Topics(FEDERATION).path(to)
        payload = self._seal.sealed(to, topic, messages.encode(message))
        assert self._raw.publish(topic, payload, retain=isinstance(to, PresenceOf))

    def comes(self) -> None:
        here = Presence(
            online=True, session="1", task=messages.task_name(TASK), purposes=("train",)
        )
        self._says(PresenceOf(self._who), here)

    def spoils(self, number: int, spoil: Spoil) -> None:
        wait_until(lambda: number in self._federation.offers())
        offer = self._federation.offers()[number]
        assert self._who in offer.train
        to = UpdatePart(lane_of(self._who, offer.lanes), self._who, offer.round, "0")
        self._says(to, _spoiling(self._who, self._account, offer, spoil))


@contextmanager
def _spoiler(federation: MaskedFederation, who: ClientId) -> Iterator[_Spoiler]:
    account = federation.broker.account(who)
    with RawClient(account, federation.broker.port, who) as raw:
        yield _Spoiler(who, federation, raw, account)


def test_who_seals_nonsense_is_left_out_and_then_not_invited(tmp_path: Path) -> None:
    expected = models(NAMES, 2)
    with (
        masked_federation(tmp_path, KEYHOLDERS, [*NAMES, EVE]) as federation,
        ExitStack() as stack,
    ):
        for name in KEYHOLDERS:
            stack.enter_context(federation.keyholder(name))
        for name in NAMES:
            stack.enter_context(federation.client(name))
        eve = stack.enter_context(_spoiler(federation, EVE))
        rounds = "count = 2\ncohort = 5\nquorum = 4\nclients_min = 5\n[limits]\nstrikes = 1"
        privacy = f'aggregation = "keyholders"\nfloor = 4\n{PRIVACY}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        eve.comes()
        eve.spoils(1, _nonsense)
        federation.open_gates(1, *NAMES)
        federation.wait_for_round(1)
        # There are four left, and five were wanted: one more comes.
        assert coordinator.process.poll() is None, coordinator.log
        first = federation.records[0]
        assert (first.outcome, list(first.unfit)) == ("averaged", [EVE]), coordinator.log
        assert first.unfit[EVE].endswith("says kh-a and kh-b and kh-c")
        assert EVE in first.quarantined
        coordinator.process.kill()
        coordinator.wait()
        again = stack.enter_context(
            federation.coordinating(rounds.replace("clients_min = 5", "clients_min = 4"), privacy)
        )
        federation.open_gates(2, *NAMES)
        assert again.wait() == 0, again.log
        assert model_in(federation.run).tobytes() == expected[2].tobytes()
        second = federation.records[1]
        assert second.invited == second.answered == list(NAMES) and not second.unfit


@pytest.mark.timeout(180)
def test_who_seals_keyholders_different_seeds_is_named_and_none_of_them(tmp_path: Path) -> None:
    """One gives kh-a another seed than kh-c, under one number, and one gives kh-c others than
    either: each list is unfit for another reason, to another keyholder."""
    expected = models(NAMES, 1)
    with (
        masked_federation(tmp_path, KEYHOLDERS, [*NAMES, EVE, MAL]) as federation,
        ExitStack() as stack,
    ):
        for name in KEYHOLDERS:
            stack.enter_context(federation.keyholder(name))
        for name in NAMES:
            stack.enter_context(federation.client(name))
        spoilers = [stack.enter_context(_spoiler(federation, who)) for who in (EVE, MAL)]
        rounds = "count = 1\ncohort = 6\nquorum = 4\nclients_min = 6\n[limits]\nstrikes = 1"
        privacy = f'aggregation = "keyholders"\nfloor = 4\n{PRIVACY}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        for one in spoilers:
            one.comes()
        eve, mal = spoilers
        eve.spoils(1, _to_some(("kh-a", 1)))
        mal.spoils(1, _to_some(("kh-c", 0), ("kh-c", 1)))
        federation.open_gates(1, *NAMES)
        assert coordinator.wait() == 0, coordinator.log
    (record,) = federation.records
    says = "a seed that it sealed is not the one that it committed to, says "
    assert (record.outcome, record.unfit) == ("averaged", {EVE: says + "kh-a", MAL: says + "kh-c"})
    # One keyholder's word alone is enough for this round, and for no more.
    assert not record.quarantined
    assert model_in(federation.run).tobytes() == expected[1].tobytes()
    assert "do not say the same" not in coordinator.log
    assert "gave other sums" not in coordinator.log
