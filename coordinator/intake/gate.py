"""Who is heard: between what arrives and what is made of it.

    message ──▶ in quarantine? ──▶ within its limits? ──▶ read, checked, taken in or refused
                     │ yes                │ no                              │ for what it is
                     ▼                    ▼                                 ▼
              refused unread       dropped; a strike ──────────────────▶ a strike

What is decided is decided in `rate_limits.py` and `quarantine.py`; this has the clocks, the log and
the run's folder. A quarantine is on the disk before it holds, strikes a moment later. What one
client can make this write, remember and log is bounded, and so is how many clients it remembers.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from coordinator import round_rules
from coordinator.config import Limits
from coordinator.intake import quarantine, quarantine_file
from coordinator.intake.quarantine import Add, Moment, Order, Quarantine, Term
from coordinator.intake.rate_limits import Buckets
from fedmqtt.effects import Seconds
from fedmqtt.logs import printable
from fedmqtt.topics import ClientId, Digest

POLL_S: Seconds = 1.0
"""How soon a person's order is noticed."""

BURST_S: Seconds = 10.0
"""What a client may send in so long, it may send at once."""

ANSWERS_AT_ONCE = 4
"""So many whole answers, too, however large the model is."""

_FLOOD_STRIKE_S: Seconds = 0.1
"""Who goes on flooding is struck each so often: until it is shut out, its messages pile up in the
broker before those of all others."""

_LINES_AT_ONCE, _LINES_PER_S = 10, 1 / 60
_REFUSALS_AT_ONCE, _REFUSALS_PER_S = 5, 1.0
"""Of messages from a client in quarantine that are answered at all."""

_log = logging.getLogger("coordinator")


class Gate:
    """Raises LedgerDamaged and OSError, also later: what cannot be written down does not hold."""

    def __init__(
        self,
        limits: Limits,
        run: Path,
        now: Callable[[], Seconds],
        on_change: Callable[[ClientId], None],
        on_flood: Callable[[ClientId], None],
        # Of all clocks only this one outlives the machine's start; `quarantine.py` minds its jumps.
        wall_clock: Callable[[], Moment] = time.time,  # noqa: TID251
        *,
        believes_broker: bool = True,
    ) -> None:
        """`on_change` hears of each client whose quarantine begins, or is over; `on_flood` of each
        message of one in quarantine that exceeds its limits even so.

        Without `believes_broker` a flood in a client's name proves nothing against it: it is no
        strike, but the client is muted as it would be in quarantine for it: as soon and as long,
        in memory alone, and it is refused nothing.
        """
        self._limits = limits
        self._run = run
        self._now = now
        self._wall_clock = wall_clock
        self._on_change = on_change
        self._on_flood = on_flood
        self._messages = Buckets(limits.messages_per_s, limits.messages_per_s * BURST_S)
        self._bytes = Buckets(limits.bytes_per_s, limits.bytes_per_s * BURST_S)
        self._flood_strikes = Buckets(1 / _FLOOD_STRIKE_S, 1)
        self._refusals = Buckets(_REFUSALS_PER_S, _REFUSALS_AT_ONCE)
        self._lines = Buckets(_LINES_PER_S, _LINES_AT_ONCE)
        self._said: dict[ClientId, str] = {}
        self._bad_orders: set[Path] = set()
        """That lie there still, and were told of."""
        rules = round_rules.of_quarantine(limits)
        self._quarantine = Quarantine(quarantine_file.load(run), rules)
        self._quarantine.pass_time(wall_clock())
        self._believes_broker = believes_broker
        self._muted = Quarantine({}, rules)

    def fit(self, answer_bytes: int, chunk_bytes: int) -> None:
        """No limit is below what an honest client needs for its answers, which have up to so many
        bytes and come in chunks of such a size."""
        chunks = -(-answer_bytes // chunk_bytes) + 1
        messages_per_s, bytes_per_s = self._limits.messages_per_s, self._limits.bytes_per_s
        self._messages.resize(
            messages_per_s, max(messages_per_s * BURST_S, ANSWERS_AT_ONCE * chunks)
        )
        self._bytes.resize(bytes_per_s, max(bytes_per_s * BURST_S, ANSWERS_AT_ONCE * answer_bytes))

    # Messages

    def admits(self, client: ClientId, size_bytes: int) -> bool:
        """Whether a message is within its sender's limits."""
        now = self._now()
        if self._messages.take(now, client):
            if self._bytes.take(now, client, size_bytes):
                return True
            self._messages.give_back(client, 1)
        if self.is_out(client):
            self._on_flood(client)
        elif self._flood_strikes.take(now, client):
            limits = self._limits
            rate = f"{limits.messages_per_s:g} messages or {limits.bytes_per_s:,} bytes"
            why = f"a flood: more than {rate} a second"
            if self._believes_broker:
                self.strike(client, why)
            else:
                self._mute(client, why)
        return False

    def counted(self, client: ClientId, size_bytes: int, messages: int = 1) -> None:
        """What it sent was of use: that is what it is here for, as fast as it likes."""
        self._messages.give_back(client, messages)
        self._bytes.give_back(client, size_bytes)

    def answers_refusal(self, client: ClientId) -> bool:
        """Whether a client in quarantine is told so, this time."""
        return self._refusals.take(self._now(), client)

    def strike(self, client: ClientId, why: str, digest: Digest | None = None) -> None:
        """With the digest of what it signed, where it did: no copy of that is a strike."""
        before = self._quarantine.term(client)
        self.say(client, why, logging.WARNING)
        term = self._quarantine.strike(self._wall_clock(), client, why, digest)
        if term is not None and before is None:
            self._save()
            self._tell(client)
        self._tell_evicted()

    def _mute(self, client: ClientId, why: str) -> None:
        self.say(client, f"{why}, in its name", logging.WARNING)
        if self._muted.strike(self._wall_clock(), client, why) is not None:
            self._tell(client)

    def say(self, client: ClientId, what: str, level: int = logging.INFO) -> None:
        """A line in the log about what a client did: each once, and no more than a few a minute.

        Of who is in quarantine, or muted, it is one line that says so, whatever it did: what it
        left on the broker comes again at each start."""
        if self.is_out(client):
            what = self._why_unheard(client)
        if self._said.get(client) == what or not self._lines.take(self._now(), client):
            return
        self._remember(client, what)
        _log.log(level, "%s: %s", client, what)

    def _remember(self, client: ClientId, what: str) -> None:
        self._said.pop(client, None)
        self._said[client] = what
        if len(self._said) > quarantine.CLIENTS_MAX:
            del self._said[next(iter(self._said))]

    # Quarantine

    def is_out(self, client: ClientId) -> bool:
        """Whether it is in quarantine, or muted."""
        return self._quarantine.term(client) is not None or self.is_muted(client)

    def is_muted(self, client: ClientId) -> bool:
        """Whether it is not heard for what it may not have sent."""
        return self._muted.term(client) is not None

    def why_out(self, client: ClientId) -> str:
        """For its owner, and for all who look; nothing where it is heard."""
        if (term := self._quarantine.term(client)) is not None:
            return f"in quarantine {self._sentence(term)}"
        term = self._muted.term(client)
        return "" if term is None else f"not listened to {self._sentence(term)}"

    def _why_unheard(self, client: ClientId) -> str:
        return f"{self.why_out(client)}; what it says can wait"

    @property
    def out(self) -> list[ClientId]:
        """Who is in quarantine, or muted."""
        return sorted({*self._quarantine.terms, *self._muted.terms})

    @property
    def terms(self) -> dict[ClientId, Term]:
        return self._quarantine.terms

    @property
    def struck(self) -> dict[ClientId, str]:
        """Who has been refused lately without being in quarantine for it: how often, and why."""
        # Without quarantine, nobody counts.
        counts = self._limits.strikes > 0
        struck = {
            client: f"{len(one.strikes)} refused lately" if counts else "refused lately"
            for client, one in self._quarantine.struck.items()
        }
        told = {
            client: f"{what}, the last: {self._quarantine.standings[client].last}"
            for client, what in struck.items()
        }
        return told | {client: self.why_out(client) for client in self._muted.terms}

    def poll(self) -> None:
        """Carry out what people want, let those out whose time is over, and write down the rest."""
        taken = self._take_orders()
        for client in self._quarantine.pass_time(self._wall_clock()):
            _log.info("%s is out of quarantine: its time is over", client)
            self._on_change(client)
        for client in self._muted.pass_time(self._wall_clock()):
            _log.info("%s is listened to again", client)
            self._on_change(client)
        if self._quarantine.has_changed:
            self._save()
        # After they are written down: should we be killed in between, they are carried out again.
        for path in taken:
            path.unlink(missing_ok=True)

    def _take_orders(self) -> list[Path]:
        """Obey them; what to remove when that is written down. An order that cannot be read, or not
        be removed and so would be obeyed for ever, is none: it is told, and stops nobody."""
        taken: list[Path] = []
        left: set[Path] = set()
        try:
            orders = quarantine_file.orders(self._run)
        except OSError as bad:
            folder = Path(bad.filename)
            self._tell_of_order(
                folder, f"cannot be read, and orders in it are none: {bad.strerror}"
            )
            orders, left = [], {folder}
        for path, order in orders:
            try:
                if order is None:
                    self._tell_of_order(path, "is no order that this program understands")
                    path.unlink(missing_ok=True)
                else:
                    taken.append(quarantine_file.claim(path))
                    self._obey(order)
            except OSError as bad:
                self._tell_of_order(path, f"cannot be removed, and is no order: {bad.strerror}")
                left.add(path)
        self._bad_orders = left
        return taken

    def _tell_of_order(self, path: Path, what: str) -> None:
        if path not in self._bad_orders:
            _log.warning("%s %s", path, what)

    def _obey(self, order: Order) -> None:
        was_in = self._quarantine.term(order.client) is not None
        term = self._quarantine.obey(self._wall_clock(), order)
        if term is not None and isinstance(order, Add):
            self._tell(order.client)
            self._tell_evicted()
        elif was_in and term is None:
            _log.info("%s is out of quarantine: it was lifted by hand", order.client)
            self._said.pop(order.client, None)
            self._on_change(order.client)

    def _tell(self, client: ClientId) -> None:
        _log.warning("%s is %s", client, self.why_out(client))
        # That says it.
        self._remember(client, self._why_unheard(client))
        self._on_change(client)

    def _tell_evicted(self) -> None:
        for client in self._quarantine.take_evicted():
            _log.warning("%s is out of quarantine: too many others are in it", client)
            self._on_change(client)

    def _save(self) -> None:
        quarantine_file.save(self._run, self._quarantine.standings)
        self._quarantine.has_changed = False

    def _sentence(self, term: Term) -> str:
        return f"{quarantine.until(term, self._wall_clock())}: {printable(term.why)}"
