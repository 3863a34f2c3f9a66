"""By sortition the offer does not grow with the fleet, nor with the cohort."""

from dataclasses import replace

from coordinator import round_rules, rounds
from coordinator.config import Evaluation, FederationConfig, Rounds
from coordinator.roster import Roster
from fedmqtt import messages, sortition
from fedmqtt.effects import Publish
from fedmqtt.messages import PURPOSES, ModelRef, Offer, Presence
from fedmqtt.topics import ClientId, Digest, RunId

MODEL = ModelRef(
    digest=Digest("a" * 64), size_bytes=6_600_000, chunk_bytes=131_072, fingerprint="f" * 16
)


HERE = Presence(online=True, session="s", task="digits", purposes=PURPOSES, draws=True)


def fleet(clients: int) -> Roster:
    roster = Roster("digits", by_sortition=True)
    for number in range(clients):
        roster.came(0.0, ClientId(f"a-phone-of-somebody-{number}"), HERE)
    return roster


def opened(roster: Roster, cohort: int, evaluators: int) -> tuple[Offer, rounds.Collecting]:
    config = FederationConfig(
        name="f",
        task="digits",
        seed=2**53,
        codec="part(share=0.25)+eden+zstd",
        selection="sortition",
        rounds=Rounds(cohort=cohort, quorum=1),
        evaluation=Evaluation(clients=evaluators),
    )
    rules = replace(round_rules.from_config(config), run=RunId("f-20260101-000000"))
    state, effects = rounds.step(rounds.begin(rules), rounds.ModelReady(1.0, MODEL), rules, roster)
    (offer,) = [one.message for one in effects if isinstance(one, Publish)]
    assert isinstance(offer, Offer) and isinstance(state, rounds.Collecting)
    return offer, state


def test_a_million_clients_are_invited_in_less_than_a_kilobyte() -> None:
    roster = fleet(1_000_000)
    # Who measures: few, and all.
    for evaluators, asked in ((20, 20), (0, 1_000_000)):
        offer, state = opened(roster, 10_000, evaluators)
        assert len(state.train) == 13_000 and len(state.evaluate) == asked
        assert len(messages.encode(offer)) < 1024
        some = sorted(state.train)[::1000]
        assert all(sortition.invites(offer, client, "train") for client in some)


def test_it_is_as_small_for_three() -> None:
    small, _ = opened(fleet(3), 2, 1)
    large, _ = opened(fleet(3000), 2000, 1000)
    # But for the thresholds, which may have fewer bytes.
    assert abs(len(messages.encode(small)) - len(messages.encode(large))) <= 16
