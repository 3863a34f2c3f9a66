"""What a site makes of what the centre asks, and when it hands up what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from coordinator.rounds import Lead
from coordinator.sites.above import CameTo
from edge_client.outbox import Outbox
from edge_client.trainer_pool import Ticket, TrainerPool
from edge_client.training_job import Done, Failed, FromTrainer, Job, Mask
from fedmqtt import exact_total, messages, weights
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Evaluation, SiteTerms, SumOf, Training, Update
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array, Layout
from site_aggregator import config as site_config
from site_aggregator.kept_job import KeptJob
from site_aggregator.upward import Upward, Wanted
from tests.fedmqtt.masking import cohort

LAYOUT = Layout((("w", (2,)),))
TERMS = SiteTerms(bits=20, change_max=64.0, samples_max=1000, clients_max=8, weight_max=5000)
FIRST, FOUR = RoundId(1), RoundId(4)


def numbers(*values: float) -> Array:
    return np.array(values, np.float32)


BASE = numbers(1, 2)


@dataclass
class Coordinator:
    """Does as it is told, and notes it."""

    number: RoundId = FIRST
    model: Array = field(default_factory=lambda: BASE)
    open_from: Digest | None = None
    is_closing: bool = False
    waits: bool = True
    leads: list[tuple[Array | None, Lead]] = field(default_factory=list)
    off: list[str] = field(default_factory=list)

    @property
    def is_collecting(self) -> bool:
        return self.open_from is not None and not self.is_closing

    @property
    def may_be_led(self) -> bool:
        return self.waits and self.open_from is None

    @property
    def newest(self) -> tuple[RoundId, Array]:
        return self.number, self.model

    def lead(self, flat: Array | None, lead: Lead) -> None:
        self.model = self.model if flat is None else flat
        self.number = RoundId(max(self.number, lead.round))
        self.open_from = weights.digest(weights.write(LAYOUT, self.model))
        self.leads.append((flat, lead))

    def call_off(self, why: str) -> None:
        self.off.append(why)


class Site:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.loop = EventLoop()
        path = folder / "site.toml"
        path.write_text(
            'task = "t"\n[centre]\nbroker = "mqtt://h"\nfederation = "all"\nid = "north"\n'
            f'state = "{folder / "state"}"\n[devices]\nname = "own"\n'
            "[devices.rounds]\ncohort = 2\n"
        )
        given = [f"{name}={value}" for name, value in {"alone_after_s": 0, **settings}.items()]
        self.config = site_config.read(path, given, {})
        self.folder = folder
        self.restarts: list[Wanted | None] = []
        self.said: list[FromTrainer] = []
        self.found: list[Done] = []
        """Told to the agent without a task."""
        self.coordinator = Coordinator()
        pool = TrainerPool(self.loop)
        self.upward = Upward(
            self.loop,
            self.config,
            pool,
            lambda: self.restarts.append(self.upward.wanted),
            lambda count: None,
            self.found.append,
        )

    def turn(self) -> None:
        """All that was put off."""
        for _ in range(5):
            self.loop.run_once(wait_max_s=0)

    def asks(self, number: int = 4, base: Array = BASE, **more: Any) -> Ticket:
        """The centre, and the coordinator that this wants is there."""
        ticket = self.upward.submit(job(self.folder, number, base, **more), self.said.append)
        self.turn()
        if self.restarts and (wanted := self.restarts.pop()) is not None:
            self.upward.serve(self.coordinator, wanted)
            self.upward.may_lead()
        return ticket

    def comes_to(self, after: Array, **how: Any) -> None:
        """The round that is open ends so, as `ends` has it."""
        self.upward.closed(self.ends(after, **how))

    def ends(
        self,
        after: Array,
        *,
        made: bool = True,
        samples: int = 30,
        figures: Figures | None = None,
    ) -> RoundId:
        """The same, but for the end of it, of the round of this number: that is told later."""
        at = self.coordinator
        assert at.open_from is not None
        change = (after - at.model).astype(np.float64) * samples * 2**20
        what = CameTo(
            round=at.number,
            base=at.open_from,
            made_model=made,
            reason="cohort complete" if made else "deadline",
            clients=3,
            samples=samples,
            exact=(np.rint(change).astype(np.int64), samples) if made else None,
            before=at.model,
            after=after,
            train_metrics={"loss": 0.5},
            figures=figures,
        )
        self.upward.comes_to(what)
        at.number, at.open_from = RoundId(at.number + 1), None
        at.model = after if made else at.model
        return what.round

    def answer(self) -> Update:
        """The one that was handed up."""
        done = self.said.pop()
        assert isinstance(done, Done), done
        (owed,), _ = Outbox(self.config.state / "outbox").answers()
        assert (owed.round, owed.digest) == (done.round, done.digest)
        update = messages.read_from_client(Outbox(self.config.state / "outbox").read(owed))
        assert isinstance(update, Update)
        return update


KEY = cohort.credentials("north")[0]


def mask(**changes: Any) -> Mask:
    masking = msgspec.msgpack.encode(cohort.masking(**changes))
    return Mask(masking=masking, federation="all", signing_key=KEY)


def job(folder: Path, number: int, base: Array, **more: Any) -> Job:
    file = weights.write(LAYOUT, base)
    path = folder / f"model-{number}"
    path.write_bytes(file)
    plain = Job(
        client=ClientId("north"),
        purpose="train",
        task="t",
        data_dir=".",
        model_path=str(path),
        outbox="",
        run=RunId("r.1"),
        round=RoundId(number),
        base=weights.digest(file),
        measure_base=False,
        fingerprint=LAYOUT.fingerprint,
        training=Training(),
        codec="full",
        seed=3,
        closes_at=1e9,
        sites=TERMS,
    )
    return structs.replace(plain, **more)


def total(update: Update) -> Sequence[float]:
    return [float(one) for one in exact_total.decode(update.payload, 2) / 2**20]


def test_a_round_is_led_from_the_centres_model_by_its_number_and_handed_up_exactly(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    ((flat, lead),) = site.coordinator.leads
    assert flat is not None and flat.tolist() == [1, 2]
    assert (lead.round, lead.trains, lead.measures) == (4, True, False)
    site.comes_to(numbers(1.5, 1))
    update = site.answer()
    assert (update.sample_count, update.round) == (30, 4)
    assert isinstance(update.sum_of, SumOf) and (update.sum_of.clients, update.sum_of.bits) == (
        3,
        20,
    )
    assert total(update) == [15, -30]


def test_several_rounds_make_one_answer(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_per_report=2)
    site.upward.centre_came()
    site.asks(4)
    site.comes_to(numbers(2, 2))
    assert site.said == []
    site.comes_to(numbers(4, 1), samples=10)
    update = site.answer()
    # From 1, 2 to 4, 1, as heavy as the last of them.
    assert update.sample_count == 10 and total(update) == [30, -10]
    assert [lead.round for _, lead in site.coordinator.leads] == [4, 4]


def test_a_round_without_a_model_is_declined(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    site.comes_to(BASE, made=False)
    assert site.said == [Failed(reason="the site's round made no model: deadline")]


def test_of_several_rounds_what_was_made_before_one_failed_is_handed_up(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_per_report=3)
    site.upward.centre_came()
    site.asks(4)
    site.comes_to(numbers(2, 2))
    site.comes_to(BASE, made=False)
    assert total(site.answer()) == [30, 0]


def test_while_the_centre_is_away_rounds_go_on_and_add_to_what_is_ready(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_alone=2)
    site.upward.centre_came()
    site.asks(4)
    site.upward.centre_left()
    site.comes_to(numbers(2, 2))
    site.comes_to(numbers(3, 2))
    site.comes_to(numbers(5, 2))
    # Two of its own, and no more.
    assert len(site.coordinator.leads) == 3 and site.said == []
    site.upward.centre_came()
    site.turn()
    assert total(site.answer()) == [120, 0]


def test_when_it_is_not_to_go_on_by_itself_what_is_ready_is_the_outboxs(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_alone=0)
    site.upward.centre_came()
    site.asks(4)
    site.upward.centre_left()
    site.comes_to(numbers(2, 2))
    assert total(site.answer()) == [30, 0]
    assert len(site.coordinator.leads) == 1


def test_a_line_that_stays_cut_is_waited_for_and_counts_no_round_twice(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_alone=1)
    site.upward.centre_came()
    site.asks(4)
    for _ in range(3):
        # Each try of the agent's.
        site.upward.centre_left()
    site.comes_to(numbers(2, 2))
    site.upward.centre_left()
    site.comes_to(numbers(3, 2))
    site.upward.centre_left()
    assert len(site.coordinator.leads) == 2


@pytest.mark.parametrize("waits", [True, False])
def test_what_becomes_of_its_own_rounds_is_told(
    waits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "site")
    site = Site(tmp_path, rounds_alone=1)
    site.upward.centre_came()
    site.asks(4)
    if waits:
        site.upward.centre_left()
    site.comes_to(numbers(2, 2))
    site.upward.centre_left()
    site.comes_to(numbers(3, 2))
    site.upward.centre_came()
    begun, over, becomes = [record.getMessage() for record in caplog.records]
    assert begun == "the centre is out of reach: round 1 of 1 of the site's own"
    assert over == "the site's own rounds are over: it waits for the centre"
    site.turn()
    if waits:
        assert becomes.endswith("what the site's own rounds came to is in the answer to round 4")
        # Two rounds by one, of as many samples as the last had.
        assert total(site.answer()) == [60, 0]
    else:
        assert becomes.endswith("so what the site's own rounds came to is given up")
        assert total(site.answer()) == [30, 0]


@pytest.mark.parametrize("waits", [True, False])
def test_own_rounds_after_a_measurement_are_told_to_be_given_up(
    waits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They train, and are no failed measurements."""
    caplog.set_level("INFO", "site")
    site = Site(tmp_path, rounds_alone=2)
    site.upward.centre_came()
    site.asks(4, purpose="evaluate")
    ((_, lead),) = site.coordinator.leads
    assert not lead.trains
    if waits:
        site.upward.centre_left()
    site.comes_to(BASE, made=False, figures=Figures(clients=1, samples=9, metrics={"loss": 0.5}))
    site.upward.centre_left()
    site.comes_to(numbers(2, 2))
    # Too few had answered when time was up.
    site.comes_to(numbers(2, 2), made=False)
    site.upward.centre_came()
    site.turn()
    *rounds, over, becomes = [record.getMessage() for record in caplog.records]
    assert rounds == [
        f"the centre is out of reach: round {number} of 2 of the site's own" for number in (1, 2)
    ]
    assert over == "the site's own rounds are over: it waits for the centre"
    waiting = "what waits for it is what devices measured in round 4"
    if not waits:
        waiting = "no answer waits for it"
    assert becomes == (
        f"the centre is back: {waiting}, so what the site's own rounds came to is given up"
    )
    assert len(site.said) == 1
    (owed,), _ = Outbox(site.config.state / "outbox").answers()
    answer = messages.read_from_client(Outbox(site.config.state / "outbox").read(owed))
    assert isinstance(answer, Evaluation) and answer.measures.sample_count == 9


def test_when_the_centre_has_gone_on_the_round_is_called_off_and_nothing_is_ready(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    ticket = site.asks(4)
    site.upward.cancel(ticket)
    assert site.coordinator.off == ["the centre has gone on"]
    site.asks(5, numbers(7, 7))
    # The open one ends first.
    assert site.coordinator.off[1:] == ["the centre asks for another round"]
    site.comes_to(numbers(2, 2))
    assert not [*(site.config.state / "ready").iterdir()]
    (_, (flat, lead)) = site.coordinator.leads
    assert flat is not None and flat.tolist() == [7, 7] and lead.round == 5
    site.comes_to(numbers(8, 7))
    assert total(site.answer()) == [30, 0]


def test_nothing_of_a_round_that_was_called_off_is_kept_for_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.upward.cancel(site.asks(4))
    # Keyholders may have been asked already to open its sum.
    site.comes_to(numbers(2, 2))
    assert not [*(site.config.state / "ready").iterdir()]
    site.upward.cancel(site.asks(5, numbers(7, 7)))
    site.comes_to(numbers(7, 7), made=False)
    assert [record.getMessage() for record in caplog.records] == []
    site.asks(6, numbers(8, 8))
    site.comes_to(numbers(9, 8))
    assert total(site.answer()) == [30, 0]


def reborn(site: Site, *, ledger_has_closed: bool, **settings: Any) -> Site:
    """Killed after what a round came to was written, before or after its ledger said so."""
    again = Site(site.folder, **settings)
    again.coordinator.number = RoundId(5 if ledger_has_closed else 4)
    again.coordinator.open_from = None if ledger_has_closed else site.coordinator.open_from
    assert again.upward.wanted is not None
    again.upward.serve(again.coordinator, again.upward.wanted)
    again.upward.hand_over_what_was_ready()
    return again


@pytest.fixture
def written(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    site.upward.comes_to(
        CameTo(
            round=FOUR,
            base=job(tmp_path, 4, BASE).base,
            made_model=True,
            reason="cohort complete",
            clients=3,
            samples=30,
            exact=(np.array([2**20, 0]), 30),
            before=BASE,
            after=numbers(2, 2),
            train_metrics={},
            figures=None,
        )
    )
    return site


def test_killed_after_its_ledger_closed_the_round_a_site_hands_up_what_was_ready(
    written: Site,
) -> None:
    again = reborn(written, ledger_has_closed=True)
    (owed,), _ = Outbox(again.config.state / "outbox").answers()
    assert owed.round == 4


def test_killed_before_that_it_makes_its_answer_anew(written: Site) -> None:
    again = reborn(written, ledger_has_closed=False)
    assert Outbox(again.config.state / "outbox").answers() == ((), ())
    again.upward.centre_came()
    again.asks(4)
    # The round that is open is the one that is asked for.
    assert again.coordinator.leads == [] and again.coordinator.off == []
    # One more device has answered meanwhile.
    again.comes_to(numbers(2, 2), samples=40)
    assert total(again.answer()) == [40, 0]


@pytest.mark.parametrize("is_told_first", [True, False])
def test_what_it_finishes_then_without_its_centre_may_count_late(
    is_told_first: bool, written: Site
) -> None:
    again = reborn(written, ledger_has_closed=False, rounds_alone=0)
    assert again.upward.goes_on == ("r.1", 4)
    again.upward.may_lead()
    ended = again.ends(numbers(2, 2))
    if is_told_first:
        again.upward.closed(ended)
    # Meanwhile the centre has gone on.
    again.upward.centre_came()
    again.asks(5, numbers(7, 7))
    again.upward.closed(ended)
    (late,) = again.found
    (owed,), _ = Outbox(again.config.state / "outbox").answers()
    assert (owed.round, owed.digest) == (4, late.digest)
    assert [*(again.config.state / "ready").iterdir()] == []
    ((flat, lead),) = again.coordinator.leads
    assert flat is not None and flat.tolist() == [7, 7] and lead.round == 5


def test_what_was_given_up_does_not_go_up(tmp_path: Path) -> None:
    site = Site(tmp_path, rounds_alone=0)
    site.upward.centre_came()
    ticket = site.asks(4)
    site.upward.centre_left()
    # Its time is over, or its owner wants none of it.
    site.upward.cancel(ticket)
    site.comes_to(numbers(2, 2))
    again = reborn(site, ledger_has_closed=True)
    assert site.found == [] and Outbox(again.config.state / "outbox").answers() == ((), ())


def test_a_round_of_its_own_is_no_answer_to_one_that_came_to_nothing(written: Site) -> None:
    again = reborn(written, ledger_has_closed=False)
    again.upward.may_lead()
    again.comes_to(BASE, made=False)
    # Of its own, from the same model.
    assert len(again.coordinator.leads) == 1
    again.comes_to(numbers(2, 2))
    assert again.found == [] and again.upward.goes_on is None
    assert [*(again.config.state / "ready").iterdir()] == []


def test_nor_is_one_to_a_round_that_had_not_opened_when_the_site_was_killed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    # Its devices were not there yet: the model is the coordinator's, and no round is open.
    site.coordinator.open_from = None
    again = reborn(site, ledger_has_closed=True)
    again.coordinator.model = BASE
    again.upward.may_lead()
    assert len(again.coordinator.leads) == 1
    again.comes_to(numbers(2, 2))
    assert again.found == [] and [*(again.config.state / "ready").iterdir()] == []


def test_what_is_offered_again_while_its_sum_is_being_opened_is_not_done_again(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    ticket = site.asks(4)
    site.coordinator.is_closing = True
    # The centre's coordinator starts again.
    site.upward.cancel(ticket)
    site.asks(4)
    site.comes_to(numbers(2, 2))
    assert total(site.answer()) == [30, 0] and len(site.coordinator.leads) == 1


def test_asked_again_for_what_it_goes_on_with_it_answers_once(written: Site) -> None:
    again = reborn(written, ledger_has_closed=False)
    again.upward.may_lead()
    again.upward.centre_came()
    again.asks(4)
    again.comes_to(numbers(2, 2))
    assert total(again.answer()) == [30, 0] and again.found == []


def test_the_end_of_a_round_that_is_told_late_ends_no_later_one(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    site.asks(5, numbers(7, 7))
    assert site.coordinator.off == ["the centre asks for another round"]
    called_off = site.ends(BASE, made=False)
    site.upward.centre_left()
    site.upward.closed(called_off)
    site.comes_to(numbers(8, 7))
    site.upward.centre_came()
    site.turn()
    assert total(site.answer()) == [30, 0]
    assert [lead.round for _, lead in site.coordinator.leads][:2] == [4, 5]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sites": None}, "its operator has to set sites.clients_max"),
        (
            {"sites": structs.replace(TERMS, clients_max=3)},
            "may invite 4 devices to a round, and may stand for 3",
        ),
        (
            {"sites": None, "mask": mask(clients_max=3)},
            "may invite 4 devices to a round, and may stand for 3",
        ),
        ({"purpose": "describe"}, "does not describe its devices' data"),
        ({"codec": "no-such"}, "does not go with this site's settings: codec: 'no-such' is"),
        (
            {"method": messages.Method(tells_loss=True)},
            "asks of clients what a site cannot ask of its devices",
        ),
        ({"fingerprint": "another"}, "not built as it was offered"),
    ],
)
def test_what_a_site_cannot_do_is_declined_with_the_reason(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4, **more)
    (failed,) = site.said
    assert isinstance(failed, Failed) and said in failed.reason
    assert site.coordinator.leads == []


def test_a_site_goes_on_under_a_mask_and_keeps_no_key_for_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4, sites=None, mask=mask(clients_max=4))
    before = site.upward.as_masked()
    assert before is not None and (before.seed, before.round) == (3, 4)
    kept = site.config.state / "asked"
    assert all(KEY.encode() not in path.read_bytes() for path in kept.iterdir())
    # Its account has it.
    again = Upward(site.loop, site.config, TrainerPool(site.loop), lambda: None, print, print, KEY)
    assert again.asked is not None and again.asked.job.mask == mask(clients_max=4)
    assert again.as_masked() == before and again.wanted is not None
    # Without one nobody could take its answer for the site's.
    alone = KeptJob(kept).read()
    assert alone is not None and alone.job.mask is None


@pytest.mark.parametrize(
    "more",
    [{"mask": None}, {"sites": None, "mask": mask()}, {"purpose": "evaluate", "mask": None}],
)
def test_devices_words_are_added_up_only_where_an_answer_may_stand_for_several(
    more: dict[str, Any], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    assert site.upward.as_masked() is None
    site.upward.centre_came()
    site.asks(4, **more)
    assert len(site.coordinator.leads) == 1
    assert site.upward.as_masked() is None


def test_of_a_round_that_measures_alone_no_sum_is_as_fine_as_it_says(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4)
    assert site.upward.bits() == TERMS.bits
    site.comes_to(numbers(2, 2))
    site.asks(5, purpose="evaluate", sites=structs.replace(TERMS, bits=52))
    assert site.upward.bits() is None


def test_a_site_that_would_weigh_too_much_says_so_itself(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.centre_came()
    site.asks(4, sites=structs.replace(TERMS, weight_max=29))
    site.comes_to(numbers(2, 2))
    (failed,) = site.said
    assert isinstance(failed, Failed) and "may raise sites.weight_max" in failed.reason


def test_where_no_coordinator_can_be_made_of_it_the_centre_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.upward.submit(job(tmp_path, 4, BASE), site.said.append)
    site.turn()
    assert site.restarts == [site.upward.wanted]
    site.upward.cannot("no room on the disk")
    assert site.said == [Failed(reason="no room on the disk")]
    # Asked again, it tries again.
    site.restarts.clear()
    site.asks(5)
    assert len(site.coordinator.leads) == 1
