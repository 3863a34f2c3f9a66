"""Whether a federation is well: what is trouble, what is waiting, what is a fact and neither."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from coordinator import rounds, service
from coordinator.pages import health, status
from coordinator.pages.health import Signs, Verdict
from fedmqtt import improvement
from fedmqtt.status_pages import CoordinatorPage, Doing, Figures, RoundLine
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.pages.test_status import ANN, BOB, MODEL, PAST, RULES, facts, pages, roster


def line(number: int, **others: Any) -> RoundLine:
    usual: dict[str, Any] = {
        "round": RoundId(number),
        "outcome": "averaged",
        "reason": "cohort complete",
        "invited": 4,
        "answered": 4,
        "dropped": 0,
        "declined": 0,
        "rejected": 0,
        "duration_s": 1.0,
        "train_metrics": {},
    }
    return RoundLine(**(usual | others))


def measured(*accuracies: float, metric: str = "accuracy") -> list[RoundLine]:
    return [
        line(number, figures=Figures(clients=2, samples=9, metrics={metric: value}))
        for number, value in enumerate(accuracies, 1)
    ]


def verdict(**signs: Any) -> Verdict:
    usual: dict[str, Any] = {
        "doing": "collecting",
        "says": "round 4 is open",
        "online": 3,
        "known": 4,
        "deadline_s": 60.0,
    }
    trend = improvement.trend(signs.get("lines", ()))
    return health.verdict(Signs(**(usual | {"trend": trend} | signs)))


def test_all_is_well_where_rounds_go_on_and_the_sentence_tells_who_is_missing() -> None:
    told = verdict(lines=measured(0.5, 0.75), away=[ClientId("dan")])
    assert told == Verdict(
        "ok",
        "round 4 is open; 3 of 4 clients online; away: dan; accuracy 0.750, after 1 round",
    )


def test_who_was_revoked_is_told_apart_from_who_is_away() -> None:
    told = verdict(away=[ClientId("dan")], revoked=[ClientId("eve")])
    assert told.why.endswith("; away: dan; revoked: eve")


def test_of_many_that_are_missing_the_first_are_named() -> None:
    told = verdict(quarantined=[ClientId(name) for name in "abcde"])
    assert told.why.endswith("; in quarantine: a, b, c and 2 more")


def test_to_wait_for_clients_is_no_trouble_before_it_takes_long() -> None:
    for still_s, expected in ((600.0, "waiting"), (600.5, "trouble")):
        assert verdict(doing="waiting", still_s=still_s).health == expected
    # Rounds of an hour may take their time.
    for still_s, expected in ((5 * 3600.0, "ok"), (5 * 3600.0 + 1, "trouble")):
        assert verdict(deadline_s=3600.0, still_s=still_s).health == expected
    told = verdict(doing="waiting", says="2 needed", still_s=7200.0)
    assert told.why == "nothing has gone on for 2 hours: 2 needed; 3 of 4 clients online"


def test_to_wait_for_the_centre_is_no_trouble_however_long() -> None:
    waiting = rounds.Waiting(RoundId(3), PAST, MODEL)
    for is_led, expected in ((True, "waiting"), (False, "trouble")):
        rules = replace(RULES, is_led=is_led)
        built = status.pages(waiting, roster(ANN, BOB), rules, facts(), 100_000.0)
        page = built["coordinator"]
        assert isinstance(page, CoordinatorPage) and page.health == expected
        if is_led:
            assert page.says == "waiting for the centre to ask for a round"
            assert page.next_step == "round 3 opens when the centre asks for it"


def test_to_measure_for_the_centre_is_not_to_make_no_model() -> None:
    asked = [
        line(number, outcome="kept", reason=rounds.MEASURED, invited=0, answered=0)
        for number in (2, 3, 4)
    ]
    assert verdict(lines=[line(1), *asked]).health == "ok"


def test_three_rounds_without_a_model_are_trouble_and_two_are_not() -> None:
    kept = [line(n, outcome="kept", reason="1 of 2 answers needed") for n in (2, 3, 4)]
    assert verdict(lines=kept[1:]).health == "ok"
    assert verdict(lines=[line(1), *kept[1:]]).health == "ok"
    told = verdict(lines=[line(1), *kept])
    assert told.health == "trouble"
    assert told.why.startswith("the last 3 rounds made no model: 1 of 2 answers needed")


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("dropped", "of 12 that were invited did not answer"),
        ("rejected", "of 12 that were invited had their answers rejected"),
    ],
)
def test_to_lose_more_than_half_of_the_invited_is_trouble(lost: str, words: str) -> None:
    half = [line(n, **{lost: 2}) for n in (1, 2, 3)]
    assert verdict(lines=half).health == "ok"
    told = verdict(lines=[*half[:2], line(3, **{lost: 3})])
    assert (told.health, told.why[:1]) == ("trouble", "7")
    assert words in told.why


def test_what_was_long_ago_is_not_held_against_it() -> None:
    bad = [line(n, dropped=4, answered=0) for n in (1, 2, 3)]
    assert verdict(lines=[*bad, line(4), line(5), line(6)]).health == "ok"


def test_a_round_that_only_measured_is_neither_good_nor_bad() -> None:
    kept = [line(n, outcome="kept") for n in (1, 2, 3)]
    assert verdict(lines=[*kept, line(4, outcome="evaluated", invited=0)]).health == "trouble"


@pytest.mark.parametrize("doing", ["waiting", "averaging"])
def test_to_wait_for_keyholders_is_trouble_and_not_while_answers_come(doing: Doing) -> None:
    missing = "waiting for keyholder key-2"
    assert verdict(doing="collecting", keyholders_missing=missing).health == "ok"
    told = verdict(doing=doing, says=missing, keyholders_missing=missing)
    assert told == Verdict("trouble", f"{missing}; 3 of 4 clients online")


def test_a_model_that_does_not_improve_any_more_is_a_fact_and_no_trouble() -> None:
    told = verdict(lines=measured(0.5, 0.9, *[0.8] * 5))
    assert told.health == "ok"
    assert told.why.endswith(
        "; the model does not improve any more: accuracy 0.800; the best was 0.900 at round 2"
    )


def test_the_page_says_the_same_of_the_model_in_its_own_field_and_in_the_sentence() -> None:
    both = [
        line(
            number,
            figures=Figures(clients=2, samples=9, metrics={"accuracy": share, "macro_f1": f1}),
        )
        # The accuracy was best in round 2; the macro-F1 still rises.
        for number, (share, f1) in enumerate(
            [(0.8, 0.4), (0.9, 0.5), (0.82, 0.6), *[(0.825, 0.837)] * 4], 1
        )
    ]
    known = facts()
    known.lines.extend(both)
    page = pages(rounds.begin(RULES), known=known)["coordinator"]
    assert isinstance(page, CoordinatorPage)
    assert page.better == "no"
    assert page.better_why == "No: accuracy 0.825; the best was 0.900 at round 2"
    assert page.health_why.endswith(
        "; the model does not improve any more: accuracy 0.825; the best was 0.900 at round 2"
    )


def test_the_end_is_good_and_what_was_stopped_waits() -> None:
    kept = [line(n, outcome="kept") for n in (1, 2, 3)]
    assert verdict(doing="finished", says="all rounds are done", lines=kept) == Verdict(
        "ok", "all rounds are done"
    )
    assert verdict(doing="stopped", still_s=1e6).health == "waiting"


def test_nobody_there_at_all_is_said_so() -> None:
    told = verdict(doing="waiting", says="2 needed", online=0, known=0)
    assert told == Verdict("waiting", "2 needed; no client has been heard of")


def test_who_has_paused_a_run_is_told_of_no_trouble() -> None:
    kept = [line(n, outcome="kept", dropped=4, answered=0) for n in (1, 2, 3)]
    told = verdict(doing="waiting", says="paused by carol", paused=True, still_s=1e6, lines=kept)
    assert told == Verdict("waiting", "paused by carol; 3 of 4 clients online")


def test_when_a_pause_ends_nothing_was_still() -> None:
    free = rounds.begin(RULES)
    control = structs.replace(free.past.control, paused_by="carol")
    paused = replace(free, past=replace(free.past, control=control))
    assert service._has_gone_on(paused, free)
    assert not service._has_gone_on(free, free) and not service._has_gone_on(paused, paused)
