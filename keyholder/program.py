"""The program: it publishes keys for rounds to come, and adds up masks of lists that it is sent.

    inbox ──parts──▶ Joining ──list──▶ rules.step ──▶ book, sums ──▶ sending.step ──▶ update topics
    offers ──▶ which key is taken ──▶ more keys ──▶ presence, retained

What a list takes, in seconds, is done on a thread of its own, so that the broker is answered in the
meantime; everything that is decided, and every file but the sums, belongs to the event loop.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from fedmqtt import __version__, chunks, client_ids, messages, own_presence, pace, signing
from fedmqtt.credentials import Credentials
from fedmqtt.effects import Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import Seldom
from fedmqtt.masking.listing import Joining, NotAList
from fedmqtt.messages import (
    Chunk,
    Offer,
    Open,
    Opened,
    Presence,
    Receipt,
    RoundKey,
    TimeLeft,
    WireError,
)
from fedmqtt.mqtt_link import (
    Acknowledged,
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    NodeUp,
    Part,
    Refused,
    Strayed,
    Unproven,
    next_try,
    room_for,
)
from fedmqtt.own_presence import OwnPresence
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    Inbox,
    OfferBoard,
    PresenceOf,
    RoundId,
    Topics,
    UpdatePart,
    lane_of,
)
from keyholder import answers, rules, sending, sums
from keyholder.answers import Spread, SumsLost
from keyholder.book import Book
from keyholder.listed import Mode
from keyholder.participations import NotCounted
from keyholder.sums import Keeper, Share, Unfit

AHEAD = 8
"""Keys that lie ready: so many rounds may open before this program has heard of the first."""
_ENTRIES_MAX = 100_000
"""Of a list, which is held in memory: 0.5 kB each."""
_CHUNK_BYTES = 128 * 1024
_SESSION_EXPIRY_S = 3600
"""A list of before is asked for again by then, or its round is over."""
_WILL_DELAY_S = 2
_LOOK_S = 600.0
"""How often it is looked for keys that are too old."""
_REASON_MAX = 500

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What its owner may set."""

    serves: tuple[Mode, ...]
    floor: int
    tolerated: int
    mixed_rounds: bool
    keep_s: Seconds


class Keyholder:
    """Raises signing.BadKey for credentials that are damaged."""

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        account: Credentials,
        book: Book,
        settings: Settings,
        keeper: Keeper,
        on_denied: Callable[[str], None],
    ) -> None:
        """`on_denied` hears why the broker will never let it in."""
        self._loop = loop
        self._book = book
        self._settings = settings
        self._on_denied = on_denied
        self._account = account
        self._name = keeper.name
        self._log = logging.getLogger(f"keyholder.{account.id}")
        self._keeper = keeper
        self._rules = rules.Rules(
            name=self._name,
            serves=settings.serves,
            floor=settings.floor,
            tolerated=settings.tolerated,
            mixed_rounds=settings.mixed_rounds,
        )
        self._state = rules.State(keys=book.keys.publics, lists=book.lists, taken=book.taken)
        self._sending = sending.State()
        self._joining = Joining(_ENTRIES_MAX)
        self._shares: list[Share] = []
        """Of the list that is in work, or was looked at last and is fit."""
        self._spreads: dict[Digest, Spread] = {}
        """Of the answers that are owed."""
        self._newest_go: dict[Digest, sending.SendChunks] = {}
        self._lanes = 1
        """As offers have it."""
        self._offered = max(book.lists, default=0)
        """The highest number of a key of ours that was seen in an offer."""
        self._alarm: Timer | None = None
        self._look: Timer | None = None
        self._own = OwnPresence()
        self._said: set[Presence] = set()
        """Of itself, over this connection."""
        self._may_be_unseen = False
        self._unproven = Seldom()
        self._refusals = Seldom(pause_s=1.0)
        self._topics = Topics(account.federation)
        self.link = MqttLink(loop, broker, self._topics, self._link_options(), self._on_link)
        self.link.spread_s = min(pace.UNTOLD_SPREAD_S, _LOOK_S)

    def start(self) -> None:
        """Connect, and serve until `stop`."""
        for path in self._book.keys.damaged:
            self._log.error("%s was damaged, and is deleted: what needs it is not opened", path)
        self._keep_house()
        for listed in self._book.lists.values():
            if listed.digests and not listed.is_received:
                self._answer(rules.Answer(listed))
        self._log.info(
            "keyholder %s of federation %s: opens sums of %d clients or more (mode %s)",
            self._name,
            self._account.federation,
            self._settings.floor,
            ", ".join(self._settings.serves),
        )
        if self._keeper.enrolled is None:
            self._log.warning(
                "without --enrolled a coordinator can make up the other clients of a sum: give it"
                " the kit's enrolled-devices, and copy it again when devices are enrolled"
            )
        self.link.open()

    def stop(self) -> None:
        """Say goodbye. What is owed is known at the next start."""
        for timer in (self._alarm, self._look):
            if timer is not None:
                timer.cancel()
        self.link.close([self._goodbye(self._own.token)])

    def _link_options(self) -> LinkOptions:
        return LinkOptions(
            client_id=client_ids.of_device(self._account.federation, self._name),
            subscribe=(
                self._topics.offer,
                self._topics.path(Inbox(self._name)),
                self._topics.path(PresenceOf(self._name)),
            ),
            will=self._goodbye,
            will_delay_s=_WILL_DELAY_S,
            session_expiry_s=_SESSION_EXPIRY_S,
        )

    def _goodbye(self, token: str) -> Publish:
        return Publish(PresenceOf(self._name), Presence(online=False, session=token))

    # What arrives

    def _on_link(self, event: LinkEvent) -> None:
        now = self._loop.now()
        match event:
            case LinkUp(token, packet_bytes_max, _, retained_by_name):
                self._log.info("connected (%s)", event.in_words)
                self._own = own_presence.connected(self._own, token)
                self._said.clear()
                self._may_be_unseen = retained_by_name
                self._say_presence()
                room = room_for(_CHUNK_BYTES, packet_bytes_max)
                self._send(sending.Connected(now, room))
            case LinkDown(reason, retry_in_s, _, _, hopeless):
                self._log.warning("%s; %s", reason, next_try(retry_in_s))
                self._newest_go.clear()
                self._send(sending.Disconnected())
                if hopeless:
                    self._on_denied(reason)
            case Refused(address, reason):
                self._log.error("the broker refuses %s: %s", self._topics.path(address), reason)
            case Unproven(address, reason):
                what = f"dropped what came in {self._topics.path(address)}: {reason}"
                if told := self._unproven.heard(now, what):
                    self._log.warning("%s", told)
            case Arrived():
                try:
                    self._on_arrival(now, event)
                except WireError as bad:
                    path = self._topics.path(event.address)
                    self._log.warning("unreadable message in %s: %s", path, bad)
            case Acknowledged() | Strayed() | NodeUp():
                # Not asked for.
                pass

    def _on_arrival(self, now: Seconds, arrived: Arrived) -> None:
        match arrived.address:
            case OfferBoard() if not arrived.payload:
                if self._may_be_unseen:
                    # By a coordinator that comes after us.
                    self._say_presence()
            case OfferBoard():
                offer = messages.read_offer(arrived.payload)
                self.link.spread_s = offer.spread_s
                self._lanes = offer.lanes
                named = offer.masking.keyholders if offer.masking is not None else ()
                self._note_taken([one.key for one in named if one.name == self._name])
            case Inbox():
                match messages.read_to_client(arrived.payload):
                    case Open() as part:
                        self._on_part(part)
                    case TimeLeft() | Offer():
                        # For those who are invited: this is none.
                        pass
                    case message:
                        self._send(sending.Received(now, message))
                        if isinstance(message, Receipt):
                            self._happen(rules.Received(message.run, message.round))
            case PresenceOf() if arrived.payload:
                self._on_presence(messages.read_presence(arrived.payload))
            case _:
                pass

    def _on_presence(self, seen: Presence) -> None:
        self._own, verdict = own_presence.seen(self._own, seen)
        if verdict == "stranger":
            self._log.error(
                "another program calls itself %s here: run one, with one folder", self._name
            )
        is_wrong = seen.session == self._own.token and seen not in self._said
        if verdict == "late" or is_wrong:
            self._own = own_presence.born_again(self._own)
            self._say_presence()

    def _on_part(self, part: Open) -> None:
        try:
            whole = self._joining.take(part)
        except NotAList as bad:
            self._refuse(rules.Refuse(part, str(bad)))
            return
        if whole is not None:
            self._log.debug(
                "round %d of run %s: asked %s a sum of %d clients",
                *(whole.round, whole.run, "about" if whole.looks else "for", len(whole.entries)),
            )
            self._happen(rules.Asked(whole))

    # Keys and presence

    def _note_taken(self, keys: list[RoundKey]) -> None:
        ours = self._book.keys.publics
        taken = [key.number for key in keys if ours.get(key.number) == key.public]
        self._offered = max(self._offered, *taken, 0)
        self._make_keys()

    def _make_keys(self) -> None:
        try:
            made = self._book.make_ahead(self._offered, AHEAD, self._fresh_s)
        except OSError as bad:
            self._log.error("no keys can be made: %s: %s", bad.filename, bad.strerror)
            return
        if made:
            self._keys_changed()

    def _keys_changed(self) -> None:
        self._happen(rules.KeysChanged(self._book.keys.publics))
        if self.link.is_up:
            self._say_presence()

    def _keep_house(self) -> None:
        self._look = self._loop.call_in(_LOOK_S, self._keep_house)
        try:
            dropped = self._book.drop_older(self._settings.keep_s)
        except OSError as bad:
            self._log.error("%s: %s", bad.filename, bad.strerror)
            dropped = False
        if dropped:
            self._log.info("deleted what was older than %g days", self._settings.keep_s / 86_400)
            self._keys_changed()
        self._make_keys()

    @property
    def _fresh_s(self) -> Seconds:
        """Older keys are not offered any more: their rounds are to end before the keys do."""
        return self._settings.keep_s / 2

    def _say_presence(self) -> None:
        presence = self._presence()
        self._said.add(presence)
        self.link.perform(Publish(PresenceOf(self._name), presence))

    def _presence(self) -> Presence:
        account = self._account
        ahead = [
            signing.round_key(account.signing_key, account.federation, self._name, number, public)
            for number, public in self._book.ahead(self._offered, self._fresh_s).items()
        ]
        return Presence(
            online=True,
            session=self._own.token,
            program=f"fedmqtt {__version__}",
            keys=tuple(ahead[:AHEAD]),
            floor=self._settings.floor,
        )

    # Lists

    def _happen(self, event: rules.Event) -> None:
        self._state, effects = rules.step(self._state, event, self._rules)
        for effect in effects:
            try:
                self._perform(effect)
            except OSError as bad:
                assert isinstance(effect, rules.WriteDown | rules.Finish)
                # Some may be deleted: what was sealed to those is opened no more.
                self._keys_changed()
                self._fail(effect.listed.digest, bad)
                return
        if self._state.work is None and not self._state.fit:
            # Nothing that may still be asked for needs them.
            self._shares = []

    def _fail(self, list_digest: bytes, bad: OSError) -> None:
        what = f"the disk of {self._name} fails: {bad.strerror}"
        self._log.error("%s (%s)", what, bad.filename)
        self._happen(rules.Failed(list_digest, what))

    def _perform(self, effect: rules.Effect) -> None:
        match effect:
            case rules.Check(asked, number):
                self._shares = []
                private = self._book.keys.private(number)
                self._in_background(
                    lambda: sums.shares(asked, self._keeper, private),
                    lambda result: self._checked(asked, result),
                )
            case rules.Count(asked):
                # Its seeds are here since it was looked at.
                shares = self._shares
                self._loop.post(lambda: self._checked(asked, shares))
            case rules.WriteDown(listed, taken):
                self._book.write_down(listed, taken)
            case rules.AddUp(asked, number):
                held, path = self._shares, self._book.sums_of(number, asked.digest)
                self._in_background(
                    lambda: sums.add_up(asked, self._keeper, held, path),
                    lambda result: self._added_up(asked.digest, result),
                )
            case rules.Finish(listed):
                self._book.finish(listed)
                # The one line of a quiet round: its owner wants to know what is opened.
                self._log.info(
                    "round %d of run %s: opened a sum of %d clients with key %d, which %s",
                    *(listed.round, listed.run, listed.clients, listed.number),
                    "may open more" if listed.opens_more else "is deleted",
                )
                self._offered = max(self._offered, listed.number)
                self._make_keys()
                self._keys_changed()
                self._happen(rules.Finished(listed))
            case rules.Answer():
                self._answer(effect)
            case rules.Fit(asked):
                fit = Opened(run=asked.run, round=asked.round, digest=asked.digest, fit=True)
                self.link.perform(Publish(self._place(asked.round), fit))
            case rules.Refuse():
                self._refuse(effect)

    def _in_background(
        self, work: Callable[[], _T], then: Callable[[_T | Exception], None]
    ) -> None:
        def run() -> None:
            result: _T | Exception
            try:
                result = work()
            except (Unfit, OSError, MemoryError) as bad:
                # Without its frames, in which clients' seeds are.
                result = bad.with_traceback(None)
            except Exception as bad:
                # Ours; and were it not told, nothing would ever be opened again.
                self._log.exception("a mistake of this program, while it worked on a list")
                result = bad.with_traceback(None)
            self._loop.post_from_thread(lambda: then(result))

        # A daemon: the program may end, or be killed, at any moment of it.
        threading.Thread(target=run, daemon=True).start()

    def _checked(self, asked: Open, result: list[Share] | Exception) -> None:
        try:
            if not isinstance(result, Exception) and (spent := self._spent(asked)):
                result = Unfit({client: ("spent", why) for client, why in spent.items()})
        except NotCounted as lost:
            result = lost
        except OSError as bad:
            self._fail(asked.digest, bad)
            return
        if isinstance(result, Exception):
            unfit = result.clients if isinstance(result, Unfit) else {}
            self._happen(rules.Checked(asked.digest, self._in_words(result), unfit))
            return
        self._shares = result
        self._happen(rules.Checked(asked.digest))

    def _spent(self, asked: Open) -> dict[ClientId, str]:
        """Who may be in no more sums. Nobody: then it counts, unless it is only looked at."""
        spent, work = self._book.participations.spent(asked), self._state.work
        if not spent and work is not None and not work.open.looks:
            self._book.participations.count(asked)
        return spent

    def _added_up(self, list_digest: bytes, result: tuple[bytes, ...] | Exception) -> None:
        self._shares = []
        match result:
            case OSError():
                self._fail(list_digest, result)
            case Exception():
                self._happen(rules.Failed(list_digest, self._in_words(result)))
            case digests:
                self._happen(rules.AddedUp(list_digest, digests))

    def _in_words(self, bad: Exception) -> str:
        match bad:
            case Unfit() | NotCounted():
                return str(bad)
            case OSError():
                return f"the disk of {self._name} fails: {bad.strerror}"
            case MemoryError():
                return f"{self._name} has no memory for a list and sums of this size"
            case _:
                # What it says could be of what is secret: the log is this keyholder's own.
                return f"{self._name} made a mistake ({type(bad).__name__}): its log has more"

    def _answer(self, answer: rules.Answer) -> None:
        listed = answer.listed
        try:
            made = answers.spread(listed, self._book.sums_of(listed.number, listed.digest))
        except SumsLost as lost:
            self._log.error("%s", lost)
            return
        self._log.debug(
            "round %d: sends the sums of seeds %s (%d bytes)",
            *(listed.round, ", ".join(map(str, listed.seeds)) or "none", made.sums.size_bytes),
        )
        self._spreads[made.sums.digest] = made
        self._send(sending.Ready(self._loop.now(), made.sums))

    def _refuse(self, refused: rules.Refuse) -> None:
        asked = refused.open
        what = f"round {asked.round} of run {asked.run}: refused: {refused.reason}"
        if told := self._refusals.heard(self._loop.now(), what):
            self._log.warning("%s", told)
        where = self._place(asked.round)
        said = Opened(
            run=asked.run,
            round=asked.round,
            digest=asked.digest,
            refused=refused.reason[:_REASON_MAX],
            unfit=dict(refused.unfit),
        )
        self.link.perform(Publish(where, said))

    # What is owed to the coordinator

    def _send(self, event: sending.Event) -> None:
        self._sending, effects = sending.step(self._sending, event)
        for effect in effects:
            match effect:
                case sending.Tell(announce):
                    where = self._place(announce.round, ANNOUNCE)
                    self.link.perform(Publish(where, announce))
                case WakeAt(at):
                    self._wake_at(at)
                case sending.Send(owed):
                    where = self._place(owed.round)
                    for piece in self._pieces(owed, 0, owed.size_bytes):
                        self.link.publish(where, piece)
                case sending.SendChunks(owed):
                    self._newest_go[owed.digest] = effect
                    self.link.stream(self._parts(effect))
                case sending.Settled(owed, receipt):
                    self._settle(owed, receipt)
        owed_now = {one.sums.digest for one in self._sending.owed}
        self._spreads = {at: one for at, one in self._spreads.items() if at in owed_now}

    def _wake_at(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, lambda: self._send(sending.Woke(self._loop.now())))

    def _parts(self, send: sending.SendChunks) -> Iterator[Part]:
        owed, size = send.sums, send.chunk_bytes
        for index in chunks.numbers(send.ranges, chunks.count(owed.size_bytes, size)):
            if self._newest_go.get(owed.digest) is not send:
                # Another names what is missing by now.
                return
            where = self._place(owed.round, str(index))
            if self.link.is_on_its_way(where):
                continue
            for piece in self._pieces(owed, *chunks.span(index, owed.size_bytes, size)):
                chunk = Chunk(digest=owed.digest, data=memoryview(piece))
                yield Part(where, messages.encode(chunk))

    def _pieces(self, owed: sending.Sums, start: int, stop: int) -> Iterator[bytes]:
        """That piece, or none where it is not there any more."""
        spread = self._spreads.get(owed.digest)
        if spread is None:
            return
        try:
            yield spread.piece(start, stop)
        except (OSError, SumsLost) as bad:
            self._log.error("%s", bad)
            self._loop.post(lambda: self._send(sending.Gone(owed)))

    def _settle(self, owed: sending.Sums, receipt: Receipt) -> None:
        self._newest_go.pop(owed.digest, None)
        if receipt.accepted:
            self._log.debug("round %d: the sums were received", owed.round)
        else:
            self._log.info("round %d: the sums were not wanted: %s", owed.round, receipt.reason)

    def _place(self, round_id: RoundId, part: str = "0") -> UpdatePart:
        return UpdatePart(lane_of(self._name, self._lanes), self._name, round_id, part)
