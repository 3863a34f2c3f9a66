"""Models down and answers up, over the links of the lab: how long they take, what a break costs."""

from pathlib import Path

import pytest

from coordinator.persistence.history import Record
from fedmqtt import messages, weights
from fedmqtt.effects import Seconds
from fedmqtt.messages import Announce, Chunk, Offer, Update
from fedmqtt.topics import Address, Digest, OfferBoard, UpdatePart
from fleet_sim.broker import Message
from fleet_sim.clock import Clock
from fleet_sim.lab import Lab
from fleet_sim.lab_broker import PACKET_BYTES, LabBroker
from fleet_sim.links import Bandwidth, Link
from learning_tasks.loading import load_task
from tests.fleet_sim.lab_fleets import at, fleet, large_task, learning, names, protocol
from tests.offers import ANN, offer

ONE = "count = 1\ncohort = 1\nquorum = 1\nclients_min = 1\ndeadline_s = 50000.0\n"

HUNDRED_KB = 25_000
"""Numbers."""

KBPS_OF_A_KB = 8.0

PATIENT = "transfer = { stall_s = 60.0 }"
"""The coordinator does not ask again for what only takes its time."""


def ran(lab: Lab) -> Record:
    lab.run()
    assert lab.is_finished
    return lab.records[0]


def model_bytes(task: str) -> int:
    initial = load_task(task).initial_weights(0)
    layout = weights.layout_of(initial)
    return len(weights.write(layout, layout.flatten(initial)))


# How long


def test_a_round_takes_what_its_transfers_and_its_training_take(tmp_path: Path) -> None:
    # 100 kB down at 10 kB/s and up at 20 kB/s; 2 s until the trainer runs, 10 s of training.
    text = (
        "clients = 1\n[link]\nlatency_s = 0.5\n"
        f"down = {{ kbps = {10 * KBPS_OF_A_KB} }}\nup = {{ kbps = {20 * KBPS_OF_A_KB} }}\n"
        "[device]\nms_per_sample = 100.0"
    )
    task = large_task(tmp_path, HUNDRED_KB)
    with learning(fleet(tmp_path, text, rounds=ONE, task=task)) as lab:
        took_s = ran(lab).duration_s
    # The offer, the question for the model and its answer, the update.
    travelling_s = 4 * 0.5
    model_s = model_bytes(task) / 10_000
    update_s = 4 * HUNDRED_KB / 20_000
    assert took_s == pytest.approx(travelling_s + model_s + update_s + 12.0, abs=0.2)
    assert took_s >= travelling_s + model_s + update_s + 12.0


def test_a_large_answer_asks_first_and_goes_up_in_pieces(tmp_path: Path) -> None:
    # 1.2 MB in ten pieces, at 100 kB/s.
    text = f"clients = 1\n[link]\nlatency_s = 2.0\nup = {{ kbps = {100 * KBPS_OF_A_KB} }}"
    task = large_task(tmp_path, 12 * HUNDRED_KB)
    with learning(fleet(tmp_path, text, rounds=ONE, task=task, federation=PATIENT)) as lab:
        took_s = ran(lab).duration_s
        up = lab.broker.bytes_up
    # The offer, the question for the model and its answer; then announced, told to go, and sent.
    assert took_s == pytest.approx(6 * 2.0 + 12.0 + 2.1, abs=0.2)
    assert 1_200_000 < up < 1_210_000


def test_an_answer_that_takes_longer_than_the_patience_of_its_sender_goes_up_once(
    tmp_path: Path,
) -> None:
    # 1.2 MB at 16 kB/s: 20 s later, and 40 s after that, it is announced again.
    # Nor does the coordinator wait for a chunk, 8 s, without asking again.
    text = f"clients = 1\n[link]\nup = {{ kbps = {16 * KBPS_OF_A_KB} }}"
    task = large_task(tmp_path, 12 * HUNDRED_KB)
    with learning(fleet(tmp_path, text, rounds=ONE, task=task)) as lab:
        took_s = ran(lab).duration_s
        up = lab.broker.bytes_up
    # What is on its way when it is told to go on is named as missing still, and is not sent twice.
    assert 1_200_000 < up < 1_200_000 + 131_072
    assert took_s < up / 16_000 + 5


# Breaks


@pytest.mark.parametrize("pieces_kb", [2, 16, 32])
def test_a_model_goes_on_where_it_was_when_the_link_broke(tmp_path: Path, pieces_kb: int) -> None:
    # 400 kB at 10 kB/s, with a break every 10 s.
    text = f"clients = 1\n[link]\ncut_every_s = 10.0\ndown = {{ kbps = {10 * KBPS_OF_A_KB} }}"
    task = large_task(tmp_path, 4 * HUNDRED_KB)
    piece = pieces_kb * 1024
    federation = f"transfer = {{ chunk_bytes = {piece} }}"
    of = fleet(tmp_path, text, rounds=ONE, task=task, federation=federation)
    with learning(of) as lab:
        record = ran(lab)
        down, size = lab.broker.bytes_down, model_bytes(task)
        links = int(lab.devices[0].state.token.rpartition("-")[2])
    assert record.answered == names(1)
    assert links >= 3
    # What is read at each connect, and what the last link still held.
    offers_and_presences = links * 3000
    pieces = size / piece
    assert size < down < size + PACKET_BYTES * pieces + links * piece + offers_and_presences


def test_only_what_is_missing_of_an_answer_is_sent_again(tmp_path: Path) -> None:
    # 1.2 MB in ten pieces, 1.3 s each, with a break every 4 s of transfer.
    text = f"clients = 1\n[link]\ncut_every_s = 4.0\nup = {{ kbps = {100 * KBPS_OF_A_KB} }}"
    task = large_task(tmp_path, 12 * HUNDRED_KB)
    with learning(fleet(tmp_path, text, rounds=ONE, task=task)) as lab:
        record = ran(lab)
        up = lab.broker.bytes_up
        links = int(lab.devices[0].state.token.rpartition("-")[2])
    assert record.answered == names(1)
    assert links >= 3
    births_and_announcements = links * 1000
    assert up < 1_200_000 + links * 131_072 + births_and_announcements


def test_a_link_that_is_not_used_does_not_break(tmp_path: Path) -> None:
    # Megabytes a second: there is next to no time in transfer.
    text = "clients = 1\n[link]\ncut_every_s = 1.0\ndown = { kbps = 1e9 }\nup = { kbps = 1e9 }"
    with learning(fleet(tmp_path, text, rounds=ONE)) as lab:
        ran(lab)
        assert lab.devices[0].state.token.endswith("-1")


def test_pieces_that_wait_for_their_turn_cannot_break_the_link_before_it(tmp_path: Path) -> None:
    clock = Clock()
    broker = LabBroker(clock, seed=1)
    cuts: list[float] = []
    link = Link(up=Bandwidth(100.0), cut_every_s=1e-6)
    broker.lay_line(ANN, link, lambda: cuts.append(clock.now))
    broker.connect("coordinator", lambda *_: None)
    broker.connect(ANN, lambda *_: None)
    begins = []
    for n in range(3):
        begins.append(broker.free_at(ANN))
        chunk = Chunk(digest=Digest("0" * 64), data=memoryview(bytes(1000)))
        broker.publish(ANN, UpdatePart(0, ANN, 1, str(n)), chunk)  # type: ignore[arg-type]
    clock.run(until=lambda: False)
    assert begins[1] > 10 and begins[2] == pytest.approx(2 * begins[1])
    assert cuts == pytest.approx(begins, abs=0.01)


def test_only_what_a_link_has_carried_is_counted(tmp_path: Path) -> None:
    clock = Clock()
    broker = LabBroker(clock, seed=1)
    broker.lay_line(ANN, Link(up=Bandwidth(100.0), down=Bandwidth(100.0)), lambda: None)
    broker.connect("coordinator", lambda *_: None)
    broker.connect(ANN, lambda *_: None)
    chunk = Chunk(digest=Digest("0" * 64), data=memoryview(bytes(1000)))
    for n in range(3):
        broker.publish(ANN, UpdatePart(0, ANN, 1, str(n)), chunk)  # type: ignore[arg-type]
    clock.after(3.0, lambda: broker.disconnect(ANN, politely=False, notices_in_s=0.0))
    clock.run(until=lambda: False)
    assert broker.bytes_up == 300
    assert broker.dropped_count == 3


def test_who_returns_is_not_sent_what_has_expired_meanwhile(tmp_path: Path) -> None:
    clock, read = Clock(), list[int]()
    broker = LabBroker(clock, seed=1)

    def reads(_to: Address, message: Message, _left: Seconds | None, _there: bool) -> None:
        assert isinstance(message, Offer)
        read.append(message.round)

    def say(number: int) -> None:
        broker.publish("coordinator", OfferBoard(), offer(number))

    broker.lay_line(ANN, Link(down=Bandwidth(100.0)), lambda: None)
    broker.connect("coordinator", lambda *_: None)
    broker.connect(ANN, reads)
    broker.disconnect(ANN, politely=True)
    # One a minute, each good for a minute, and the last one just now.
    for number in range(1, 11):
        clock.at(60.0 * number, say, number)
    clock.at(601.0, broker.connect, ANN, reads)
    clock.run(until=lambda: False)
    # It waited, and it lies there as well.
    assert read == [10, 10]
    size = len(messages.encode(offer(10))) + PACKET_BYTES
    assert broker.bytes_down == 2 * size
    # Nor is it sent what lies there and has expired.
    broker.disconnect(ANN, politely=True)
    clock.at(700.0, broker.connect, ANN, reads)
    clock.run(until=lambda: False)
    assert read == [10, 10] and broker.bytes_down == 2 * size


# Copies


def test_what_arrives_twice_counts_once(tmp_path: Path) -> None:
    models, samples, bytes_up = [], [], []
    for share in (0.0, 0.9):
        text = f"clients = 4\n[link]\nlatency_s = 0.1\nduplicates = {share}\njitter_s = 0.0"
        rounds = "count = 3\ncohort = 4\nquorum = 4\nclients_min = 4\n"
        with learning(fleet(tmp_path, text, rounds=rounds)) as lab:
            lab.run()
            assert lab.is_finished and lab.tensors is not None
            models.append(lab.tensors.newest)
            samples.append([one.samples for one in lab.records])
            bytes_up.append(lab.broker.bytes_up)
            assert [one.answered for one in lab.records] == [names(4)] * 3
            assert not any(one.rejected for one in lab.records)
    assert models[0] == models[1]
    assert samples[0] == samples[1] == [4 * 60] * 3
    assert bytes_up[1] > 1.5 * bytes_up[0]


# Sizes


def test_an_update_is_counted_with_the_bytes_that_a_real_client_sends() -> None:
    clock = Clock()
    broker = LabBroker(clock, seed=1)
    broker.lay_line(ANN, Link(), lambda: None)
    broker.connect(ANN, lambda *_: None)
    update = Update(
        run="run",  # type: ignore[arg-type]
        round=7,  # type: ignore[arg-type]
        base=Digest("1" * 64),
        fingerprint="f",
        sample_count=60,
        codec="full",
        metrics={"loss": 0.5},
        payload=memoryview(bytes(4000)),
    )
    announce = Announce(
        run="run",  # type: ignore[arg-type]
        round=7,  # type: ignore[arg-type]
        digest=Digest("2" * 64),
        size_bytes=10,
        chunk_bytes=10,
    )
    chunk = Chunk(digest=Digest("3" * 64), data=memoryview(bytes(70_000)))
    sizes = [
        sum(map(len, messages.encode_pieces(update))),
        len(messages.encode(announce)),
        len(messages.encode(chunk)),
    ]
    for message, size in zip((update, announce, chunk), sizes, strict=True):
        before = broker.bytes_up
        broker.publish(ANN, UpdatePart(0, ANN, 7, "0"), message)  # type: ignore[arg-type]
        assert broker.bytes_up - before == size + PACKET_BYTES


# Late answers


@pytest.mark.parametrize("policy", ["discard", "weigh"])
def test_a_slow_devices_answer_comes_late_and_counts_as_the_federation_says(
    tmp_path: Path, policy: str
) -> None:
    # Three are done after 4 s. The fourth, invited to round 1, needs 40.
    text = "clients = 4\nhours_max = 1.0\n[device]\ntable = 'phones.csv'"
    lines = ["phone,share,ms_per_sample", "quick,3,20.0", "slow,1,400.0"]
    (tmp_path / "phones.csv").write_text("\n".join(lines))
    rounds = "count = 12\ncohort = 3\nquorum = 3\nclients_min = 4\n"
    federation = f"late = {{ policy = '{policy}', rounds_max = 15 }}"
    for seed in range(1, 30):
        told = f"seed = {seed}\n{text}"
        of = fleet(tmp_path, told, rounds=rounds, federation=federation, over_selection=1.34)
        crew = of.crew(names(4))
        slow = [crew[n].client for n in range(4) if crew[n].hardware.ms_per_sample > 100]
        if len(slow) == 1:
            break
    else:
        raise AssertionError("no seed gives exactly one slow device")
    with learning(of) as lab:
        lab.run()
    counted = [line for one in lab.records for line in one.late_counted]
    late = sum(one.late_updates for one in lab.records)
    assert lab.records[0].surplus == slow
    if policy == "weigh":
        assert late == len(counted) >= 1 and counted[0] == (slow[0], 1)
    else:
        # It is told to stop when the next round opens.
        assert late == 0 and counted == []


def test_a_model_that_came_with_its_offer_is_there_however_late_that_is_read(
    tmp_path: Path,
) -> None:
    # Offers take up to 100 s, and others have gone through several rounds by then.
    text = "clients = 3\n[link]\njitter_s = 100.0"
    rounds = "count = 15\ncohort = 1\nquorum = 1\nclients_min = 2\ndeadline_s = 200.0"
    federation = "late = { policy = 'weigh', rounds_max = 15 }"
    counted = 0
    for seed in range(5, 8):
        told = f"seed = {seed}\n{text}"
        of = fleet(tmp_path, told, rounds=rounds, federation=federation, over_selection=2.0)
        with learning(of) as lab:
            lab.run()
            assert lab.is_finished
            counted += sum(len(one.late_counted) for one in lab.records)
    assert counted > 0


def test_in_the_protocol_only_mode_links_and_devices_cost_time_as_well(tmp_path: Path) -> None:
    durations = []
    for latency in (0.1, 5.0):
        text = f"clients = 1\n[link]\nlatency_s = {latency}\n[device]\nms_per_sample = 100.0"
        lab = protocol(fleet(tmp_path, text, rounds=ONE))
        seen: list[int] = []
        at(lab, 1.0, lambda seen=seen, lab=lab: seen.append(len(lab.records)))  # type: ignore[misc]
        durations.append(ran(lab).duration_s)
        assert seen == [0]
    assert durations[0] == pytest.approx(12.2, abs=0.1)
    assert durations[1] == pytest.approx(22.0, abs=0.1)
