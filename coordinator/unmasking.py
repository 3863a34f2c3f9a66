"""What a coordinator does about masks: whose keys a round is offered with, and who opens its sum.

    presences of keyholders ──▶ `keyholders.py` ──▶ KeysCame: a round may open
    a round has closed ──▶ its list, written down ──▶ `opening.py` ──▶ Open ──▶ keyholders
                                       sums of masks, sent as answers are ◀── Opened ◀──┘

The service hands over what concerns it; `masked_answers.py` does the sums.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

from coordinator import masked_round, opening, round_rules, rounds
from coordinator.config import FederationConfig
from coordinator.keyholders import Keyholders
from coordinator.ledger import Ledger, Listed
from coordinator.masked_answers import MaskedAnswers
from coordinator.run_errors import LedgerDamaged
from coordinator.status import Facts
from coordinator.trust import Trust
from fedmqtt.effects import Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.masking import listing, packing, seeds, values
from fedmqtt.masking.values import MeanChange, NotASum
from fedmqtt.messages import Announce, Masking, Open, Opened, Presence, Receipt
from fedmqtt.topics import ClientId, Digest, Inbox, RoundId, RunId

_OVERHEAD_BYTES = 64 * 1024
"""Room for the header of a keyholder's answer, and its digests, beside its sums."""

_log = logging.getLogger("coordinator")


@dataclass(slots=True)
class _Open:
    """A round whose sum is being opened."""

    whole: Open
    rules: opening.Rules
    then: Callable[[], None]
    state: opening.State | None = None
    sums: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    """Packed sums of masks, by seed and digest: of each seed one, and one more for each keyholder
    that says otherwise."""
    means: dict[opening.Sums, MeanChange] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The round whose sum was opened last, and by which sums of masks."""

    whole: Open
    rules: opening.Rules
    sums: opening.Sums


class Unmasking:
    """Of one coordinator. Raises LedgerDamaged where the list in the ledger is of other answers."""

    def __init__(
        self,
        loop: EventLoop,
        config: FederationConfig,
        trust: Trust,
        answers: MaskedAnswers,
        ledger: Ledger,
        facts: Facts,
        *,
        say: Callable[[Publish], None],
        happen: Callable[[rounds.Event], None],
        state: Callable[[], rounds.State],
        room: Callable[[], int],
    ) -> None:
        """`state`: the machine's, as it is now; `room`: the most bytes of one message."""
        self._loop = loop
        self._config = config
        self._trust = trust
        self._answers = answers
        self._ledger = ledger
        self._facts = facts
        self._say = say
        self._happen = happen
        self._state = state
        self._room = room
        self._places, self._tolerated = masked_round.places(config)
        self._keyholders = Keyholders(
            config.name, trust.keyholders, self._places, self._tolerated, ledger.keys_used()
        )
        self._masking: Masking | None = None
        """Of the open round, and of the one that is being opened."""
        self._current: _Open | None = None
        self._last: _Opened | None = None
        self._alarm: Timer | None = None
        self._greets = True
        """Over a new connection, it is not known yet who is there."""
        self._greeting: Timer | None = None
        self._waits = ""
        self._tell()

    # Keyholders, and what rounds they make possible

    def is_keyholder(self, client: ClientId) -> bool:
        return self._keyholders.place(client) is not None

    def on_presence(self, client: ClientId, presence: Presence) -> None:
        place = self._keyholders.place(client)
        assert place is not None
        now = self._loop.now()
        if presence.online:
            # It publishes keys in the place of each that it has used, too.
            is_back = not self._keyholders.is_there(client, presence.session)
            if fault := self._keyholders.came(client, presence):
                self._name(f"{client} {fault}")
            if is_back:
                self._move(opening.Came(now, place))
        elif self._keyholders.left(client, presence.session):
            self._move(opening.Left(now, place))
        self.renew()

    def renew(self) -> None:
        """Tell the machine by which keys the next round can be masked."""
        found = self._keyholders.next()
        if self._greets and found is not None and len(found) < self._places:
            # The others may have been here all the time.
            found = None
        masking = None if found is None else masked_round.masking(self._config, found)
        self._tell()
        self._happen(rounds.KeysCame(self._loop.now(), masking))

    def begin_round(self, masking: Masking) -> None:
        """A round is open, or goes on, with these keys."""
        self._masking = masking
        self._answers.mask(masking)
        self._keyholders.use(masking.keyholders)
        # Posted: this may be within an event.
        self._loop.post(self.renew)

    def waits_for(self, at: Seconds) -> str:
        """For whom the next round waits, in a sentence; nothing where it does not."""
        state, waits = self._state(), ""
        match state:
            case rounds.Waiting(past=rounds.Past(masking=None, deaf_since=None)):
                if at >= state.opens_from and not self._greets:
                    waits = self._keyholders.waiting()
            case _:
                pass
        if waits and waits != self._waits:
            _log.warning("%s", waits)
        self._waits = waits
        return waits

    # The end of a round

    def open(
        self, run: RunId, number: RoundId, base: Digest, reason: str, then: Callable[[], None]
    ) -> None:
        """Have the sum of the answers that counted opened; `then` is called when the data plane
        has it, or will have none. The list is written down before anybody is asked, and is the
        one that was written before, if there is one."""
        assert self._masking is not None
        entries = self._answers.entries
        if len(entries) < self._masking.floor:
            self._answers.give_up(
                f"{len(entries)} answers, and no sum of fewer than {self._masking.floor} is opened"
            )
            self._loop.post(then)
            return
        whole = Open(
            run=run,
            round=number,
            base=base,
            masking=self._masking,
            body=self._answers.body,
            tail=values.TAIL,
            digest=bytes(32),
            part=0,
            parts=1,
            entries=entries,
            seeds=(),
        )
        whole = structs.replace(whole, digest=listing.digest(whole))
        self._list(whole, reason)
        names = {one.place: one.name for one in self._masking.keyholders}
        rules = opening.Rules(
            places=self._places,
            tolerated=self._tolerated,
            names=names,
            timeout_s=self._config.privacy.keyholder_timeout_s,
            deadline_s=self._config.privacy.opening_deadline_s,
        )
        self._current = current = _Open(whole, rules, then)
        there = [place for place, name in names.items() if self._keyholders.is_there(name)]
        current.state, effects = opening.begin(self._loop.now(), there, rules)
        self._perform(effects)

    def on_announce(self, client: ClientId, announce: Announce) -> bool:
        """Whether a keyholder may send its answer now."""
        if not self._is_current(announce.run, announce.round):
            self._refuse_unasked(client, announce)
            return False
        if announce.size_bytes > self.answer_bytes_max:
            why = f"{announce.size_bytes} bytes; at most {self.answer_bytes_max} are taken"
            self._receipt(client, announce, why)
            return False
        self.on_piece(client)
        return True

    def on_piece(self, client: ClientId) -> None:
        """A part of a large answer came."""
        place = self._keyholders.place(client)
        if place is not None and self._current is not None:
            self._move(opening.Heard(self._loop.now(), place))

    def on_opened(self, client: ClientId, opened: Opened) -> bool:
        """A keyholder's answer. Whether it was of use."""
        place, current = self._keyholders.place(client), self._current
        assert place is not None
        if current is None or not self._is_current(opened.run, opened.round):
            return self._take_unneeded(client, place, opened)
        now = self._loop.now()
        fault = _fault(opened, place, current, self._payload_bytes)
        if fault:
            self._name(f"{client} {fault}")
            self._receipt(client, opened, fault)
            self._move(opening.Refused(now, place, fault))
            return False
        self._receipt(client, opened)
        if opened.refused:
            self._name(f"{client} opens no sum of round {opened.round}: {opened.refused}")
            self._move(opening.Refused(now, place, opened.refused))
            return True
        held = current.rules.held_by(place)
        digests = dict(zip(held, opened.digests, strict=True))
        each = self._payload_bytes
        pieces = {
            seed: bytes(opened.payload[at * each : (at + 1) * each])
            for at, seed in enumerate(opened.seeds)
        }
        told = opening.Told(now, place, digests, frozenset(pieces))
        self._move(told, {(seed, digests[seed]): piece for seed, piece in pieces.items()})
        return True

    def _take_unneeded(self, client: ClientId, place: int, opened: Opened) -> bool:
        """An answer without which the sum was opened is held against that. Whether it was one."""
        last = self._last
        named = (opened.run, opened.round, opened.digest)
        if last is None or named != (last.whole.run, last.whole.round, last.whole.digest):
            self._refuse_unasked(client, opened)
            return False
        self._receipt(client, opened)
        told = zip(last.rules.held_by(place), opened.digests, strict=False)
        if any(digest != last.sums[seed] for seed, digest in told):
            self._name_wrong(client, opened.round)
        return True

    @property
    def answer_bytes_max(self) -> int:
        """Of a keyholder."""
        if self._masking is None:
            return 0
        count = seeds.count(self._places, self._tolerated)
        return count * self._payload_bytes + _OVERHEAD_BYTES

    def link_down(self) -> None:
        self._greets = True
        if self._greeting is not None:
            self._greeting.cancel()
        self._move(opening.LinkDown(self._loop.now()))

    def link_up(self) -> None:
        """Whoever is there has been, or will be, heard of."""
        if self._greets:
            self._greeting = self._loop.call_in(round_rules.GREET_S, self._end_greeting)
        self._move(opening.LinkUp(self._loop.now()))

    def _end_greeting(self) -> None:
        self._greets = False
        self.renew()

    @property
    def is_opening(self) -> bool:
        """Whether keyholders are waited for."""
        return self._current is not None

    def _list(self, whole: Open, reason: str) -> None:
        listed = Listed(
            round=RoundId(whole.round),
            reason=reason,
            digest=whole.digest.hex(),
            clients=[entry.client for entry in whole.entries],
        )
        open_round = self._ledger.open_round_now()
        before = open_round.listed if open_round is not None else None
        if before is None:
            self._ledger.list_round(listed)
        elif before.digest != listed.digest:
            raise LedgerDamaged(
                f"the answers to round {whole.round} are not those of the list that keyholders"
                " may have been told"
            )

    def _is_current(self, run: RunId, number: RoundId) -> bool:
        current = self._current
        return current is not None and (run, number) == (current.whole.run, current.whole.round)

    def _refuse_unasked(self, client: ClientId, said: Announce | Opened) -> None:
        state = self._state()
        if isinstance(state, rounds.Collecting) and state.round == said.round:
            # Open again after a restart: it will be asked for.
            return
        self._receipt(client, said, f"no sum of round {said.round} is asked for any more")

    @property
    def _payload_bytes(self) -> int:
        assert self._masking is not None
        return packing.payload_bytes(self._answers.body, values.TAIL, self._masking.bits)

    # The machine

    def _move(
        self, event: opening.Event, sums: dict[tuple[int, bytes], bytes] | None = None
    ) -> None:
        if (current := self._current) is None:
            return
        assert current.state is not None
        current.state, effects = opening.step(current.state, event, current.rules)
        for one, piece in (sums or {}).items():
            if one in current.state.came:
                current.sums[one] = piece
        self._perform(effects)

    def _perform(self, effects: list[opening.Effect]) -> None:
        current = self._current
        assert current is not None
        for effect in effects:
            match effect:
                case opening.Ask(place, some):
                    self._ask(current, current.rules.names[place], some)
                case opening.Differ(seed, places):
                    self._name(
                        f"{current.rules.named(places)} do not say the same of round"
                        f" {current.whole.round}: of the sum of masks {seed}"
                    )
                case opening.Try(sums):
                    self._try(current, sums)
                case opening.Take(sums, wrong):
                    for place in wrong:
                        self._name_wrong(current.rules.names[place], current.whole.round)
                    whole = structs.replace(current.whole, entries=())
                    self._last = _Opened(whole, current.rules, sums)
                    self._answers.take_mean(current.means[sums])
                    self._end(current)
                case opening.GiveUp(reason):
                    self._answers.give_up(reason)
                    self._end(current)
                case WakeAt(at):
                    self._end_alarm()
                    self._alarm = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._move(opening.Woke(self._loop.now()))

    def _ask(self, current: _Open, name: ClientId, some: opening.Seeds) -> None:
        _log.debug("asking %s for %d sums of masks", name, len(some))
        wanted = structs.replace(current.whole, seeds=tuple(sorted(some)))
        for part in listing.parts(wanted, self._room()):
            self._say(Publish(Inbox(name), part))

    def _try(self, current: _Open, sums: opening.Sums) -> None:
        masking = current.whole.masking
        vectors = (
            packing.from_payload(
                current.sums[seed, digest], current.whole.body, values.TAIL, masking.bits
            )
            for seed, digest in enumerate(sums)
        )
        try:
            current.means[sums] = self._answers.open(vectors)
        except NotASum as bad:
            _log.warning("round %d: %s", current.whole.round, bad)
        is_possible = sums in current.means
        self._move(opening.Tried(self._loop.now(), is_possible))

    def _end(self, current: _Open) -> None:
        self._end_alarm()
        self._current = None
        # Posted: this may be within an event.
        self._loop.post(current.then)

    def _end_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _receipt(self, client: ClientId, said: Announce | Opened, reason: str = "") -> None:
        receipt = Receipt(run=said.run, round=said.round, accepted=not reason, reason=reason[:500])
        self._say(Publish(Inbox(client), receipt))

    # For people

    def _name(self, trouble: str) -> None:
        """What a keyholder did, for all to see."""
        _log.warning("%s", trouble)
        self._facts.keyholder_faults.append(trouble)

    def _name_wrong(self, client: ClientId, number: RoundId) -> None:
        self._name(
            f"{client} gave other sums of masks in round {number} than those that fit its answers"
        )

    def _tell(self) -> None:
        self._facts.keyholders = self._keyholders.told()


def _fault(opened: Opened, place: int, current: _Open, each: int) -> str:
    """What is wrong with an answer, whatever its sums are worth."""
    if opened.digest != current.whole.digest:
        return "opens another list than it was asked about"
    if opened.refused:
        return ""
    held = current.rules.held_by(place)
    if len(opened.digests) != len(held):
        return f"tells {len(opened.digests)} digests of the {len(held)} seeds that it holds"
    if len(set(opened.seeds)) < len(opened.seeds) or not set(opened.seeds) <= set(held):
        return "sends sums of seeds that it does not hold, or of one twice"
    if opened.payload.nbytes != len(opened.seeds) * each:
        return f"sends {opened.payload.nbytes} bytes for {len(opened.seeds)} sums of {each} each"
    digests = dict(zip(held, opened.digests, strict=True))
    for at, seed in enumerate(opened.seeds):
        piece = opened.payload[at * each : (at + 1) * each]
        if hashlib.sha256(piece).digest() != digests[seed]:
            return "sends a sum that is not the one of its digest"
    return ""
