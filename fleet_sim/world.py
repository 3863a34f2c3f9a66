"""Thousands of clients, one broker and one coordinator on a virtual clock.

    Device: session.step, a disk, a trainer ──┐                    ┌── Server: rounds.step, a disk
    Device: ...                               ├──▶ Broker ◀────────┤
    Device: ...                               ┘   (weather)        └── promises, after every event

The machines are the ones that the real programs run. Only time, the network, disks, downloads,
training and the numbers in the answers are replaced: an answer is a header here. First the weather
of the seed, in which nothing may go wrong for good; then calm, in which the run must come to its
end.
"""

import traceback
from collections.abc import Callable

from coordinator import rounds
from coordinator.rounds import Named
from edge_client import session
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, ModelChunk, OfferBoard
from fleet_sim import device, server
from fleet_sim.broker import Broker
from fleet_sim.clock import Clock, stream
from fleet_sim.data_plane import DataPlane, Headers
from fleet_sim.disk import Disk
from fleet_sim.plan import Plan
from fleet_sim.promises import Broken, hold
from fleet_sim.scene import Scene
from fleet_sim.server import Server
from fleet_sim.storm_device import StormDevice
from fleet_sim.storm_operator import StormOperator
from fleet_sim.weather import FOREVER, Weather


class World:
    """`run` it; then `closed` tells what came of it, and `trace` is the same for the same seed."""

    def __init__(
        self,
        plan: Plan,
        weather: Weather,
        *,
        coordinator_step: server.Step = rounds.step,
        client_step: device.Step = session.step,
        told: Callable[[Seconds, rounds.Close], None] = lambda at, close: None,
        disk: Disk | None = None,
        data: DataPlane | None = None,
    ) -> None:
        """`told` hears of each round when its end is written down. `disk` is the coordinator's;
        `data` is what answers contain, if more than headers."""
        self.plan = plan
        self.clock = Clock()
        self.broker = Broker(self.clock, stream(plan.seed, "network"), weather)
        self.scene = Scene(plan, weather, self.clock, self.broker, liars=set())
        self.server = Server(self.scene, coordinator_step, told, disk or Disk(), data or Headers())
        names = [ClientId(f"c{number:05}") for number in range(plan.clients)]
        self.devices = [StormDevice(self.scene, plan, name, client_step) for name in names]
        self._operator = StormOperator(self.scene, plan.storm_s, self.server, names)
        self._chance = stream(plan.seed, "broker")

    @property
    def closed(self) -> list[rounds.Close]:
        return self.server.promises.closed

    @property
    def left_over(self) -> list[Named]:
        """Late answers with an accepted receipt that no round has taken up."""
        return self.server.promises.held

    @property
    def trace(self) -> str:
        return self.server.trace.hexdigest()

    def run(self) -> None:
        """The storm, and then the calm. Raises Broken where a promise is broken, which includes
        that nothing raises."""
        try:
            self._run()
        except Broken:
            raise
        except Exception as bad:
            raise Broken(f"{type(bad).__name__}: {bad}\n{traceback.format_exc()}") from bad

    def _run(self) -> None:
        self.server.begin()
        for one in self.devices:
            one.begin()
        self._operator.begin()
        self._plan_crash()
        self.clock.at(self.plan.storm_s, self._calm)
        self.clock.run(until=lambda: self.scene.calm_at is not None)
        give_up_at = self.clock.now + self._run_takes_at_most()
        self.clock.run(until=lambda: self.server.is_finished or self.clock.now > give_up_at)
        progress = f"{len(self.closed)} rounds closed at {self.clock.now:.0f} s"
        hold(self.server.is_finished, f"the weather calmed and the run does not end: {progress}")
        self._settle_debts()
        self._presence_healed()
        self._rounds_flowed()
        self._nothing_lies_about()
        self.server.promises.ended()

    # The broker's crashes

    def _plan_crash(self) -> None:
        up_s = self.scene.weather.broker_up_s
        if up_s < FOREVER:
            self.clock.after(self._chance.expovariate(1 / up_s), self._crash_broker)

    def _crash_broker(self) -> None:
        weather = self.scene.weather
        if self.scene.calm_at is None:
            self.broker.crash(keeps=weather.broker_keeps)
            self.server.lose_broker()
            if weather.same_machine:
                self.server.lose_power()
            for one in self.devices:
                one.lose_broker()
            down_s = self._chance.expovariate(1 / weather.broker_down_s)
            self.clock.after(down_s, self._mend_broker)

    def _mend_broker(self) -> None:
        self.broker.is_up = True
        self._plan_crash()

    # The calm

    def _calm(self) -> None:
        """Everyone is connected anew and stays; the network does what it should."""
        plan, scene = self.plan, self.scene
        scene.calm_at = self.clock.now
        # So fast that it is in time for the shortest deadline that was learned in the storm.
        scene.weather = self.broker.weather = scene.weather.calmed(plan.deadline_min_s / 30)
        self.broker.is_up = self.broker.is_calm = True
        self.server.settle_down()
        for one in self.devices:
            one.settle_down()
        self._operator.settle_down()

    @property
    def _calmed_at(self) -> Seconds:
        return (self.scene.calm_at or 0.0) + self._calm_takes

    @property
    def _calm_takes(self) -> Seconds:
        """Until the last of the storm has blown over: wills, copies and a round begun in it."""
        return 120.0 + 2 * self.plan.deadline_max_s

    def _run_takes_at_most(self) -> Seconds:
        plan = self.plan
        # All who would may be at work when a round is to open, and keep silent.
        waits_s = plan.deadline_max_s if plan.concurrency else 0.0
        one = (
            waits_s
            + plan.deadline_max_s
            + plan.pause_s
            + plan.retry_s
            + self.scene.weather.average_s
        )
        return self._calm_takes + (plan.rounds + 2) * (one + 10 * plan.commit_s + 1)

    def _settle_debts(self) -> None:
        # Twice the longest wait: one receipt can be under way in each.
        patience_ends_at = self.clock.now + 2 * self.plan.resend_max_s
        self.clock.run(until=lambda: self.clock.now > patience_ends_at or not self._debtors())
        hold(not self._debtors(), f"no receipt ever for {self._debtors()[:5]}")

    def _debtors(self) -> list[ClientId]:
        return [one.name for one in self.devices if one.state.owed or one.disk]

    def _presence_healed(self) -> None:
        # Whatever old wills still came. Who left between rounds is back for the next one.
        longest_away_s = self.plan.deadline_max_s + self.plan.pause_s
        self._wait_until(max(self._calmed_at, self.clock.now + longest_away_s))
        away = [one.name for one in self.devices if not one.state.online]
        hold(not away, f"gone in calm weather: {away[:5]}")
        roster = self.server.roster
        gone = [one.name for one in self.devices if not roster.is_online(one.name)]
        hold(not gone, f"connected and believed to be gone: {gone[:5]}")

    def _wait_until(self, moment: Seconds) -> None:
        self.clock.run(until=lambda: self.clock.now > moment)

    def _rounds_flowed(self) -> None:
        calmed_at = self._calmed_at
        for close in self.closed:
            if self.server.opened_at[close.round] > calmed_at and close.outcome == "kept":
                hold(False, f"round {close.round} failed in calm weather: {close.reason}")

    def _nothing_lies_about(self) -> None:
        """At the broker: neither an offer of a round that is over, nor an old model."""
        models = {one.digest for one in self.broker.retained if isinstance(one, ModelChunk)}
        hold(OfferBoard() not in self.broker.retained, "the last offer was never withdrawn")
        old = models - {self.server.disk.model}
        hold(not old, f"{len(old)} old models were never cleared")
