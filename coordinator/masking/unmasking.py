"""What a coordinator does about masks: whose keys a round is offered with, and who opens its sum.

    presences of keyholders ──▶ `keyholders.py` ──▶ KeysCame: a round may open
    a round has closed ──▶ its list, written down ──▶ `looking.py` ──▶ Open, to be looked at
      that list, or one without who is unfit,   ┌─── fit, or who is not ◀── Opened ◀──┘
      written down ◀────────────────────────────┘
        └──▶ `opening.py` ──▶ Open ──▶ keyholders
                               Opened ◀──┘ sums of masks, sent as answers are

The service hands over what concerns it; `masked_answers.py` does the sums.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from coordinator import round_rules, rounds
from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from coordinator.masking import looking, masked_round, opening, unfitness
from coordinator.masking.confirmation import Confirmation
from coordinator.masking.keyholders import Keyholders
from coordinator.masking.masked_answers import MaskedAnswers
from coordinator.pages.status import Facts
from coordinator.persistence.ledger import Kept, Ledger, Listed
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt import messages
from fedmqtt.effects import Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.masking import listing, packing, seeds
from fedmqtt.masking.values import MeanChange, NotASum
from fedmqtt.messages import (
    Announce,
    Keyholder,
    Masking,
    Open,
    Opened,
    Presence,
    Receipt,
    Update,
    WhyUnfit,
    WireError,
)
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
    listed: Listed
    looks: tuple[looking.State, looking.Rules] | None = None
    """While the list may yet be replaced."""
    state: opening.State | None = None
    """Once it may not."""
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
        blame: Callable[[ClientId, str, Digest], None],
        state: Callable[[], rounds.State],
        room: Callable[[], int],
        work: bytes,
    ) -> None:
        """`blame` a client for what it answered, which has this digest. `state`: the machine's, as
        it is now; `room`: the most bytes of one message; `work`: digest of what rounds ask."""
        self._loop = loop
        self._config = config
        self._trust = trust
        self._answers = answers
        self._ledger = ledger
        self._facts = facts
        self._say = say
        self._happen = happen
        self._blame = blame
        self._state = state
        self._room = room
        self._work = work
        self._confirmation = Confirmation(facts)
        self._places, self._tolerated = masked_round.places(config)
        self._keyholders = Keyholders(
            config.name,
            trust.keyholders,
            self._places,
            self._tolerated,
            ledger.keys_used(),
            answers_max=masked_round.counted_max(config),
            for_several=masked_round.mixes_rounds(config),
        )
        self._masking: Masking | None = None
        """Of the open round, and of the one that is being opened."""
        self._current: _Open | None = None
        self._last: _Opened | None = None
        self._useless: tuple[Keyholder, ...] = ()
        """By whose keys the last sum was not opened: one may have lost its, and be there."""
        self._unfit: dict[ClientId, str] = {}
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
        if presence.online:
            # It publishes keys in the place of each that it has used, too.
            is_back = not self._keyholders.is_there(client, presence.session)
            if fault := self._keyholders.came(client, presence):
                self._name(f"{client} {fault}")
            if is_back:
                self._move_place_of(client, opening.Came)
        elif self._keyholders.left(client, presence.session):
            self._move_place_of(client, opening.Left)
        self.renew()

    def renew(self) -> None:
        """Tell the machine by which keys the next round can be masked."""
        found = self._in_use() or self._keyholders.next()
        if self._greets and found is not None and len(found) < self._places:
            # The others may have been here all the time.
            found = None
        masking = None if found is None else self._answers.masking_by(found)
        self._tell()
        self._happen(rounds.KeysCame(self._loop.now(), masking))

    def _in_use(self) -> tuple[Keyholder, ...] | None:
        """Where keys are for several rounds: those of before, as long as they may be used."""
        if not masked_round.mixes_rounds(self._config):
            return None
        masking, offered = rounds.masking_in_use(self._state())
        if masking is None or offered >= self._config.privacy.key_rounds:
            return None
        if masking.keyholders == self._useless:
            return None
        following = self._answers.masking_by(masking.keyholders)
        # Under other settings other answers come, and a key is for those of one kind.
        is_same = structs.replace(following, metrics=(), classes=0, work=self._work) == masking
        are_there = all(self._keyholders.is_there(one.name) for one in masking.keyholders)
        return masking.keyholders if is_same and are_there else None

    def begin_round(self, masking: Masking) -> None:
        """A round is open, or goes on, with these keys."""
        self._masking = masking
        # Of the one before: this one may close without a list.
        self._unfit = {}
        self._answers.mask(masking)
        self._keyholders.use(masking.keyholders)
        # Posted: this may be within an event.
        self._loop.post(self.renew)

    def waits_for(self, at: Seconds) -> str:
        """For which keyholders the next round, or the sum of the last one, waits, in a sentence;
        nothing where it does not."""
        state, waits = self._state(), ""
        match state:
            case rounds.Waiting(past=rounds.Past(masking=None, deaf_since=None)):
                if at >= state.opens_from and not self._greets:
                    waits = self._keyholders.waiting()
            case rounds.Averaging() if self._current is not None:
                if len(self._there(self._current)) <= self._tolerated:
                    waits = self._sum_waits(self._current)
            case _:
                pass
        if waits and waits != self._waits:
            _log.warning("%s", waits)
        self._waits = waits
        return waits

    def _sum_waits(self, current: _Open) -> str:
        names = current.rules.names.values()
        away = [name for name in names if not self._keyholders.is_there(name)]
        # Who is waited for in vain need not be looked for.
        keyless = [name for name in self._keyholders.told() if name not in names]
        beside = f"; without a key in that round: {', '.join(keyless)}" if keyless else ""
        return (
            f"the sum of round {current.whole.round} waits for keyholders:"
            f" {self._tolerated + 1} of {self._places} are needed; away: {', '.join(away)}{beside}"
        )

    # The end of a round

    def weigh(self, counted: Collection[rounds.Named]) -> frozenset[rounds.Named]:
        """Where rounds are asynchronous: the sum will be of these, but for those that come out."""
        return self._answers.weigh(counted)

    def open(
        self, run: RunId, number: RoundId, base: Digest, reason: str, then: Callable[[], None]
    ) -> None:
        """Have the sum of the answers that counted opened; `then` is called when the data plane
        has it, or will have none. The list is written down before anybody is asked, and is the
        one that was written before, if there is one."""
        assert self._masking is not None
        before = self._listed_before(number)
        self._unfit = {} if before is None else before.unfit
        self._take_out(self._unfit)
        if (count := len(self._answers.entries)) < self._masking.floor:
            self._answers.give_up(
                f"{count} answers, and no sum of fewer than {self._masking.floor} is opened"
            )
            self._loop.post(then)
            return
        whole = self._list_of(run, number, base)
        listed = before or _listed(whole, reason, looks=True)
        if before is None:
            self._ledger.list_round(listed)
        elif before.digest != whole.digest.hex():
            raise LedgerDamaged(
                f"the answers to round {number} are not those of the list that keyholders may have"
                " been told"
            )
        rules = opening.Rules(
            places=self._places,
            tolerated=self._tolerated,
            names={one.place: one.name for one in self._masking.keyholders},
            timeout_s=self._config.privacy.keyholder_timeout_s,
            deadline_s=self._config.privacy.opening_deadline_s,
        )
        self._current = current = _Open(whole, rules, then, listed)
        if listed.looks:
            self._begin_looking(current)
        else:
            self._begin_opening(current)

    def _list_of(self, run: RunId, number: RoundId, base: Digest) -> Open:
        """Of all answers that are in the sum."""
        assert self._masking is not None
        body, tail, _ = self._answers.opened
        whole = Open(
            run=run,
            round=number,
            base=base,
            masking=self._masking,
            body=body,
            tail=tail,
            digest=bytes(32),
            part=0,
            parts=1,
            entries=self._answers.entries,
            seeds=(),
            answered=self._answers.answered,
        )
        return structs.replace(whole, digest=listing.digest(whole))

    def _begin_looking(self, current: _Open) -> None:
        rules = looking.Rules(
            opening=current.rules,
            clients=frozenset(entry.client for entry in current.whole.entries),
            fewest=max(current.whole.masking.floor, self._config.rounds.quorum),
        )
        state, effects = looking.begin(self._loop.now(), self._there(current), rules)
        current.looks = state, rules
        self._perform_looking(current, effects)

    def _begin_opening(self, current: _Open, slow: opening.Places = opening.NOBODY) -> None:
        current.looks = None
        now, there = self._loop.now(), self._there(current)
        current.state, effects = opening.begin(now, there, current.rules, slow)
        self._perform(effects)

    def _there(self, current: _Open) -> list[int]:
        names = current.rules.names.items()
        return [place for place, name in names if self._keyholders.is_there(name)]

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
        self._move_place_of(client, opening.Heard)

    def on_opened(self, client: ClientId, opened: Opened) -> bool:
        """A keyholder's answer. Whether it was of use."""
        current = self._current
        if current is None or not self._is_current(opened.run, opened.round):
            return self._take_unneeded(client, opened)
        if (place := _place(client, current.rules)) is None:
            self._refuse_unasked(client, opened)
            return False
        now = self._loop.now()
        if opened.fit or opened.refused:
            self._hear_of_list(client, place, current, opened)
            return True
        fault = _fault(opened, place, current, self._payload_bytes)
        if fault:
            self._name(f"{client} {fault}")
            self._receipt(client, opened, fault)
            self._move(opening.Refused(now, place, fault))
            return False
        self._receipt(client, opened)
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

    def _hear_of_list(self, client: ClientId, place: int, current: _Open, opened: Opened) -> None:
        """What it says of a list that it looked at; of an older one it is of no use."""
        if opened.refused:
            self._receipt(client, opened)
        if opened.digest != current.whole.digest:
            return
        if opened.refused:
            self._name(f"{client} opens no sum of round {opened.round}: {opened.refused}")
        now, listed = self._loop.now(), {entry.client for entry in current.whole.entries}
        named = {client: why for client, why in opened.unfit.items() if client in listed}
        if opened.refused and (current.looks is None or not named):
            self._move(opening.Refused(now, place, opened.refused))
        else:
            self._move(looking.Looked(now, place, named))

    def _take_unneeded(self, client: ClientId, opened: Opened) -> bool:
        """An answer without which the sum was opened is held against that. Whether it was one."""
        last = self._last
        named = (opened.run, opened.round, opened.digest)
        if (
            last is None
            or named != (last.whole.run, last.whole.round, last.whole.digest)
            or (place := _place(client, last.rules)) is None
        ):
            self._refuse_unasked(client, opened)
            return False
        self._receipt(client, opened)
        told = dict(zip(last.rules.held_by(place), opened.digests, strict=False))
        self._confirmation.told(client, told)
        if any(digest != last.sums[seed] for seed, digest in told.items()):
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
    def unfit(self) -> dict[ClientId, str]:
        """Whose answers are not in the sum of the round that is closing, and why."""
        return self._unfit

    @property
    def is_opening(self) -> bool:
        """Whether keyholders are waited for."""
        return self._current is not None

    def _listed_before(self, number: RoundId) -> Listed | None:
        """What was written of this round by a coordinator that ended."""
        open_round = self._ledger.open_round_now()
        assert open_round is not None and open_round.number == number
        return open_round.listed

    def _take_out(self, clients: Collection[ClientId]) -> None:
        """Of the sum; what they sent lies in the ledger. Raises LedgerDamaged."""
        for kept in self._listed_of(self._answers.named(clients)):
            self._answers.take_out(kept.named.client, self._read(kept))
        often = self._answers.weigh_again()
        for kept in self._listed_of(often.keys()):
            self._answers.count_again(kept.named.client, self._read(kept), often[kept.named])

    def _listed_of(self, answers: Collection[rounds.Named]) -> Iterator[Kept]:
        """These, from the ledger."""
        kept = self._ledger.kept() if answers else ()
        return (one for one in kept if one.named in answers)

    def _read(self, kept: Kept) -> Update:
        """Raises LedgerDamaged."""
        try:
            update = messages.read_from_client(kept.read())
        except (OSError, WireError) as bad:
            raise LedgerDamaged(f"the answer of {kept.named.client}: {bad}") from bad
        assert isinstance(update, Update)
        return update

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
        return packing.payload_bytes(*self._answers.opened)

    # The machine

    def _move(
        self,
        event: opening.Event | looking.Looked,
        sums: dict[tuple[int, bytes], bytes] | None = None,
    ) -> None:
        if (current := self._current) is None:
            return
        if current.looks is not None:
            self._move_looking(current, *current.looks, event)
            return
        assert current.state is not None
        if isinstance(event, looking.Looked):
            # It was asked before the others had settled the list.
            return
        current.state, effects = opening.step(current.state, event, current.rules)
        for one, piece in (sums or {}).items():
            if one in current.state.came:
                current.sums[one] = piece
        self._perform(effects)

    def _move_place_of(
        self, client: ClientId, event: Callable[[Seconds, int], opening.Event]
    ) -> None:
        """Where a sum is opened that this keyholder has a place in."""
        if self._current is not None:
            place = _place(client, self._current.rules)
            if place is not None:
                self._move(event(self._loop.now(), place))

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
                    assert current.state is not None
                    self._confirmation.opened(whole.round, current.state, sums, current.rules)
                    self._answers.take_mean(current.means[sums])
                    self._end(current)
                case opening.GiveUp(reason):
                    self._give_up(current, reason)
                case WakeAt(at):
                    self._alarm_at(at)

    def _move_looking(
        self,
        current: _Open,
        state: looking.State,
        rules: looking.Rules,
        event: opening.Event | looking.Looked,
    ) -> None:
        if isinstance(event, opening.Told | opening.Heard | opening.Tried):
            return
        following, effects = looking.step(state, event, rules)
        current.looks = following, rules
        self._perform_looking(current, effects)

    def _perform_looking(self, current: _Open, effects: list[looking.Effect]) -> None:
        for effect in effects:
            match effect:
                case looking.Ask(place):
                    self._ask(current, current.rules.names[place], frozenset(), looks=True)
                case looking.Settle(unfit, slow):
                    self._settle(current, unfit, slow)
                case looking.GiveUp(reason):
                    self._give_up(current, reason)
                case WakeAt(at):
                    self._alarm_at(at)

    def _settle(
        self,
        current: _Open,
        unfit: Mapping[ClientId, Mapping[int, WhyUnfit]],
        slow: opening.Places,
    ) -> None:
        """Nothing comes off the list, or onto it, from now on."""
        assert current.looks is not None
        looked, _ = current.looks
        whole, reason = current.whole, current.listed.reason
        why = {client: unfitness.told(said, current.rules) for client, said in unfit.items()}
        # Before the list without them is written down: killed in between, all look at it again, and
        # for one answer a client has one strike.
        self._tell_of_unfit(current, unfit, why)
        self._take_out(why)
        self._unfit = why
        current.whole = whole = self._list_of(whole.run, whole.round, whole.base)
        current.listed = _listed(whole, reason, looks=False, unfit=why)
        self._ledger.list_round(current.listed)
        left_s = looked.gives_up_at - self._loop.now()
        current.rules = replace(current.rules, deadline_s=left_s)
        self._begin_opening(current, slow)

    def _tell_of_unfit(
        self,
        current: _Open,
        unfit: Mapping[ClientId, Mapping[int, WhyUnfit]],
        why: Mapping[ClientId, str],
    ) -> None:
        digests = {entry.client: entry.payload.hex() for entry in current.whole.entries}
        for client, said in unfit.items():
            _log.warning("round %d: %s is left out: %s", current.whole.round, client, why[client])
            if unfitness.is_its_doing(said, current.rules):
                self._blame(client, why[client], Digest(digests[client]))

    def _alarm_at(self, at: Seconds) -> None:
        self._end_alarm()
        self._alarm = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._move(opening.Woke(self._loop.now()))

    def _ask(
        self, current: _Open, name: ClientId, some: opening.Seeds, *, looks: bool = False
    ) -> None:
        what = "to look at a list" if looks else f"for {len(some)} sums of masks"
        _log.debug("asking %s %s", name, what)
        wanted = structs.replace(current.whole, seeds=tuple(sorted(some)), looks=looks)
        for part in listing.parts(wanted, self._room()):
            self._say(Publish(Inbox(name), part))

    def _try(self, current: _Open, sums: opening.Sums) -> None:
        vectors = (
            packing.from_payload(current.sums[seed, digest], *self._answers.opened)
            for seed, digest in enumerate(sums)
        )
        try:
            current.means[sums] = self._answers.open(vectors)
        except NotASum as bad:
            _log.warning("round %d: %s", current.whole.round, bad)
        is_possible = sums in current.means
        self._move(opening.Tried(self._loop.now(), is_possible))

    def _give_up(self, current: _Open, reason: str) -> None:
        if _lacked_keyholders(current):
            self._useless = current.whole.masking.keyholders
        self._answers.give_up(reason)
        self._end(current)

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


def _place(client: ClientId, rules: opening.Rules) -> int | None:
    """As the round was masked. By the credentials it may have another by now, or none."""
    return next((place for place, name in rules.names.items() if name == client), None)


def _lacked_keyholders(current: _Open) -> bool:
    """Whether one refused or was silent, so that its keys may be gone; else a client spoilt it."""
    looked = current.looks[0] if current.looks is not None else None
    if looked is not None:
        answered, refused = looked.looked.keys(), looked.refused
    elif current.state is not None:
        answered, refused = current.state.digests.keys(), current.state.refused
    else:
        return True
    return bool(refused) or answered != current.rules.names.keys()


def _listed(
    whole: Open, reason: str, *, looks: bool, unfit: Mapping[ClientId, str] | None = None
) -> Listed:
    return Listed(
        round=RoundId(whole.round),
        reason=reason,
        digest=whole.digest.hex(),
        clients=[entry.client for entry in whole.entries],
        looks=looks,
        unfit=dict(unfit or {}),
    )


def _fault(opened: Opened, place: int, current: _Open, each: int) -> str:
    """What is wrong with an answer, whatever its sums are worth."""
    if opened.digest != current.whole.digest:
        return "opens another list than it was asked about"
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
