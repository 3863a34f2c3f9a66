"""Who says pause, resume and invite at any moment of some storms, and resume when they are over.

An order that comes while nobody listens is lost, as the real one is not answered; one whose answer
is lost with the coordinator is said again.
"""

from coordinator import rounds
from coordinator.orders import Order
from fedmqtt.effects import Seconds
from fedmqtt.messages import OrderKind
from fedmqtt.topics import ClientId
from fleet_sim.clock import stream
from fleet_sim.scene import Scene
from fleet_sim.server import Server

_SHARE = 0.3
"""Of the storms have an operator."""
_ORDERS = 8
"""In a storm, on average."""
_AGAIN_S: Seconds = 5.0
_NAME = "operator"
_KINDS: tuple[OrderKind, ...] = ("pause", "resume", "invite")


class StormOperator:
    def __init__(
        self, scene: Scene, storm_s: Seconds, server: Server, clients: list[ClientId]
    ) -> None:
        self._scene = scene
        self._storm_s = storm_s
        self._server = server
        self._clients = clients
        self._chance = stream(scene.plan.seed, "operator")
        self._is_there = self._chance.random() < _SHARE
        self._count = 0

    def begin(self) -> None:
        if self._is_there:
            self._plan_order()

    def settle_down(self) -> None:
        """Nothing fails any more, and nothing stays paused."""
        if self._is_there:
            self._say_until_heard(self._order("resume"))

    def _plan_order(self) -> None:
        wait_s = self._chance.expovariate(_ORDERS / self._storm_s)
        self._scene.clock.after(wait_s, self._speak)

    def _speak(self) -> None:
        if self._scene.calm_at is None:
            order = self._order(self._chance.choice(_KINDS))
            self._say(order)
            if self._chance.random() < 0.3:
                # QoS 1 delivers at least once.
                self._say(order)
            self._plan_order()

    def _order(self, what: OrderKind) -> Order:
        self._count += 1
        client = self._chance.choice(self._clients)
        return Order(token=f"{self._count}", operator=_NAME, at="now", what=what, client=client)

    def _say(self, order: Order) -> None:
        if self._server.hears:
            self._server.tell(rounds.OrderCame(self._server.now, order))

    def _say_until_heard(self, order: Order) -> None:
        if self._server.is_finished:
            return
        self._say(order)
        if self._server.state.past.control.answer(order.token) is None:
            self._scene.clock.after(_AGAIN_S, self._say_until_heard, order)
