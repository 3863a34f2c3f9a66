"""What a device does, from the machine's state; and how little of it everybody is told."""

import math
from dataclasses import replace

import pytest
from msgspec import structs

from edge_client import activity
from edge_client.activity import Measured, Now
from edge_client.session import Answer, Fetching, Owed, Session, Working
from edge_client.training_job import Progress
from fedmqtt.messages import Activity, Purpose
from fedmqtt.topics import Digest, RoundId
from tests.edge_client.masks import masking
from tests.offers import MODEL, RUN, offer

OFFER = offer(3, model=structs.replace(MODEL, size_bytes=1000))
MASKED = structs.replace(OFFER, masking=masking())
ANSWER = Answer(RUN, RoundId(3), Digest("b" * 64), 400)
ONLINE = Session(online=True)

THIRD_OF_SEVEN = Progress(fraction=0.2142, epoch=1, epochs=2, batch=3, batches=7)


def working(purpose: Purpose = "train") -> Session:
    return replace(ONLINE, job=Working(OFFER, purpose, math.inf))


def test_who_has_nothing_to_do_waits_and_says_why_it_may_not_train() -> None:
    state = replace(ONLINE, hindrance="not charging")
    now = activity.of(state, Measured())
    assert now == Now("waiting", hindrance="not charging", is_online=True)
    assert activity.told(now, 0.0) == Activity()
    assert activity.told(now, 812.34) == Activity(uplink_kbps=812.3)


def test_a_download_is_told_by_its_bytes() -> None:
    state = replace(ONLINE, job=Fetching(OFFER, "train", math.inf))
    now = activity.of(state, Measured(fetched_bytes=250))
    assert (now.what, now.fraction, now.size_bytes) == ("downloading", 0.25, 1000)
    assert activity.told(now, 0.0) == Activity(doing="downloading", round=RoundId(3), progress=0.25)


def test_training_is_told_by_epochs_and_whole_hundredths() -> None:
    now = activity.of(working(), Measured(work=THIRD_OF_SEVEN))
    assert now.work == THIRD_OF_SEVEN
    assert activity.told(now, 0.0) == Activity(
        doing="training", round=RoundId(3), progress=0.21, epoch=1, epochs=2
    )


def test_where_answers_are_masked_no_share_tells_how_many_batches_there_are() -> None:
    state = replace(ONLINE, job=Working(MASKED, "train", math.inf))
    for batch in range(1, 8):
        said = structs.replace(THIRD_OF_SEVEN, fraction=0.5 + batch / 14, epoch=2, batch=batch)
        told = activity.told(activity.of(state, Measured(work=said)), 0.0)
        assert told == Activity(doing="training", round=RoundId(3), progress=0.5, epoch=2, epochs=2)


@pytest.mark.parametrize(
    ("purpose", "what"), [("evaluate", "evaluating"), ("describe", "describing")]
)
def test_other_work_is_told_by_its_name(purpose: Purpose, what: str) -> None:
    assert activity.of(working(purpose), Measured()).what == what


def test_an_answer_without_a_receipt_is_being_sent() -> None:
    state = replace(ONLINE, owed=(Owed(ANSWER, 0, 0.0),))
    now = activity.of(state, Measured(sent_bytes=100))
    assert (now.what, now.round, now.fraction, now.size_bytes) == ("sending", 3, 0.25, 400)
    # Headers and what is sent again count too.
    assert activity.of(state, Measured(sent_bytes=900)).fraction == 1.0


def test_new_work_goes_before_what_is_owed() -> None:
    state = replace(working(), owed=(Owed(ANSWER, 0, 0.0),))
    assert activity.of(state, Measured()).what == "training"
