"""Real programs, and a device with credentials that seals nonsense: the others' sum is opened, in
that same round and to the bit."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from broker_config.mosquitto import find_mosquitto
from fedmqtt import messages
from fedmqtt.credentials import Credentials
from fedmqtt.masking import client, values
from fedmqtt.messages import Offer, Presence, Update
from fedmqtt.topics import Address, ClientId, PresenceOf, UpdatePart, lane_of
from tests.broker_config.raw_client import RawClient
from tests.masked_federation import TASK, TOPICS, MaskedFederation, masked_federation
from tests.planted_task import SIZE
from tests.programs import wait_until
from tests.spoiled import spoiled
from tests.test_masked_federation import KEYHOLDERS, NAMES, PRIVACY, model_in, models

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

EVE = ClientId("eve")


def _spoiling(account: Credentials, offer: Offer) -> Update:
    """An answer that is right in all that the coordinator can see."""
    assert offer.masking is not None
    what = (account.federation, EVE, offer.run, offer.round, offer.model.digest)
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
        masked=spoiled(masked, payload, offer.masking, what, account.signing_key, KEYHOLDERS),
        payload=memoryview(payload),
    )


class _Eve:
    """By hand, with an account of the kit's."""

    def __init__(self, federation: MaskedFederation, raw: RawClient, account: Credentials) -> None:
        seal = account.seal()
        assert seal is not None
        self._federation, self._raw, self._account, self._seal = federation, raw, account, seal

    def _says(self, to: Address, message: messages.AnyMessage) -> None:
        topic = TOPICS.path(to)
        payload = self._seal.sealed(to, topic, messages.encode(message))
        assert self._raw.publish(topic, payload, retain=isinstance(to, PresenceOf))

    def comes(self) -> None:
        here = Presence(
            online=True, session="1", task=messages.task_name(TASK), purposes=("train",)
        )
        self._says(PresenceOf(EVE), here)

    def spoils(self, number: int) -> None:
        wait_until(lambda: number in self._federation.offers())
        offer = self._federation.offers()[number]
        assert EVE in offer.train
        to = UpdatePart(lane_of(EVE, offer.lanes), EVE, offer.round, "0")
        self._says(to, _spoiling(self._account, offer))


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
        account = federation.broker.account(EVE)
        raw = stack.enter_context(RawClient(account, federation.broker.port, "eve"))
        eve = _Eve(federation, raw, account)
        rounds = "count = 2\ncohort = 5\nquorum = 4\nclients_min = 5\n[limits]\nstrikes = 1"
        privacy = f'aggregation = "keyholders"\nfloor = 4\n{PRIVACY}'
        coordinator = stack.enter_context(federation.coordinating(rounds, privacy))
        eve.comes()
        eve.spoils(1)
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
