"""What becomes of a message before it is taken for what it says.

    message ─▶ within its name's limits? ─▶ signed? (the link) ─▶ in quarantine? ─▶ the service
                     │ no                         │ no                  │ yes
                     ▼                            ▼                     ▼
              dropped; a flood              dropped, shown       dropped; refused if for good

Where there are keys the broker is not believed: a topic does not prove who wrote a message. Then
only what its device signed is a strike, and is refused to it; presence, pieces and what stands in
no place of ours are dropped without a word, and who floods is not listened to for a time. A broker
can say again what a device signed once: each such message is one strike, however often it comes.

A refusal lets a client forget its answer. So none is said of a round that is to come, and none to
who is in quarantine while its answer could yet count: it keeps that, and sends it when it is out.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from coordinator import rounds
from coordinator.config import Limits
from coordinator.intake import revoked_devices
from coordinator.intake.door import Door
from coordinator.intake.gate import POLL_S, Gate
from coordinator.intake.revoked_devices import RevokedDevices
from coordinator.pages import status
from coordinator.roster import Roster
from fedmqtt import messages, weights
from fedmqtt.event_loop import EventLoop
from fedmqtt.logs import Seldom
from fedmqtt.mqtt_link import MqttLink
from fedmqtt.revocations import Revocations
from fedmqtt.topics import Address, ClientId, Digest, PresenceOf, RoundId, Topics, UpdatePart

_log = logging.getLogger("coordinator")


class Reception:
    """Of one coordinator. Raises LedgerDamaged and OSError, also later: see `Gate`."""

    def __init__(
        self,
        loop: EventLoop,
        link: MqttLink,
        topics: Topics,
        roster: Roster,
        facts: status.Facts,
        limits: Limits,
        run: Path,
        *,
        has_keys: bool,
        revocations: Revocations | None = None,
        happen: Callable[[rounds.Event], None],
        refuse: Callable[[ClientId, RoundId, str], None],
        show: Callable[[], None],
        state: Callable[[], rounds.State],
        rules: Callable[[], rounds.Rules],
        lanes: int = 1,
    ) -> None:
        """`happen`, `refuse` and `show` tell the machine, a client, and people that the `facts`
        have changed; `state` and `rules` are the machine's, as they are now; `lanes` as `Door`."""
        self._loop = loop
        self._topics = topics
        self._roster = roster
        self._facts = facts
        self._has_keys = has_keys
        self._happen = happen
        self._refuse = refuse
        self._show = show
        self._state = state
        self._rules = rules
        self._unproven = Seldom()
        self.gate = Gate(
            limits, run, loop.now, self._on_change, self._on_flood, believes_broker=not has_keys
        )
        self.door = Door(loop, link, topics, lanes)
        self.revoked = RevokedDevices(revocations, self._on_change)
        self.revoked.poll()

    def open(self) -> None:
        """The seat is ours: hear whoever there is."""
        self.door.listen(self._roster.names())
        for client in sorted({*self.gate.out, *self.revoked.barred}):
            self._happen(rounds.Barred(self._loop.now(), client, self._why_out(client)))

    def poll(self) -> None:
        """From now on, again and again."""
        self.gate.poll()
        self.revoked.poll()
        self._loop.call_in(POLL_S, self.poll)

    # What arrives

    def admits(self, address: Address, size_bytes: int) -> bool:
        """Whether it is looked at: asked of each message before its signature is."""
        match address:
            case PresenceOf(client) | UpdatePart(client=client):
                return self.gate.admits(client, size_bytes)
            case _:
                return True

    def hears(self, address: UpdatePart, payload: bytes) -> bool:
        """Whether it is read. Who is in quarantine is told why not, now and then, where that
        takes no answer away that could count."""
        client, number, gate = address.client, address.round, self.gate
        if self._has_keys and self._is_proven(payload):
            self.revoked.try_again(client)
        # Of what counted already, a copy gets its receipt: else the client would believe us that it
        # did not.
        if not gate.is_out(client) or rounds.has_counted(self._state(), client, number):
            return True
        if gate.is_muted(client):
            return False
        if rounds.may_yet_count(self._state(), number, self._rules()):
            gate.say(client, f"what it says of round {number} can wait")
        elif gate.answers_refusal(client):
            self._tell(address, payload, gate.why_out(client))
        return False

    def came(self, client: ClientId, session: str, *, retained: bool) -> None:
        """It says that it is there; that may be a birth."""
        before = self._roster.clients.get(client)
        if not retained and (before is None or before.presence.session != session):
            self.revoked.try_again(client)

    def strayed(self, client: ClientId, topic: str, size_bytes: int) -> None:
        """It came to a topic where nothing belongs."""
        if self.gate.admits(client, size_bytes) and not self._topics.is_trial(topic):
            why = f"nothing belongs in {topic[:100]}"
            self.unreadable(client, why, is_proven=not self._has_keys)

    def unproven(self, address: Address, reason: str) -> None:
        """Refused without a word to its sender: that would go to who did not send it, and may owe
        the true answer still."""
        what = f"dropped what came in {self._topics.path(address)}: {reason}"
        if told := self._unproven.heard(self._loop.now(), what):
            _log.warning("%s", told)
        if isinstance(address, UpdatePart):
            # Without a key here, it is as good as any other bytes that nobody can read.
            self.unreadable(address.client, reason, is_proven=not self._has_keys)

    def unread_presence(self, client: ClientId, why: str) -> None:
        self.unreadable(client, why, is_proven=not self._has_keys)

    def unread_part(self, address: UpdatePart, payload: bytes, why: str) -> None:
        """It is no message, or none for that place."""
        # The same bytes in another place are signed for themselves.
        digest = weights.digest(self._topics.path(address).encode() + b"\0" + payload)
        self.unreadable(address.client, why, digest, is_proven=self._is_proven(payload))
        self._tell(address, payload, why)

    def unread_pieces(self, client: ClientId, why: str) -> None:
        """They are not the answer that was announced. The client still owes it, and will announce
        it again."""
        self.unreadable(client, why, is_proven=not self._has_keys)

    def unreadable(
        self, client: ClientId, why: str, digest: Digest | None = None, *, is_proven: bool
    ) -> None:
        """For all to see; and a strike, if it `is_proven` that the client said it. Where there are
        keys it has signed what has this digest."""
        self._facts.unreadable += 1
        self._facts.refusals.append(f"{client}: {why}")
        self._show()
        if is_proven:
            self.blame(client, why, digest)

    def blame(self, client: ClientId, why: str, digest: Digest | None) -> None:
        """A strike for what has this digest. With keys, for one message one, however often the
        broker says it again; without, the broker is believed."""
        self.gate.strike(client, why, digest if self._has_keys else None)

    def _is_proven(self, payload: bytes) -> bool:
        # What came through the link and is no piece was signed by its device.
        return not self._has_keys or not messages.is_piece(payload)

    def _tell(self, address: UpdatePart, payload: bytes, why: str) -> None:
        if self._is_proven(payload) and not rounds.is_to_come(self._state(), address.round):
            self._refuse(address.client, address.round, why)

    # Who is in quarantine or revoked, and who floods

    def _why_out(self, client: ClientId) -> str:
        """Nothing where it may take part."""
        return revoked_devices.WHY if self.revoked.is_barred(client) else self.gate.why_out(client)

    def _on_change(self, client: ClientId) -> None:
        # Posted: it may be an effect of an event that is being dealt with.
        self._loop.post(lambda: self._take_change(client))

    def _take_change(self, client: ClientId) -> None:
        now = self._loop.now()
        if why := self._why_out(client):
            self._happen(rounds.Barred(now, client, why))
        else:
            self._happen(rounds.Unbarred(now, client))
        if not self.gate.is_out(client):
            self.door.open_to(client)

    def _on_flood(self, client: ClientId) -> None:
        if self.door.close_to(client, self._roster.names):
            _log.warning(
                "%s floods us and goes on: the others are listened to by name. At the broker,"
                " `fedmqtt revoke` ends it",
                client,
            )
