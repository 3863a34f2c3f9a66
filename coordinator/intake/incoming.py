"""What comes from clients, from its bytes to the event that the machine decides on.

    one message, or pieces on disk ──▶ answer ──▶ checked ──▶ event ──▶ happen
    what a worker has looked at  ────▶ claim ─────────────────▲

While the machine decides, and the service does what it decided, the answer that is decided on is
here: its numbers, the bytes it was read from, who signed it.
"""

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator import rounds
from coordinator.intake.reception import Reception
from coordinator.intake.trust import Trust
from coordinator.intake.uploads import Upload, Uploads
from coordinator.known import LOSS, Report
from coordinator.persistence.ledger import Kept
from coordinator.rounds import Named
from coordinator.sums.answers import Answers
from fedmqtt import messages, weights
from fedmqtt.effects import Publish
from fedmqtt.envelope import Author
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import (
    Announce,
    Chunk,
    Claimed,
    Decline,
    Evaluation,
    Opened,
    Passed,
    Receipt,
    Update,
    WireError,
)
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    Inbox,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
)

if TYPE_CHECKING:
    from coordinator.masking.unmasking import Unmasking
    from coordinator.workers.desk import Desk


class Incoming:
    def __init__(
        self,
        loop: EventLoop,
        topics: Topics,
        reception: Reception,
        uploads: Uploads,
        answers: Answers,
        *,
        trust: Trust | None,
        unmasking: "Unmasking | None",
        workers: "Desk | None",
        outdated: RoundId,
        has_base: Callable[[RoundId], bool],
        largest: Callable[[], int],
        state: Callable[[], rounds.State],
        rules: Callable[[], rounds.Rules],
        happen: Callable[[rounds.Event], None],
        say: Callable[[Publish], None],
        sign_of_life: Callable[[ClientId], None],
        show: Callable[[], None],
    ) -> None:
        """`outdated`: answers to the rounds up to this one were made under settings that hold no
        more. `has_base` tells whether the model of a round is kept, `largest` how many bytes an
        answer may have. `state` and `rules` are the machine's, as they are now; `happen`, `say` and
        `show` tell the machine, a client, and people; `sign_of_life`, that a client was heard."""
        self._loop = loop
        self._topics = topics
        self._reception = reception
        self._uploads = uploads
        self._answers = answers
        self._trust = trust
        self._unmasking = unmasking
        self._workers = workers
        self._outdated = outdated
        self._has_base = has_base
        self._largest = largest
        self._state, self._rules = state, rules
        self._happen, self._say = happen, say
        self._sign_of_life, self._show = sign_of_life, show
        self._announced: Announce | None = None
        self._claim: Claimed | None = None
        """Where it is an update that a worker has found."""
        self._passed_by: ClientId | None = None
        """The worker that passed the message on."""
        self._source: bytes | Upload = b""
        """What it was read from."""
        self._author: Author | None = None
        """Who signed it."""
        self._cost = (0, 0)
        """How many bytes that took, and how many messages."""
        self._uploads_timer: Timer | None = None
        self.answer: Update | Evaluation | None = None
        """That is decided on now."""

    # While it is decided on

    @property
    def is_with_a_worker(self) -> bool:
        """Whether its numbers are: it adds them up, and they are stored with its sum."""
        return self._claim is not None

    def digest(self) -> Digest:
        """Of the answer, or of its announcement: of what was signed."""
        if self._announced is not None:
            return _signed_as(self._announced)
        if self._claim is not None:
            return self._claim.digest
        if isinstance(self._source, Upload):
            return _signed_as(self._source.announce)
        return weights.digest(self._source)

    def kept(self, named: Named, report: Report | None) -> Kept:
        """As it is written down. It was of use."""
        self._reception.gate.counted(named.client, *self._cost)
        author = self._answers.author(named.client)
        if isinstance(self._source, Upload):
            return Kept(named, file=self._source.path, report=report, author=author)
        return Kept(named, message=self._source, report=report, author=author)

    def admit(self, client: ClientId) -> None:
        """What it has announced may come."""
        assert self._announced is not None
        self._note_author(client)
        if self._passed_by is not None:
            assert self._workers is not None
            self._workers.admit(self._passed_by, client, self._announced)
            return
        self._await_pieces(client, self._announced)

    # What comes

    def heard(self, address: UpdatePart, payload: bytes, author: Author | None) -> None:
        """A message in that topic, of a client that is heard."""
        self._author = author
        self._on_part(address, payload)

    def _on_part(self, address: UpdatePart, payload: bytes) -> None:
        client = address.client
        try:
            message = messages.read_from_client(payload)
        except WireError as bad:
            self._reception.unread_part(address, payload, str(bad))
            return
        if address.lane >= self._rules().lanes:
            # (Who has restarted does not know how many there are, and says what it owes in the
            # first: its lane is a matter of who hears it, and not of what it says.)
            there = " to ".join(map(str, sorted({0, self._rules().lanes - 1})))
            self._reception.unread_part(address, payload, f"lane {address.lane}, not {there}")
            return
        self._source, self._cost = payload, (len(payload), 1)
        if not isinstance(message, Chunk):
            # (Who sends pieces has said before that it will, and they are many.)
            self._sign_of_life(client)
        match message:
            case Announce() if address.part == ANNOUNCE:
                self._on_announce(client, message)
            case Chunk() if address.part != ANNOUNCE:
                self._on_chunk(client, int(address.part), message)
            case Update() | Evaluation() | Decline():
                self._on_answer(client, message)
            case Opened() if self._keyholder(client) is not None:
                self._on_opened(client, message)
            case _:
                misplaced = f"part {address.part!r} is no place for {type(message).__name__}"
                self._reception.unread_part(address, payload, misplaced)

    def _keyholder(self, client: ClientId) -> "Unmasking | None":
        """Who deals with what it says, if it is one."""
        unmasking = self._unmasking
        return unmasking if unmasking is not None and unmasking.is_keyholder(client) else None

    def _on_opened(self, client: ClientId, opened: Opened) -> None:
        unmasking = self._keyholder(client)
        assert unmasking is not None
        if unmasking.on_opened(client, opened):
            self._reception.gate.counted(client, *self._cost)
        self._show()

    def _on_announced_sums(
        self, client: ClientId, announce: Announce, unmasking: "Unmasking"
    ) -> None:
        if unmasking.on_announce(client, announce):
            self._await_pieces(client, announce)

    def _on_announce(self, client: ClientId, announce: Announce) -> None:
        if (unmasking := self._keyholder(client)) is not None:
            self._on_announced_sums(client, announce, unmasking)
            return
        fault = excuse = self._outdated_fault(announce.round)
        if announce.size_bytes > (most := self._largest()):
            fault = f"{announce.size_bytes} bytes; at most {most} are taken"
        self._announced = announce
        run, number = announce.run, announce.round
        excused = fault == excuse
        self._happen(rounds.AnnounceCame(self._loop.now(), client, run, number, fault, excused))
        self._announced = None

    def _on_chunk(self, client: ClientId, index: int, chunk: Chunk) -> None:
        upload = self._uploads.chunk(self._loop.now(), client, index, chunk)
        if (unmasking := self._keyholder(client)) is not None:
            unmasking.on_piece(client)
        if upload is None:
            return
        try:
            self._on_upload(client, upload)
        finally:
            self._send(self._uploads.done(self._loop.now(), upload))

    def _on_upload(self, client: ClientId, upload: Upload) -> None:
        if not self._uploads.is_intact(upload):
            self._reception.unread_pieces(client, "the chunks do not add up to what was announced")
            return
        with upload.opened() as data:
            try:
                message = messages.read_from_client(data)
            except WireError as bad:
                message, why = None, bad
            else:
                why = WireError("what the chunks add up to is no update")
            announce = upload.announce
            chunks = -(-announce.size_bytes // announce.chunk_bytes)
            self._source, self._cost = upload, (announce.size_bytes, chunks)
            if isinstance(message, Opened) and self._keyholder(client) is not None:
                self._on_opened(client, message)
                return
            if isinstance(message, Update | Evaluation):
                self._on_answer(client, message)
                return
        # The announcement was signed where there are keys, and named its digest.
        self._reception.unreadable(client, str(why), _signed_as(announce), is_proven=True)
        self.refuse(client, announce.run, announce.round, str(why))

    def _on_answer(self, client: ClientId, answer: Update | Evaluation | Decline) -> None:
        now = self._loop.now()
        match answer:
            case Decline(run=run, round=round_id, reason=reason):
                self._reception.gate.say(client, f"declines round {round_id}: {reason}")
                self._happen(rounds.Declined(now, client, run, round_id, reason))
            case Evaluation(run=run, round=round_id, base=base):
                self.answer = answer
                fault = self._answers.check(client, answer)
                self._happen(rounds.EvaluationCame(now, client, run, round_id, base, fault))
            case Update(run=run, round=round_id, base=base, fingerprint=kind):
                self.answer = answer
                fault, excused = self._fault(client, answer)
                said = (answer.sample_count, answer.metrics.get(LOSS), excused)
                self._happen(
                    rounds.UpdateCame(now, client, run, round_id, base, kind, fault, *said)
                )
        self.answer = None
        self._answers.let_go()

    def _fault(self, client: ClientId, update: Update) -> tuple[str, bool]:
        """What is wrong with an update, and whether it is another's fault than its sender's."""
        if late := self._outdated_fault(update.round):
            return late, True
        if not rounds.may_count(self._state(), client, update.run, update.round, self._rules()):
            # To unpack it is the most that a message can make us do.
            return "", True
        self._note_author(client)
        if self._is_of_revoked_key(client):
            # Keyholders would open no sum that it is in.
            return "its key was revoked", False
        return self._answers.check(client, update), self._answers.is_excused

    def _note_author(self, client: ClientId) -> None:
        # Pieces of a large answer are not signed: who signed its announcement was noted then.
        if self._author is not None:
            self._answers.signed_by(client, self._author)

    def _is_of_revoked_key(self, client: ClientId) -> bool:
        author = self._answers.author(client)
        if author is None or self._trust is None:
            return False
        return self._trust.is_revoked(base64.b64encode(author.key).decode())

    def _outdated_fault(self, number: RoundId) -> str:
        # Late answers are checked as if they were for the open round, and added to its sum.
        if number <= self._outdated:
            return f"late: round {number} had other settings"
        state = self._state()
        is_late = not isinstance(state, rounds.Finished) and number < state.round
        if is_late and self._answers.needs_bases and not self._has_base(number):
            # Kept for fewer rounds, before the settings were changed.
            return f"late: the model of round {number} is gone"
        return ""

    def claimed(self, claim: Claimed) -> None:
        """As `heard`, of an update that a worker has looked at."""
        client, number, run = claim.client, RoundId(claim.round), RunId(claim.run)
        where = UpdatePart(0, client, number, "0")
        if not self._is_of_live_key(where, claim.key) or not self._reception.hears(where, b""):
            return
        self._sign_of_life(client)
        fault, excused = claim.fault, claim.excused
        if late := self._outdated_fault(number):
            fault, excused = late, True
        elif not rounds.may_count(self._state(), client, run, number, self._rules()):
            fault, excused = "", True
        elif not claim.checked:
            # Its worker was told of this round too late: it is sent again.
            return
        self._claim = claim
        self._happen(
            rounds.UpdateCame(
                self._loop.now(),
                client,
                run,
                number,
                claim.base,
                claim.fingerprint,
                fault,
                claim.sample_count,
                claim.loss,
                excused,
            )
        )
        self._claim = None

    def passed(self, worker: ClientId, passed: Passed) -> None:
        """Of what is not for workers, this one passes on what came in its lanes."""
        said = UpdatePart(0, passed.client, RoundId(passed.round), passed.part)
        address = self._topics.parse(self._topics.path(said))
        # What is no part of an answer came in no topic.
        if not isinstance(address, UpdatePart) or not self._is_of_live_key(address, passed.key):
            return
        self._author, self._passed_by = None, worker
        payload = bytes(passed.payload)
        if self._reception.hears(address, payload):
            self._on_part(address, payload)
        self._passed_by = None

    def _is_of_live_key(self, address: UpdatePart, key: bytes) -> bool:
        """Workers have looked at the signature, and do not know which keys were revoked."""
        if not key or self._trust is None:
            return True
        if self._trust.is_revoked(base64.b64encode(key).decode()):
            self._reception.revoked.signed_by_revoked_key(address.client)
            self._reception.unproven(address, "it is signed by a key that was revoked")
            return False
        return True

    # Pieces

    def _await_pieces(self, client: ClientId, announce: Announce) -> None:
        self._send(self._uploads.announce(self._loop.now(), client, announce))
        self._watch_uploads()

    def drop_pieces(self, keeps: Callable[[ClientId, RoundId], bool]) -> None:
        """Of all answers but those that it `keeps`."""
        self._send(self._uploads.drop(self._loop.now(), keeps))

    def _watch_uploads(self) -> None:
        wait_s = self._uploads.wake_in_s
        if self._uploads_timer is None and wait_s is not None:
            self._uploads_timer = self._loop.call_in(wait_s, self._tick_uploads)

    def _tick_uploads(self) -> None:
        self._uploads_timer = None
        self._send(self._uploads.tick(self._loop.now()))
        self._watch_uploads()

    def _send(self, effects: list[Publish]) -> None:
        for effect in effects:
            self._say(effect)

    def refuse(self, client: ClientId, run: RunId, round_id: RoundId, reason: str) -> None:
        """Tell it that its answer does not count for what it is."""
        refused = Receipt(run=run, round=round_id, accepted=False, reason=reason[:500], blamed=True)
        self._say(Publish(Inbox(client), refused))


def _signed_as(announce: Announce) -> Digest:
    """Of what its device signed: the digest in it is the device's to choose."""
    return weights.digest(messages.encode(announce))
