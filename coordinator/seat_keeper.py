"""The shell of `leadership.py`: hears what coordinators say to each other, and says our part of it.

seat, claim, offer, link ──▶ event ──▶ leadership.step ──▶ effects ──▶ link, alarm, the service
"""

import logging
from collections.abc import Callable

from coordinator import leadership
from fedmqtt import messages
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import printable
from fedmqtt.messages import Seat, WireError
from fedmqtt.topics import CoordinatorSeat, SeatClaim, Topics

_NO_EPOCH = -1
"""Of an offer that nobody can read."""

_log = logging.getLogger("coordinator")


class SeatTaken(Exception):
    """Another coordinator runs this federation; says which and where."""


class SeatKeeper:
    def __init__(
        self,
        loop: EventLoop,
        federation: str,
        rules: leadership.Rules,
        *,
        say: Callable[[Publish], None],
        is_over: Callable[[], bool],
        is_called_off: Callable[[], bool],
        take: Callable[[int], None],
        act: Callable[[], None],
        repeat_offer: Callable[[], None],
        fail: Callable[[Exception], None],
        stand_by: Callable[[], None],
    ) -> None:
        """Nothing happens any more once it `is_over`, and `is_called_off` is asked each time before
        anything is said or done.

        `take` writes down that the seat is ours in this epoch. `act` hears that it is, with each
        connection; `repeat_offer`, that somebody may have cleared ours away; `stand_by`, that we
        wait for another's end. `fail` gets SeatTaken."""
        self._loop = loop
        self._federation = federation
        self._topics = Topics(federation)
        self._rules = rules
        self._say = say
        self._is_over, self._is_called_off = is_over, is_called_off
        self._take, self._act, self._repeat_offer = take, act, repeat_offer
        self._fail, self._stand_by = fail, stand_by
        self._state = leadership.begin()
        self._alarm: Timer | None = None

    @property
    def is_contested(self) -> bool:
        """Whether somebody coordinates, or did until a moment ago."""
        return self._state.holder is not None or self._state.held > 0

    @property
    def is_ours(self) -> bool:
        """Who has not made sure of it is silent: it may have been asleep, and replaced."""
        return leadership.may_act(self._state, self._loop.now(), self._rules)

    def will(self) -> Publish:
        return leadership.will(self._state, self._rules)

    def last_words(self) -> list[Publish]:
        return leadership.last_words(self._state, self._loop.now(), self._rules)

    def connected(self) -> None:
        self._happen(leadership.Connected(self._loop.now()))

    def disconnected(self) -> None:
        self._happen(leadership.Disconnected(self._loop.now()))

    def heard(self, address: CoordinatorSeat | SeatClaim, payload: bytes) -> None:
        try:
            message = messages.read_among_coordinators(payload) if payload else None
        except WireError as bad:
            _log.warning("unreadable message in %s: %s", self._topics.path(address), bad)
            message = None
        if isinstance(address, CoordinatorSeat):
            seat = message if isinstance(message, Seat) else None
            self._happen(leadership.SeatSeen(self._loop.now(), seat))
        elif message is not None:
            self._happen(leadership.ClaimSeen(self._loop.now(), message))

    def saw_offer(self, payload: bytes) -> None:
        try:
            epoch = messages.read_offer(payload).epoch
        except WireError:
            epoch = _NO_EPOCH
        self._happen(leadership.OfferSeen(self._loop.now(), epoch))

    def saw_unproven_seat(self) -> None:
        """As of what cannot be read: it lies where our own should."""
        self._happen(leadership.SeatSeen(self._loop.now(), None))

    def saw_unproven_offer(self) -> None:
        self._happen(leadership.OfferSeen(self._loop.now(), _NO_EPOCH))

    def _happen(self, event: leadership.Event) -> None:
        if self._is_over():
            return
        self._state, effects = leadership.step(self._state, event, self._rules)
        if self._is_called_off():
            return
        for effect in effects:
            match effect:
                case Publish():
                    self._say(effect)
                case WakeAt(at):
                    self._set_alarm(at)
                case Note(what, about):
                    _log.info("%s: %s", what, about)
                    if what == leadership.STANDING_BY:
                        self._stand_by()
                case leadership.Take(epoch):
                    self._take(epoch)
                    self._act()
                case leadership.Confirmed():
                    self._act()
                case leadership.RepeatOffer():
                    self._repeat_offer()
                case leadership.Refuse(seat) | leadership.Deposed(seat):
                    self._fail(SeatTaken(_whose(seat, self._federation)))

    def _set_alarm(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(
            at, lambda: self._happen(leadership.Woke(self._loop.now()))
        )


def _whose(seat: Seat, federation: str) -> str:
    return (
        f"federation {federation} has a coordinator: run {printable(seat.run)} on"
        f" {printable(seat.where)}. Stop that one, or wait for its end with --standby"
    )
