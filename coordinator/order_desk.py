"""Where operators' orders come in: which are fresh, and what is said back.

    Ask ──▶ a word, good once and for a minute ──▶ Order by that word ──▶ the machine ──▶ answer

The word takes the place of a clock that both sides would have to share: what was recorded, or kept
from us for long, names a word that is good no more. An order that is known by its token already is
told again what came of it, and done no second time (`orders.py`).
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from coordinator.orders import Obeyed
from coordinator.orders import Order as OrderToObey
from fedmqtt import messages
from fedmqtt.effects import Publish, Seconds
from fedmqtt.logs import Seldom, printable
from fedmqtt.messages import Ask, Order, OrderAnswer, WireError
from fedmqtt.topics import ClientId, OrderReply

GOOD_FOR_S: Seconds = 60.0
WORDS_MAX = 64
"""That are good at a time. Where nothing is signed anybody can ask: the oldest is forgotten."""
BYTES_MAX = 4096
"""Of what an operator says, in its envelope."""

_STALE = "its word is good no more"

_log = logging.getLogger("coordinator")


@dataclass(frozen=True, slots=True)
class _Word:
    operator: ClientId
    until: Seconds


class OrderDesk:
    """Of one coordinator, for as long as it runs."""

    def __init__(
        self,
        now: Callable[[], Seconds],
        say: Callable[[Publish], None],
        obey: Callable[[OrderToObey], None],
        is_known: Callable[[str], bool],
        show: Callable[[], None],
    ) -> None:
        """`obey` hears of orders that are fresh, and of copies of those that `is_known` tells of by
        their tokens; it sees to it that each is done once. `show`: what is counted has changed."""
        self._now = now
        self._say = say
        self._obey = obey
        self._is_known = is_known
        self._show = show
        self._words: dict[str, _Word] = {}
        self._seldom = Seldom()
        self.refused = 0
        """That were no orders, not an operator's, or not fresh."""
        self.repeated = 0
        """That were known already."""

    def came(self, operator: ClientId, payload: bytes) -> None:
        """Proven to be this operator's, as far as anything is proven here."""
        if len(payload) > BYTES_MAX:
            self.refuse(operator, f"{len(payload)} bytes; {BYTES_MAX} are read")
            return
        try:
            message = messages.read_from_operator(payload)
        except WireError as bad:
            self.refuse(operator, str(bad))
            return
        match message:
            case Ask(token=token):
                self._answer(operator, OrderAnswer(reply_to=token, word=self._new_word(operator)))
            case Order():
                self._take(operator, message)

    def refuse(self, operator: ClientId, why: str) -> None:
        """It is not obeyed. Whoever wrote it hears nothing: it may not be whose it seems."""
        self.refused += 1
        what = f"an order of {operator} is not obeyed: {printable(why)[:500]}"
        if told := self._seldom.heard(self._now(), what):
            _log.warning("%s", told)
        self._show()

    def tell(self, obeyed: Obeyed, *, is_new: bool) -> None:
        """The operator, and the log."""
        if is_new:
            done = "" if obeyed.done else "not done: "
            told = (printable(obeyed.said), obeyed.operator, done, printable(obeyed.result))
            _log.warning("order `%s` of %s: %s%s", *told)
        else:
            self.repeated += 1
            self._show()
        # Cut to what an answer may carry: one that cannot be read would be asked for without end.
        answer = OrderAnswer(
            reply_to=obeyed.token, done=obeyed.done, said=printable(obeyed.result)[:500]
        )
        self._answer(ClientId(obeyed.operator), answer)

    def _take(self, operator: ClientId, order: Order) -> None:
        if not self._is_known(order.token) and not self._is_fresh(operator, order.word):
            self.refuse(operator, _STALE)
            self._answer(operator, OrderAnswer(reply_to=order.token, stale=True, said=_STALE))
            return
        self._obey(
            OrderToObey(
                token=order.token,
                operator=operator,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                what=order.what,
                round=order.round,
                client=ClientId(order.client),
            )
        )

    def _new_word(self, operator: ClientId) -> str:
        now = self._now()
        self._words = {name: word for name, word in self._words.items() if word.until > now}
        if len(self._words) >= WORDS_MAX:
            del self._words[next(iter(self._words))]
        name = secrets.token_hex(16)
        self._words[name] = _Word(operator, now + GOOD_FOR_S)
        return name

    def _is_fresh(self, operator: ClientId, name: str) -> bool:
        """Once."""
        word = self._words.pop(name, None)
        return word is not None and word.operator == operator and word.until > self._now()

    def _answer(self, operator: ClientId, answer: OrderAnswer) -> None:
        self._say(Publish(OrderReply(operator), answer))
