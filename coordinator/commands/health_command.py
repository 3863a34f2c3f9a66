"""Ask whether a federation's coordinator works: 0 once it has answered, 1 if it does not.

    fedmqtt health --credentials kit/accounts/coordinator.toml

The question goes to the broker and from there to whoever holds the federation's seat, as that of
another coordinator would, and so does the answer: a coordinator that has lost its broker, hangs or
is gone gives none. It needs a coordinator's account, and changes nothing.
"""

import argparse
import secrets
import sys
from enum import Enum

from fedmqtt import client_ids, federation_flags, flag_values
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.effects import Publish, Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Claim, Seat, WireError, read_among_coordinators
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    Refused,
)
from fedmqtt.topics import SeatClaim, Topics

_WITHIN_S = 5.0
_AGAIN_S = 1.0


class _Found(Enum):
    ANSWER = 0
    SILENCE = 1
    DENIED = EXIT_DENIED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    federation_flags.add_arguments(parser, "coordinators")
    parser.add_argument(
        "--within",
        type=flag_values.positive,
        default=_WITHIN_S,
        metavar="S",
        help="seconds to wait for an answer (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 if it answers, 1 if not, 2 if it cannot be asked, 3 if the broker does not let us in."""
    try:
        federation, broker = federation_flags.find(arguments, ("coordinator",))
        question = _Question(federation, broker)
    except ValueError as wrong:
        sys.stderr.write(f"fedmqtt health: {wrong}\n")
        return EXIT_USAGE
    found = question.ask(arguments.within)
    (sys.stdout if found is _Found.ANSWER else sys.stderr).write(f"{question.told}\n")
    return found.value


class _Question:
    """Raises ValueError where the federation's name or the broker's address is wrong."""

    def __init__(self, federation: str, broker: BrokerUrl) -> None:
        self._token = secrets.token_hex(8)
        self._loop = EventLoop()
        topics = Topics(federation)
        options = LinkOptions(
            client_id=client_ids.of_health(federation, self._token),
            subscribe=(topics.claim,),
            retry_max_s=1.0,
        )
        self._link = MqttLink(self._loop, broker, topics, options, self._on_link)
        self._found = _Found.SILENCE
        self.told = f"no answer so far from {broker}"
        """What was found, for people."""

    def ask(self, within_s: Seconds) -> _Found:
        self._loop.stop_on_signals()
        self._loop.call_in(within_s, self._loop.stop)
        self._link.open()
        self._loop.run()
        self._link.close()
        self._loop.close()
        return self._found

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkUp():
                self.told = "nobody coordinates: the broker is there, and no coordinator answers"
                self._say()
            case LinkDown(reason, hopeless=hopeless):
                self.told = reason
                if hopeless:
                    self._end(_Found.DENIED)
            case Refused(_, reason):
                self.told = f"the broker does not pass the question on: {reason}"
            case Arrived(SeatClaim(), payload):
                self._on_claim(payload)
            case _:
                pass

    def _say(self) -> None:
        """Until there is an answer: who has just started may take the seat in a moment."""
        self._link.perform(Publish(SeatClaim(), Claim(token=self._token)))
        self._loop.call_in(_AGAIN_S, self._say)

    def _on_claim(self, payload: bytes) -> None:
        try:
            said = read_among_coordinators(payload)
        except WireError:
            return
        if isinstance(said, Seat) and said.taken and said.reply_to == self._token:
            self.told = f"run {said.run} is coordinated at {said.where}"
            self._end(_Found.ANSWER)

    def _end(self, found: _Found) -> None:
        self._found = found
        self._loop.stop()
