"""How an operator's commands reach the coordinator: one order, and the wait for what came of it.

    Ask ──▶ a word ──▶ Order ──▶ answer        each said again until there is an answer

`fedmqtt pause` and the like are files of their own, which say what they order (`order_words`).
"""

import argparse
import secrets
import sys
from collections.abc import Callable
from enum import Enum

from fedmqtt import client_ids, federation_flags, flag_values
from fedmqtt.command_line import EXIT_DENIED, EXIT_INTERRUPTED, EXIT_USAGE
from fedmqtt.credentials import read as read_credentials
from fedmqtt.effects import Publish, Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Ask, Order, OrderAnswer, OrderKind, WireError, read_order_answer
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    Refused,
    Unproven,
)
from fedmqtt.topics import ClientId, OrderOf, OrderReply, RoundId, Topics

WITHOUT_ACCOUNT = ClientId("operator")
"""Who gives orders where there are no accounts."""

_NO_ROUND, _NOBODY_IS_NAMED = RoundId(0), ClientId("")
_WITHIN_S = 15.0
_AGAIN_S = 1.0
_PROGRESS_AFTER_S = 2.0
_TOKEN_BYTES = 16

_NOBODY = (
    "the broker is there, and no coordinator answers: it does not run, or it has credentials of"
    " another kit, or of none"
)


class Outcome(Enum):
    DONE = 0
    NOT_DONE = 1
    DENIED = EXIT_DENIED
    INTERRUPTED = EXIT_INTERRUPTED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    federation_flags.add_arguments(parser, "operators")
    parser.add_argument(
        "--within",
        type=flag_values.positive,
        default=_WITHIN_S,
        metavar="S",
        help="seconds to wait for the coordinator's answer (%(default)s)",
    )


def run(
    arguments: argparse.Namespace,
    what: OrderKind,
    *,
    number: RoundId = _NO_ROUND,
    client: ClientId = _NOBODY_IS_NAMED,
) -> int:
    """Give one order. 0 if the coordinator has carried it out, or will as it says; 1 if it did not,
    or nobody answered; 2 if it cannot be given; 3 if the broker does not let us in."""
    try:
        federation, broker = federation_flags.find(arguments, ("operator",))
        name = WITHOUT_ACCOUNT
        if arguments.credentials is not None:
            name = ClientId(read_credentials(arguments.credentials).id)
        errand = Errand(federation, broker, name, what, number, client)
    except ValueError as wrong:
        sys.stderr.write(f"fedmqtt {what}: {wrong}\n")
        return EXIT_USAGE
    outcome = errand.go(arguments.within, _tell_progress)
    if outcome is Outcome.DONE:
        sys.stdout.write(f"{errand.told}\n")
    elif outcome is not Outcome.INTERRUPTED:
        sys.stderr.write(f"fedmqtt {what}: {errand.told}\n")
    return outcome.value


def _tell_progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Errand:
    """One order on its way. Raises ValueError where the federation's name or the broker's address
    is wrong."""

    def __init__(
        self,
        federation: str,
        broker: BrokerUrl,
        operator: ClientId,
        what: OrderKind,
        number: RoundId,
        client: ClientId,
    ) -> None:
        self._loop = EventLoop()
        self._operator = operator
        self._ask = Ask(token=secrets.token_hex(_TOKEN_BYTES))
        self._order = Order(
            token=secrets.token_hex(_TOKEN_BYTES),
            word="0" * 16,
            what=what,
            round=number,
            client=client,
        )
        """Until there is a word, it is not said."""
        self._has_word = False
        topics = Topics(federation)
        options = LinkOptions(
            client_id=client_ids.of_operator(federation, self._ask.token[:16]),
            subscribe=(topics.path(OrderReply(operator)),),
            retry_max_s=1.0,
        )
        self._link = MqttLink(self._loop, broker, topics, options, self._on_link)
        self._broker = broker
        self._outcome: Outcome | None = None
        self._connections = 0
        self.told = f"no answer so far from {broker}"
        """What came of it, for people."""

    def go(self, within_s: Seconds, progress: Callable[[str], None]) -> Outcome:
        """Waits for the answer; `progress` hears what is waited for when that takes long."""
        self._loop.stop_on_signals()
        too_late = self._loop.call_in(within_s, self._give_up)
        slow = self._loop.call_in(
            min(within_s, _PROGRESS_AFTER_S),
            lambda: progress(
                f"waiting for an answer from {self._broker}, up to {within_s:g} s ..."
            ),
        )
        self._link.open()
        self._loop.run()
        too_late.cancel()
        slow.cancel()
        self._link.close()
        self._loop.close()
        return self._outcome or Outcome.INTERRUPTED

    def _give_up(self) -> None:
        if self._has_word:
            # It may have been carried out, and the answer lost.
            self.told = (
                "the coordinator took the order's word, and has not answered the order: the page"
                " status/orders tells whether it was done"
            )
        self._end(Outcome.NOT_DONE)

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                self.told = _NOBODY
                self._connections += 1
                self._say(self._connections)
            case LinkDown(reason, hopeless=hopeless):
                self._connections += 1
                self.told = reason
                if hopeless:
                    self._end(Outcome.DENIED)
            case Refused(OrderOf(), reason):
                self.told = (
                    f"the broker passes on no orders of this account ({reason}): an operator's is"
                    " needed, as `fedmqtt enroll KIT NAME --role operator` makes it"
                )
                self._end(Outcome.DENIED)
            case Unproven(OrderReply(), reason):
                self.told = f"somebody answered, and not this federation's coordinator: {reason}"
            case Arrived(OrderReply(), payload):
                self._on_answer(payload)
            case _:
                pass

    def _say(self, connection: int) -> None:
        """Until there is an answer: who has just started may take the seat in a moment."""
        if connection != self._connections or self._outcome is not None:
            return
        said = self._order if self._has_word else self._ask
        self._link.perform(Publish(OrderOf(self._operator), said))
        self._loop.call_in(_AGAIN_S, lambda: self._say(connection))

    def _on_answer(self, payload: bytes) -> None:
        try:
            answer = read_order_answer(payload)
        except WireError:
            return
        if answer.reply_to == self._ask.token and answer.word and not self._has_word:
            self._take_word(answer)
        elif answer.reply_to == self._order.token and answer.stale:
            # Of a coordinator that has been started again: it knows no words of before.
            self._has_word = False
            self._ask = Ask(token=secrets.token_hex(_TOKEN_BYTES))
            self._link.perform(Publish(OrderOf(self._operator), self._ask))
        elif answer.reply_to == self._order.token:
            self.told = answer.said
            self._end(Outcome.DONE if answer.done else Outcome.NOT_DONE)

    def _take_word(self, answer: OrderAnswer) -> None:
        order = self._order
        self._order = Order(
            token=order.token,
            word=answer.word,
            what=order.what,
            round=order.round,
            client=order.client,
        )
        self._has_word = True
        self._link.perform(Publish(OrderOf(self._operator), self._order))

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
        self._loop.stop()
