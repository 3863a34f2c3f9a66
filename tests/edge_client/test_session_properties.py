"""Whatever link, broker, owner and trainer do to it, a client's session keeps its promises.

The promises are those of the simulator (`fleet_sim/promises.py`); here hypothesis looks for the
story that breaks one, and tells the shortest it finds.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_client import session
from fedmqtt import messages
from fedmqtt.effects import Publish, WakeAt
from fedmqtt.messages import Go, ModelRef, Offer, Presence, Receipt, TimeLeft, Training
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId
from fleet_sim.promises import check_client

ANN = ClientId("ann")
BACK = st.sampled_from([0, 0, 1, 2])
DIGESTS = [Digest(digit * 64) for digit in "0123456789"]
SECONDS = st.sampled_from([0.0, 1.0, 19.0, 20.0, 45.0])


class Device(RuleBasedStateMachine):
    """Ann's machine with a disk and a trainer that do what they are told."""

    @initialize(
        purposes=st.sampled_from([("train", "evaluate")] * 4 + [("evaluate",)]),
        left=st.integers(0, 2),
    )
    def begin(self, purposes: tuple[messages.Purpose, ...], left: int) -> None:
        self.knobs = session.Rules(
            client=ANN, task="digits", purposes=purposes, resend_s=20.0, resend_max_s=60.0
        )
        self.now = 0.0
        self.alarm: float | None = None
        self.tokens = 0
        self.latest = RoundId(left)
        self.state = session.Session()
        self.fetching: ModelRef | None = None
        self.working: Offer | None = None
        # What an earlier life left on the disk.
        self.disk = {session.Answer(RoundId(n + 1), DIGESTS[n], 100) for n in range(left)}
        self.sent: set[session.Answer] = set()
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
            case session.Fetch(round_id, model):
                assert self.working is None, "fetches while it works on another round"
                again = self.state.job is not None and self.state.job.offer.round == round_id
                assert again, "fetches for what it does not work on"
                self.fetching = model
            case session.Work(offer, _):
                assert self.working is None, "works on two rounds"
                self.fetching, self.working = None, offer
            case session.Stop():
                assert self.fetching or self.working, "stops what it does not do"
                self.fetching = self.working = None
            case session.Send(answer) | session.SendChunks(answer):
                assert answer in self.disk, "sends what is not on the disk"
            case session.Forget(answer):
                self.disk.remove(answer)
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

    @rule()
    def disconnect(self) -> None:
        self.tell(session.Disconnected(self.now))

    @rule(
        ahead=st.sampled_from([1, 1, 1, 1, 0, -1]),
        run=st.sampled_from(["r", "r", "r", "r", "r", "s"]),
        asks=st.sampled_from(["train", "train", "evaluate", "both", "others"]),
        wrong=st.integers(0, 9),
        closes=st.sampled_from([60.0, 60.0, 10.0, 0.0]),
        expires=st.sampled_from([None, None, 1000.0, 5.0, 0.0]),
    )
    def offer(
        self, ahead: int, run: str, asks: str, wrong: int, closes: float, expires: float | None
    ) -> None:
        number = RoundId(max(1, self.latest + ahead))
        self.latest = max(self.latest, number)
        offer = Offer(
            wire=2 if wrong == 0 else messages.WIRE_VERSION,
            run=run,
            round=number,
            task="letters" if wrong == 1 else "digits",
            model=ModelRef(
                digest=DIGESTS[number // 2 % 10], size_bytes=8, chunk_bytes=1024, fingerprint="f"
            ),
            train=(ANN,) if asks in ("train", "both") else (),
            evaluate=(ANN,) if asks in ("evaluate", "both") else (),
            closes_in_s=closes,
            training=Training(),
            codec="full",
            lanes=8,
            seed=0,
        )
        self.tell(session.Offered(self.now, offer, expires))

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
    @rule(size=st.sampled_from([100, 1024, 1025, 5000]), digest=st.sampled_from(DIGESTS))
    def finish_working(self, size: int, digest: Digest) -> None:
        assert self.working is not None
        answer = session.Answer(self.working.round, digest, size)
        self.working = None
        self.disk.add(answer)
        self.tell(session.Finished(self.now, answer))

    @rule(back=BACK, digest=st.sampled_from(DIGESTS))
    def finish_when_it_was_stopped(self, back: int, digest: Digest) -> None:
        number = RoundId(max(1, self.latest - back))
        if self.working is None or self.working.round != number:
            answer = session.Answer(number, digest, 100)
            self.disk.add(answer)
            self.tell(session.Finished(self.now, answer))

    @rule(back=BACK, reason=st.sampled_from(["out of memory", "x" * 2000]))
    def fail(self, back: int, reason: str) -> None:
        number = RoundId(max(1, self.latest - back))
        if self.state.job is not None and self.state.job.offer.round == number:
            self.fetching = self.working = None
        self.tell(session.Failed(self.now, number, reason))

    @rule(back=BACK, accepted=st.booleans())
    def receipt(self, back: int, accepted: bool) -> None:
        number = RoundId(max(1, self.latest - back))
        self.tell(session.Received(self.now, Receipt(round=number, accepted=accepted)))

    @rule(back=BACK, digest=st.sampled_from(DIGESTS))
    def go(self, back: int, digest: Digest) -> None:
        number = RoundId(max(1, self.latest - back))
        self.tell(session.Received(self.now, Go(round=number, digest=digest, ranges=((0, 2),))))

    @rule(back=BACK, left=SECONDS)
    def time_left(self, back: int, left: float) -> None:
        number = RoundId(max(1, self.latest - back))
        self.tell(session.Received(self.now, TimeLeft(round=number, closes_in_s=left)))

    @rule(back=st.integers(0, 2), online=st.booleans())
    def presence(self, back: int, online: bool) -> None:
        seen = Presence(online=online, session=f"t{self.tokens - back}")
        self.tell(session.PresenceSeen(self.now, seen))

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
        self.fetching = self.working = None
        self.tell(session.Started(self.now, tuple(sorted(self.disk, key=lambda x: x.digest))))

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
                assert self.working is offer
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
