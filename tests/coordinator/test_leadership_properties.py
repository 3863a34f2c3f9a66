"""Whatever happens to three coordinators and their broker, the seat keeps its promises.

hypothesis looks for a story that breaks one, and tells the shortest it finds; drawn weather goes on
for longer.
"""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.coordinator.seat_world import SLOWEST_S, Memory, Side, World

PLACES = st.integers(0, 2)
RUNS = st.sampled_from([None, None, "r0", "r1", "fresh"])
SIDES = st.sampled_from(["process", "broker", "both"])
DELAYS = st.sampled_from([0.02, 0.5, 2.0, SLOWEST_S])
MEMORIES = st.sampled_from(["all", "old", "none"])
SPANS = st.sampled_from([0.02, 0.05, 0.3, 1.0, 3.0, 10.0, 60.0])


class Seats(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.fresh = 0

    @rule(place=PLACES, standby=st.booleans(), run=RUNS)
    def start(self, place: int, standby: bool, run: str | None) -> None:
        if run == "fresh":
            self.fresh += 1
            run = f"f{self.fresh}"
        self.world.start(place, standby=standby, run=run)

    @rule(place=PLACES, noticed=st.booleans())
    def kill(self, place: int, noticed: bool) -> None:
        self.world.kill(place, is_noticed=noticed)

    @rule(place=PLACES)
    def end(self, place: int) -> None:
        self.world.end(place)

    @rule(place=PLACES, arrivals_first=st.booleans())
    def stop_or_go_on(self, place: int, arrivals_first: bool) -> None:
        process = self.world.running.get(place)
        if process is not None and process.is_stopped:
            process.go_on(arrivals_first=arrivals_first)
        elif process is not None:
            process.stop()

    @rule(place=PLACES, side=SIDES)
    def cut(self, place: int, side: Side) -> None:
        self.world.cut(place, side)

    @rule(place=PLACES, up_s=DELAYS, down_s=DELAYS)
    def slow(self, place: int, up_s: float, down_s: float) -> None:
        self.world.disks[place].up_s, self.world.disks[place].down_s = up_s, down_s

    @rule(memory=MEMORIES)
    def restart_broker(self, memory: Memory) -> None:
        self.world.restart_broker(memory)

    @rule()
    def save(self) -> None:
        self.world.save()

    @rule()
    def clear_seat(self) -> None:
        self.world.clear_seat()

    @rule()
    def cut_client(self) -> None:
        self.world.client.connect()

    @rule(span=SPANS)
    def wait(self, span: float) -> None:
        self.world.clock.run(self.world.clock.now + span)

    def teardown(self) -> None:
        self.world.settle()


TestSeats = Seats.TestCase
TestSeats.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
