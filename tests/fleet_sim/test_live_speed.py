"""Programs whose clock runs faster: which of their waits are shorter, and which cannot be."""

import math

import msgspec
import pytest

from coordinator import config as operator
from coordinator.config import FederationConfig
from edge_client import config as owner
from edge_client.conditions import Conditions
from edge_client.config import ClientConfig
from fleet_sim.live_speed import client_at_speed, federation_at_speed, out_of_scale
from tests.fleet_sim.lab_fleets import LINEAR

CLIENT = ClientConfig(
    broker="mqtt://x",
    federation="f",
    id="x",
    task=LINEAR,
    link=owner.Link(keepalive_s=600, will_delay_s=20, retry_max_s=60.0, resend_s=200.0),
    conditions=Conditions(charging=True, check_s=60.0),
)
FEDERATION = FederationConfig(
    name="f",
    task=LINEAR,
    broker=operator.Broker(keepalive_s=100),
    rounds=operator.Rounds(deadline_s=300.0, pause_s=20.0, retry_s=5.0, away_grace_s=10.0),
    evaluation=operator.Evaluation(final_deadline_s=60.0),
    transfer=operator.Transfer(stall_s=5.0),
    slow_links=operator.SlowLinks(codec="eden", below_kbps=64.0),
)


def test_a_client_in_a_faster_world_has_shorter_waits() -> None:
    fast = client_at_speed(CLIENT, 10.0)
    assert (fast.link.keepalive_s, fast.link.will_delay_s, fast.link.retry_max_s) == (60, 2, 6.0)
    assert (fast.link.resend_s, fast.conditions.check_s) == (20.0, 6.0)
    assert client_at_speed(CLIENT, 1.0) == CLIENT


def test_a_coordinator_in_a_faster_world_has_shorter_waits() -> None:
    fast = federation_at_speed(FEDERATION, 10.0)
    rounds = fast.rounds
    assert (rounds.deadline_s, rounds.pause_s, rounds.retry_s) == (30.0, 2.0, 0.5)
    assert (rounds.away_grace_s, fast.evaluation.final_deadline_s) == (1.0, 6.0)
    assert (fast.transfer.stall_s, fast.broker.keepalive_s) == (0.5, 10)
    assert (fast.tuning.deadline_min_s, fast.rounds.cohort) == (4.5, FEDERATION.rounds.cohort)
    # What takes a second of theirs takes a tenth of ours.
    assert fast.slow_links.below_kbps == 640.0
    assert federation_at_speed(FEDERATION, 1.0) == FEDERATION


def test_what_a_broker_and_a_loop_can_bear_has_its_limits() -> None:
    hasty = client_at_speed(CLIENT, 1e6)
    assert (hasty.link.keepalive_s, hasty.link.resend_s, hasty.conditions.check_s) == (5, 1.0, 0.1)
    # A session of no life would be gone with its connection.
    assert hasty.link.session_expiry_s == 1
    assert federation_at_speed(FEDERATION, 1e6).broker.keepalive_s == 5


@pytest.mark.parametrize("speed", [0.01, 1.0, 7.0, 10_000.0])
def test_at_any_speed_the_programs_take_their_settings(speed: float) -> None:
    for made in (federation_at_speed(FEDERATION, speed), client_at_speed(CLIENT, speed)):
        assert msgspec.convert(msgspec.to_builtins(made), type(made)) == made


def test_it_is_told_what_is_not_short_enough_and_until_which_speed_all_is() -> None:
    # 100 s of silence are 5 at 20; the client's own waits could be shortened more.
    assert out_of_scale(FEDERATION, CLIENT, 20.0) == ""
    assert out_of_scale(FEDERATION, CLIENT, 50.0) == (
        "--speed 50 is too fast for some waits: the coordinator's keepalive is 250 s of the fleet's"
        " time instead of 100, a will's delay is 0 s of the fleet's time instead of 20; up to"
        " --speed 20 all keep up"
    )
    told = out_of_scale(FEDERATION, CLIENT, math.nextafter(600.0, math.inf))
    assert "the pause between looks is 60" in told and "up to --speed 20 all" in told


def test_what_nobody_waits_for_is_not_too_long() -> None:
    plain = ClientConfig(
        broker="mqtt://x",
        federation="f",
        id="x",
        task=LINEAR,
        link=owner.Link(keepalive_s=600, will_delay_s=0, resend_s=200.0),
    )
    told = out_of_scale(FEDERATION, plain, 10_000.0)
    assert "will" not in told and "looks" not in told and "receipt" in told
