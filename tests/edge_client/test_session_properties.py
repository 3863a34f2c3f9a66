"""Whatever link, broker, owner and trainer do to it, a client's session keeps its promises.

The promises are those of the simulator (`fleet_sim/promises.py`); here hypothesis looks for the
story that breaks one, and tells the shortest it finds.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_client import session
from fedmqtt import messages, sortition
from fedmqtt.effects import Publish, WakeAt
from fedmqtt.messages import (
    EVERYBODY,
    Go,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    Sortition,
    TimeLeft,
    Training,
)
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId, RunId
from fleet_sim.promises import check_client

ANN = ClientId("ann")
R, S = RunId("r"), RunId("s")
RUNS = st.sampled_from([R, R, R, R, R, S])
BACK = st.sampled_from([0, 0, 1, 2])
DIGESTS = [Digest(digit * 64) for digit in "0123456789"]
SECONDS = st.sampled_from([0.0, 1.0, 19.0, 20.0, 45.0])


class Device(RuleBasedStateMachine):
    """Ann's machine with a disk and a trainer that do what they are told."""

    @initialize(
        purposes=st.sampled_from([("train", "evaluate")] * 4 + [("evaluate",)]),
        left=st.integers(0, 2),
        outbox_bytes_max=st.sampled_from([10**9, 10**9, 3000]),
        leave_from_s=st.sampled_from([0.0, 30.0]),
    )
    def begin(
        self,
        purposes: tuple[messages.Purpose, ...],
        left: int,
        outbox_bytes_max: int,
        leave_from_s: float,
    ) -> None:
        self.knobs = session.Rules(
            client=ANN,
            task="digits",
            purposes=purposes,
            resend_s=20.0,
            resend_max_s=60.0,
            outbox_bytes_max=outbox_bytes_max,
            leave_from_s=leave_from_s,
        )
        self.now = 0.0
        self.alarm: float | None = None
        self.tokens = self.tokens_before = 0
        """Connections, and those of earlier lives."""
        self.latest = RoundId(left)
        self.epoch = 1
        self.state = session.Session()
        self.fetching: ModelRef | None = None
        self.working: Offer | None = None
        # What an earlier life left on the disk.
        self.disk = {session.Answer(R, RoundId(n + 1), DIGESTS[n], 100) for n in range(left)}
        self.pending: set[session.Answer] = set()
        """Of the disk's those with which something is to be remembered."""
        self.tell(session.Started(self.now, tuple(sorted(self.disk, key=lambda one: one.round))))

    def tell(self, event: session.Event) -> None:
        if isinstance(event, session.Woke):
            self.alarm = None
        before = self.state
        self.state, effects = session.step(before, event, self.knobs)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
        check_client(ANN, before, event, self.state, effects, self.alarm)
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: session.Effect) -> None:
        match effect:
            case session.Fetch(run, round_id, model):
                assert self.working is None, "fetches while it works on another round"
                assert self.state.job is not None, "fetches for nothing"
                offer = self.state.job.offer
                assert (offer.run, offer.round) == (run, round_id), "fetches for another round"
                assert offer.model == model, "fetches what is not offered"
                self.fetching = model
            case session.Work(offer, _):
                assert self.working is None, "works on two rounds"
                model_bytes = (
                    offer.model.size_bytes if sortition.invites(offer, ANN, "train") else 0
                )
                room = self.knobs.outbox_bytes_max - sum(one.size_bytes for one in self.disk)
                assert model_bytes <= room, "begins what may not fit"
                self.fetching, self.working = None, offer
            case session.Stop():
                assert self.fetching or self.working, "stops what it does not do"
                self.fetching = self.working = None
            case session.Send(answer) | session.SendChunks(answer):
                assert answer in self.disk, "sends what is not on the disk"
            case session.Forget(answer):
                self.disk.remove(answer)
            case session.Leave(back_at):
                assert self.knobs.leave_from_s, "leaves though its owner does not want that"
                assert back_at - self.now >= self.knobs.leave_from_s, "leaves for a moment"
                assert not self.disk, "leaves with an answer that is owed"
                assert self.fetching is None and self.working is None, "leaves its work"
                assert not self.state.online
            case Publish(to, message) if message is not None:
                data = messages.encode(message)
                read = messages.read_presence if isinstance(to, PresenceOf) else from_client
                assert read(data) == message, "says what nobody can read"
            case _:
                pass

    @rule(chunk_bytes=st.sampled_from([1024, 4096]))
    def connect(self, chunk_bytes: int) -> None:
        self.tokens += 1
        self.tell(session.Connected(self.now, f"t{self.tokens}", chunk_bytes))

    @rule(thrown_out=st.booleans(), taken_over=st.sampled_from([False, False, True]))
    def disconnect(self, thrown_out: bool, taken_over: bool) -> None:
        self.tell(session.Disconnected(self.now, thrown_out, taken_over))

    @rule(
        ahead=st.sampled_from([1, 1, 1, 1, 0, -1]),
        run=RUNS,
        newer=st.sampled_from([0, 0, 0, 0, 1, -1]),
        chunk_bytes=st.sampled_from([1024, 1024, 1024, 2048]),
        asks=st.sampled_from(["train", "train", "evaluate", "both", "others"]),
        drawn=st.sampled_from([None, None, (0, 0), (EVERYBODY, 0), (EVERYBODY, EVERYBODY)]),
        wrong=st.integers(0, 9),
        closes=st.sampled_from([60.0, 60.0, 10.0, 0.0]),
        expires=st.sampled_from([None, None, 1000.0, 5.0, 0.0]),
        late=st.sampled_from([(0, False), (0, False), (2, False), (1, True), (9, True)]),
    )
    def offer(
        self,
        ahead: int,
        run: RunId,
        newer: int,
        chunk_bytes: int,
        asks: str,
        drawn: tuple[int, int] | None,
        wrong: int,
        closes: float,
        expires: float | None,
        late: tuple[int, bool],
    ) -> None:
        self.epoch = max(self.epoch, self.epoch + newer)
        number = RoundId(max(1, self.latest + ahead))
        self.latest = max(self.latest, number)
        offer = Offer(
            wire=2 if wrong == 0 else messages.WIRE_VERSION,
            epoch=self.epoch + min(newer, 0),
            run=run,
            round=number,
            task="letters" if wrong == 1 else "digits",
            model=ModelRef(
                digest=DIGESTS[number // 2 % 10],
                size_bytes=1000,
                chunk_bytes=chunk_bytes,
                fingerprint="f",
            ),
            train=(ANN,) if asks in ("train", "both") else (),
            evaluate=(ANN,) if asks in ("evaluate", "both") else (),
            closes_in_s=closes,
            training=Training(),
            codec="full",
            lanes=8,
            seed=0,
            sortition=drawn and Sortition(salt="s", train=drawn[0], evaluate=drawn[1]),
            late_rounds=late[0],
            asynchronous=late[1],
        )
        before, is_old = self.state, offer.epoch < self.state.epoch
        self.tell(session.Offered(self.now, offer, expires))
        assert not is_old or self.state is before, "listens to an old coordinator"

    @rule()
    def withdraw(self) -> None:
        self.tell(session.OfferWithdrawn(self.now))

    @precondition(lambda self: self.fetching is not None)
    @rule()
    def finish_fetching(self) -> None:
        assert self.fetching is not None
        self.tell(session.ModelFetched(self.now, self.fetching.digest))

    @rule(digest=st.sampled_from(DIGESTS))
    def fetch_what_nobody_wants(self, digest: Digest) -> None:
        if self.fetching is None or self.fetching.digest != digest:
            self.tell(session.ModelFetched(self.now, digest))

    @precondition(lambda self: self.working is not None)
    @rule(
        size=st.sampled_from([100, 1024, 1025, 5000]),
        digest=st.sampled_from(DIGESTS),
        remembers=st.booleans(),
    )
    def finish_working(self, size: int, digest: Digest, remembers: bool) -> None:
        assert self.working is not None
        answer = session.Answer(self.working.run, self.working.round, digest, size)
        self.working = None
        self.disk.add(answer)
        if remembers:
            self.pending.add(answer)
        self.tell(session.Finished(self.now, answer, remembers))

    @rule(run=RUNS, back=BACK, digest=st.sampled_from(DIGESTS))
    def finish_when_it_was_stopped(self, run: RunId, back: int, digest: Digest) -> None:
        number = self.number(back)
        if self.working is None or (self.working.run, self.working.round) != (run, number):
            answer = session.Answer(run, number, digest, 100)
            self.disk.add(answer)
            self.tell(session.Finished(self.now, answer))

    @rule(run=RUNS, back=BACK, reason=st.sampled_from(["out of memory", "x" * 2000]))
    def fail(self, run: RunId, back: int, reason: str) -> None:
        number, job = self.number(back), self.state.job
        if job is not None and (job.offer.run, job.offer.round) == (run, number):
            self.fetching = self.working = None
        self.tell(session.Failed(self.now, run, number, reason))

    @rule(
        run=RUNS,
        back=BACK,
        accepted=st.booleans(),
        next_s=st.sampled_from([0.0, 29.0, 30.0, 1000.0]),
    )
    def receipt(self, run: RunId, back: int, accepted: bool, next_s: float) -> None:
        receipt = Receipt(
            run=run, round=self.number(back), accepted=accepted, next_round_in_s=next_s
        )
        self.tell(session.Received(self.now, receipt))

    @rule(run=RUNS, back=BACK, digest=st.sampled_from(DIGESTS))
    def go(self, run: RunId, back: int, digest: Digest) -> None:
        go = Go(run=run, round=self.number(back), digest=digest, ranges=((0, 2),))
        self.tell(session.Received(self.now, go))

    @rule(run=RUNS, back=BACK, left=SECONDS)
    def time_left(self, run: RunId, back: int, left: float) -> None:
        told = TimeLeft(run=run, round=self.number(back), closes_in_s=left)
        self.tell(session.Received(self.now, told))

    def number(self, back: int) -> RoundId:
        return RoundId(max(1, self.latest - back))

    @precondition(lambda self: bool(self.disk))
    @rule(which=st.integers(0, 9))
    def lose_a_file(self, which: int) -> None:
        answers = sorted(self.disk, key=lambda one: (one.run, one.round, one.digest))
        answer = answers[which % len(answers)]
        self.disk.remove(answer)
        self.tell(session.AnswerGone(self.now, answer, "no such file"))

    @rule(digest=st.sampled_from(DIGESTS))
    def miss_a_file_that_is_not_owed(self, digest: Digest) -> None:
        answer = session.Answer(R, RoundId(1), digest, 7)
        self.tell(session.AnswerGone(self.now, answer, "no such file"))

    @rule(what=st.sampled_from(["the disk is full", "x" * 2000]))
    def trouble(self, what: str) -> None:
        self.tell(session.Troubled(self.now, what))

    @rule(back=st.integers(0, 2), online=st.booleans(), stranger=st.booleans())
    def presence(self, back: int, online: bool, stranger: bool) -> None:
        token = f"x{back}" if stranger else f"t{self.tokens - back}"
        before, trouble = self.state.online, self.state.trouble
        self.tell(session.PresenceSeen(self.now, Presence(online=online, session=token)))
        alarmed = self.state.trouble != trouble
        assert not alarmed or (before and online and token not in self.own_tokens)

    @property
    def own_tokens(self) -> set[str]:
        return {f"t{number + 1}" for number in range(self.tokens_before, self.tokens)}

    @rule(hindrance=st.sampled_from(["", "", "", "on battery", "metered"]))
    def conditions(self, hindrance: str) -> None:
        self.tell(session.ConditionsChanged(self.now, hindrance))

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        until, rings = self.now + seconds, 0
        while self.alarm is not None and self.alarm <= until:
            rings += 1
            assert rings < 100, "the alarm does not stop ringing"
            self.now = max(self.now, self.alarm)
            self.tell(session.Woke(self.now))
        self.now = until

    @rule()
    def ring_unasked(self) -> None:
        self.tell(session.Woke(self.now))

    @rule()
    def reboot(self) -> None:
        self.state, self.alarm = session.Session(), None
        self.tokens_before = self.tokens
        self.fetching = self.working = None
        answers = tuple(sorted(self.disk, key=lambda x: x.digest))
        self.tell(session.Started(self.now, answers, tuple(self.pending & self.disk)))

    @invariant()
    def what_is_owed_is_what_lies_on_the_disk(self) -> None:
        assert {one.answer for one in self.state.owed} == self.disk

    @invariant()
    def the_job_is_what_the_device_does(self) -> None:
        match self.state.job:
            case session.Fetching(offer):
                assert self.fetching == offer.model
                assert self.working is None
            case session.Working(offer):
                assert self.working is not None
                assert (self.working.run, self.working.round) == (offer.run, offer.round)
            case None:
                assert self.fetching is None
                assert self.working is None
        if self.state.job is not None:
            assert not self.state.hindrance
            assert self.now <= self.state.job.closes_at


def from_client(data: bytes) -> messages.FromClient:
    return messages.read_from_client(data)


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
