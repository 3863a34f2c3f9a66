"""Keyholders as programs, on a real Mosquitto with a kit; the coordinator is played."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from fedmqtt import signing
from fedmqtt.masking import commitments, listing, sealing, seeds
from fedmqtt.masking.commitments import SEED_BYTES
from fedmqtt.messages import Announce, Answered, Entry, Open, Opened, Presence, RoundKey
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, PresenceOf, RoundId, RunId
from tests.broker_config.kit_broker import FEDERATION, KitBroker, plan, running_kit
from tests.keyholder.asking import (
    Asking,
    answers,
    holding,
    is_by,
    read_whole,
    state_of,
    sums_in,
)
from tests.keyholder.masked_clients import BASE, ROUND, RUN, Answers, keyholder, masking
from tests.programs import wait_until
from tests.spoiled import signed

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

NAMES = ("kh-a", "kh-b", "kh-c")
CLIENTS = ("ann", "bob", "cat", "dan")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitBroker]:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    made = kit.create(folder, plan(folder))
    for name in (*NAMES, "agg"):
        made.enroll(name, keyholder=True)
    with running_kit(made, folder) as started:
        yield started


@pytest.fixture
def asking(broker: KitBroker) -> Iterator[Asking]:
    with Asking(broker).connected() as one:
        yield one
        for name in NAMES:
            one.clears(PresenceOf(ClientId(name)))
        one.clears(OfferBoard())


def _private(folder: Path, name: str, key: RoundKey) -> bytes:
    """As it lies on the disk: behind a hash, before the public half."""
    data = (state_of(folder, name) / "keys" / f"{key.number}.key").read_bytes()
    assert data[64:] == key.public
    return data[32:64]


def _on_disk(folder: Path, name: str, data: bytes) -> bool:
    files = [one for one in state_of(folder, name).rglob("*") if one.is_file()]
    return any(data in one.read_bytes() for one in files)


def _sums_name(number: int, asked: Open) -> str:
    return f"{number}-{asked.digest[:8].hex()}"


def _of_one(asking: Asking, name: str = "kh-a", size: int = 50) -> Answers:
    """Answers of clients whose masks this keyholder can open a part of."""
    return answers(asking, masking([keyholder(name, 0, asking.keys(name)[0])]), size)


def test_two_of_three_open_the_sum_to_the_bit(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"), holding(tmp_path, broker, "kh-c"):
        named = [keyholder("kh-a", 0, asking.keys("kh-a")[0])]
        named.append(keyholder("kh-c", 2, asking.keys("kh-c")[0]))
        made = answers(asking, masking(named))
        entries = [made.of(name) for name in CLIENTS]
        # One that was late is in no list.
        made.of("eve")
        assigned = seeds.assign(3, 1, (0, 2))
        assert assigned is not None
        came: dict[int, bytes] = {}
        told: dict[str, dict[int, bytes]] = {}
        for one in named:
            wanted = [seed for seed, place in assigned.items() if place == one.place]
            asked = made.list(entries, wanted)
            opened = asking.answer(one.name, asked)
            assert not opened.refused
            assert list(opened.seeds) == wanted
            came |= sums_in(opened)
            told[one.name] = dict(zip(seeds.held_by(3, 1)[one.place], opened.digests, strict=True))
        assert sorted(came) == [0, 1, 2]
        whole = made.list(entries, ())
        assert made.opened(whole, list(came.values())).tolist() == made.sum(whole).tolist()
        # Both say the same of the seed that both hold.
        shared = told["kh-a"].keys() & told["kh-c"].keys()
        assert shared == {1} and told["kh-a"][1] == told["kh-c"][1]


def test_another_list_is_refused_and_the_same_one_answered_alike(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a") as program:
        made = _of_one(asking)
        entries = [made.of(name) for name in CLIENTS]
        first = asking.answer("kh-a", made.list(entries, (1,)))
        assert not first.refused
        other = made.list(entries[:3], (1,))
        refused = asking.refusal("kh-a", other)
        assert refused.endswith(
            f"of round {ROUND} of run {RUN} with 4 clients: a sum of others is not opened with it"
        )
        assert asking.answer("kh-a", made.list(entries, (1,))) == first
        # Other seeds of the same list: nobody learns of other clients by that.
        further = asking.answer("kh-a", made.list(entries, (2, 1)))
        assert further.digests == first.digests
        assert sums_in(further)[1] == bytes(first.payload)
        assert refused in program.log


def test_a_kill_between_writing_down_and_answering_changes_no_byte(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a") as program:
        made = _of_one(asking)
        key = made.how.keyholders[0].key
        private = _private(tmp_path, "kh-a", key)
        asked = made.list([made.of(name) for name in CLIENTS], (1, 2))
        # It comes as far as the sums, and waits for somebody to read what it writes.
        hurdle = state_of(tmp_path, "kh-a") / "sums" / f"{_sums_name(key.number, asked)}.part"
        os.mkfifo(hurdle)
        asking.asks("kh-a", asked)
        wait_until(lambda: asked.digest in (state_of(tmp_path, "kh-a") / "book").read_bytes())
        program.process.kill()
        program.wait()
    asking.listens()
    assert not asking.said
    hurdle.unlink()
    assert _private(tmp_path, "kh-a", key) == private
    with holding(tmp_path, broker, "kh-a"):
        fewer = made.list(asked.entries[:3], (1, 2))
        assert "is for another list" in asking.refusal("kh-a", fewer)
        first = asking.answer("kh-a", asked)
        assert not first.refused and asking.answer("kh-a", asked) == first
        # The number is of no other key, and its private half is nowhere any more.
        assert all(key.number < one.number for one in asking.keys("kh-a"))
    assert not _on_disk(tmp_path, "kh-a", private)
    # Nor is a list forgotten, or its answer, that was given before a kill.
    with holding(tmp_path, broker, "kh-a") as program:
        assert asking.answer("kh-a", asked) == first
        assert "is for another list" in asking.refusal("kh-a", fewer)
        program.process.kill()


def test_a_key_for_several_lists_opens_no_answer_twice_whenever_it_is_killed(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a", "--mixed-rounds") as program:
        key = asking.keys("kh-a")[0]
        private = _private(tmp_path, "kh-a", key)
        how = masking([keyholder("kh-a", 0, key)], lists_max=3, times_max=8)
        made = answers(asking, how)
        names = [f"c{number}" for number in range(12)]
        entries = [made.of(name) for name in names]
        first = made.list(entries[:4], (1, 2))
        answered = asking.answer("kh-a", first)
        assert not answered.refused
        # Of the second it comes as far as the sums.
        often = [structs.replace(one, times=5) for one in entries[4:7]]
        second = made.list(
            [*often, *entries[7:10]],
            (1, 2),
            round=RoundId(ROUND + 1),
            answered=(Answered(ROUND, BASE, 6),),
        )
        hurdle = state_of(tmp_path, "kh-a") / "sums" / f"{_sums_name(key.number, second)}.part"
        os.mkfifo(hurdle)
        asking.asks("kh-a", second)
        wait_until(lambda: second.digest in (state_of(tmp_path, "kh-a") / "book").read_bytes())
        program.process.kill()
        program.wait()
    hurdle.unlink()
    with holding(tmp_path, broker, "kh-a", "--mixed-rounds") as program:
        for overlapping in (entries[3:7], entries[9:], entries[:3]):
            refused = asking.refusal("kh-a", made.list(overlapping, (1, 2)))
            assert f"was on another list of key {key.number}" in refused
        answered = asking.answer("kh-a", second)
        assert not answered.refused and asking.answer("kh-a", second) == answered
        program.process.kill()
        program.wait()
    with holding(tmp_path, broker, "kh-a", "--mixed-rounds"):
        # It is for one more, and is not published for another round meanwhile.
        assert all(key.number < one.number for one in asking.keys("kh-a"))
        assert asking.answer("kh-a", second) == answered
        last = made.list([*entries[10:], made.of("late")], (1, 2))
        assert not asking.answer("kh-a", last).refused
        assert not _on_disk(tmp_path, "kh-a", private)
        fresh = [made.of(name) for name in CLIENTS]
        assert "is for another list" in asking.refusal("kh-a", made.list(fresh, (1, 2)))
        assert not list((state_of(tmp_path, "kh-a") / "taken").iterdir())


def test_what_was_sealed_to_a_key_that_was_used_is_sealed_for_ever(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    """Nor to one before it: a round that was given up is not opened afterwards."""
    with holding(tmp_path, broker, "kh-a"):
        given_up, used, *_ = asking.keys("kh-a")
        privates = [_private(tmp_path, "kh-a", key) for key in (given_up, used)]
        made = answers(asking, masking([keyholder("kh-a", 0, used)]))
        assert not asking.answer("kh-a", made.list([made.of(n) for n in CLIENTS], (1,))).refused
        for private in privates:
            assert not _on_disk(tmp_path, "kh-a", private)
        before = answers(asking, masking([keyholder("kh-a", 0, given_up)]))
        late = before.list([before.of(n) for n in CLIENTS], (1,))
        refused = asking.refusal("kh-a", late)
        assert f"there is no key {given_up.number} of kh-a, or not any more" in refused


def test_a_list_that_is_only_looked_at_costs_no_key(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"):
        made = _of_one(asking)
        private = _private(tmp_path, "kh-a", made.how.keyholders[0].key)
        spoiled = _list(made, _lying(made, "dan", secret=bytes(SEED_BYTES)), looks=True)
        refused = asking.answer("kh-a", spoiled)
        assert (refused.refused, refused.unfit) == (
            "dan sealed 16 bytes, not 2 seeds",
            {"dan": "seal"},
        )
        divided = _list(made, made.of("dan", divided_for={("kh-a", 2)}), looks=True)
        assert asking.answer("kh-a", divided).unfit == {"dan": "commitment"}
        without = structs.replace(spoiled, entries=spoiled.entries[:3])
        without = structs.replace(without, digest=listing.digest(without))
        found = asking.answer("kh-a", without)
        assert found.fit and not (found.refused or found.digests or found.payload)
        assert _on_disk(tmp_path, "kh-a", private)
        assert not _on_disk(tmp_path, "kh-a", without.digest)
        earnest = structs.replace(without, looks=False)
        assert earnest.digest == listing.digest(earnest)
        assert len(asking.answer("kh-a", earnest).digests) == 2


def test_a_disk_that_fails_when_a_key_is_gone_is_told_and_nothing_is_opened_with_that_key(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a") as program:
        made = _of_one(asking)
        number = made.how.keyholders[0].key.number
        asked = _list(made)
        # Older sums are removed, and this is no file.
        stray = state_of(tmp_path, "kh-a") / "sums" / "stray"
        stray.mkdir()
        assert asking.refusal("kh-a", asked).startswith("the disk of kh-a fails: ")
        again = asking.refusal("kh-a", asked)
        assert again.startswith(f"there is no key {number} of kh-a, or not any more")
        assert number not in [key.number for key in asking.keys("kh-a")]
        assert "Traceback" not in program.log
    # What was written down before it failed is whole.
    stray.rmdir()
    with holding(tmp_path, broker, "kh-a"):
        assert len(asking.answer("kh-a", asked).digests) == 2


# Lists that are refused


def _list(made: Answers, *others: Entry, **changes: object) -> Open:
    """Of three who are honest, and others."""
    return made.list([made.of("ann"), made.of("bob"), made.of("cat"), *others], (1,), **changes)


def _with(entry: Entry, **changes: object) -> Entry:
    return structs.replace(entry, masked=structs.replace(entry.masked, **changes))


def _too_few(made: Answers) -> Open:
    return made.list([made.of("ann"), made.of("bob")], (1,))


def _one_twice(made: Answers) -> Open:
    return _list(made, made.of("ann"))


def _forged(made: Answers) -> Open:
    return _list(made, _with(made.of("dan"), signature=bytes(64)))


def _another_payload(made: Answers) -> Open:
    return _list(made, structs.replace(made.of("dan"), payload=bytes(32)))


def _anothers(made: Answers) -> Open:
    return _list(made, structs.replace(made.of("dan"), client=ClientId("eve")))


def _unregistered(made: Answers) -> Open:
    alien = Answers(FEDERATION, signing.new_key(), made.how, made.size)
    return _list(made, alien.of("dan"))


def _other_masking(made: Answers) -> Open:
    return _list(made, made.of("dan", how=structs.replace(made.how, floor=2)))


def _masked_otherwise(made: Answers) -> Open:
    """All of them were told of a larger floor."""
    return _list(made, masking=structs.replace(made.how, floor=2))


def _other_round(made: Answers) -> Open:
    return _list(made, made.of("dan", round_id=RoundId(2)))


def _other_run(made: Answers) -> Open:
    return _list(made, made.of("dan", run=RunId("run-0")))


def _other_model(made: Answers) -> Open:
    return _list(made, made.of("dan", base=Digest("b" * 64)))


def _sealed_to_another(made: Answers) -> Open:
    """Well signed: by one who will not be opened."""
    return _list(made, _lying(made, "dan", sealed_name="kh-b"))


def _sealed_too_little(made: Answers) -> Open:
    return _list(made, _lying(made, "dan", secret=bytes(SEED_BYTES)))


def _other_seed(made: Answers) -> Open:
    """Well signed, and both seals open."""
    return _list(made, made.of("dan", divided_for={("kh-a", 2)}))


def _uncommitted(made: Answers) -> Open:
    return _list(made, _signed(made, _with(made.of("dan"), commitments=b"")))


def _stripped(made: Answers) -> Open:
    """By the coordinator."""
    return _list(made, _with(made.of("dan"), commitments=b""))


def _lying(
    made: Answers, name: str, sealed_name: str = "kh-a", secret: bytes = bytes(2 * SEED_BYTES)
) -> Entry:
    """A registered device that signs seals which are none."""
    honest = made.of(name)
    key = made.how.keyholders[0].key
    exchange = sealing.Exchange.new()
    what = sealing.context(
        FEDERATION, RUN, ROUND, honest.client, BASE, ClientId(sealed_name), key.number
    )
    sealed = (exchange.seal(key.public, what, secret), bytes(48))
    return _signed(made, _with(honest, exchange=exchange.public, sealed=sealed))


def _signed(made: Answers, entry: Entry) -> Entry:
    """By its client, as it is."""
    what = (FEDERATION, entry.client, RUN, ROUND, BASE)
    payload = made.payloads[entry.client]
    masked = signed(entry.masked, payload, made.how, what, made.keys[entry.client])
    return structs.replace(entry, masked=masked)


def _unknown_number(made: Answers) -> Open:
    ours, other = made.how.keyholders
    unknown = keyholder("kh-a", 0, structs.replace(ours.key, number=ours.key.number + 1000))
    return _list(made, masking=structs.replace(made.how, keyholders=(unknown, other)))


def _cut(made: Answers) -> Open:
    whole = _list(made, made.of("dan"))
    return structs.replace(whole, entries=whole.entries[:3])


def _of_another_mode(made: Answers) -> Open:
    return _list(made, masking=structs.replace(made.how, mode="trusted"))


HOSTILE: dict[str, tuple[Callable[[Answers], Open], str]] = {
    "too few": (_too_few, "a sum of 2 clients: 3 are the fewest that it is opened of"),
    "one client twice": (_one_twice, "ann is in the list 2 times"),
    "forged": (_forged, "the answer of dan is not what it signed, or not for this round"),
    "another payload": (_another_payload, "the answer of dan is not what it signed"),
    "in another's name": (_anothers, "eve has no ticket of this federation"),
    "unregistered": (_unregistered, "dan has no ticket of this federation"),
    "masked otherwise": (_other_masking, "the answer of dan is not what it signed"),
    "all masked otherwise": (_masked_otherwise, "the answer of ann is not what it signed"),
    "of another round": (_other_round, "the answer of dan is not what it signed"),
    "of another run": (_other_run, "the answer of dan is not what it signed"),
    "of another model": (_other_model, "the answer of dan is not what it signed"),
    "sealed to another": (_sealed_to_another, "what dan sealed does not open"),
    "too little sealed": (_sealed_too_little, "dan sealed 16 bytes, not 2 seeds"),
    "another seed": (_other_seed, "dan sealed another seed 2 than it committed to"),
    "nothing committed to": (_uncommitted, "dan commits to its seeds in 0 bytes, not 32"),
    "commitments stripped": (_stripped, "the answer of dan is not what it signed"),
    "key unknown": (_unknown_number, "of kh-a, or not any more"),
    "cut": (_cut, "is not the one of its digest"),
    "another mode": (_of_another_mode, "kh-a opens sums in mode keyholders, not trusted"),
}


def test_hostile_lists_are_refused_and_use_up_nothing(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    revoked = ("--revoked", str(broker.folder / "revoked-devices"))
    with holding(tmp_path, broker, "kh-a", *revoked) as program:
        made = _of_one(asking)
        for case, (hostile, sentence) in HOSTILE.items():
            asked = hostile(made)
            if case == "cut":
                before = len(asking.said)
                asking.says(_inbox("kh-a"), asked)
                refused = asking.hears(Opened, "kh-a", before).refused
            else:
                refused = asking.refusal("kh-a", asked)
            assert sentence in refused, case
            assert "\n" not in refused
        private = _private(tmp_path, "kh-a", made.how.keyholders[0].key)
        # A device that the kit knew, and does not any more; the list is read when it changes.
        path = broker.kit.enroll("frank")
        account = broker.account("frank")
        made.keys["frank"] = account.signing_key
        asked = _list(made, made.of("frank"))
        broker.kit.revoke("frank")
        assert not path.exists()
        without_him = asking.answer("kh-a", asked)
        assert without_him.refused == "the key of frank was revoked"
        assert without_him.unfit == {"frank": "revoked"}
        # One that is in order is opened by that same key.
        assert not asking.answer("kh-a", _list(made)).refused
        assert not _on_disk(tmp_path, "kh-a", private)
        assert program.log.count("refused: ") >= 1


def _inbox(name: str) -> Inbox:
    return Inbox(ClientId(name))


def test_devices_that_a_coordinator_made_up_fill_no_list(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    """It has the federation's key, and can sign tickets; the kit knows who is enrolled."""
    for name in ("gil", "hal", "ida"):
        broker.kit.enroll(name)
    enrolled = ("--enrolled", str(broker.folder / "enrolled-devices"))
    with holding(tmp_path, broker, "kh-a", *enrolled):
        made = _of_one(asking)
        made.keys |= {name: broker.account(name).signing_key for name in ("gil", "hal", "ida")}
        real = [made.of(name) for name in ("gil", "hal", "ida")]
        alone = made.list([real[0], made.of("ann"), made.of("bob")], (1,))
        refused = asking.answer("kh-a", alone)
        assert refused.refused == (
            "ann is not on the list of enrolled devices; bob is not on the list of enrolled devices"
        )
        assert refused.unfit == {"ann": "unenrolled", "bob": "unenrolled"} and not refused.digests
        broker.kit.revoke("ida")
        asked = made.list(real, (1,))
        assert asking.refusal("kh-a", asked) == "ida is not on the list of enrolled devices"
        broker.kit.enroll("jim")
        made.keys["jim"] = broker.account("jim").signing_key
        assert not asking.answer("kh-a", made.list([*real[:2], made.of("jim")], (1,))).refused


def test_a_round_is_one_line_unless_somebody_wants_details(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a") as program:
        asked = _list(_of_one(asking))
        assert not asking.answer("kh-a", asked).refused
        asking.receives("kh-a")
        # Its receipt came before this, which is not to be told of either.
        assert not asking.answer("kh-a", asked).refused
        told = [line for line in program.log.splitlines() if f"round {asked.round}" in line]
        assert len(told) == 1, told
        assert f"round {asked.round} of run {asked.run}: opened a sum of 3 clients with" in told[0]


def test_who_is_not_the_coordinator_is_not_heard(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a", "--verbose") as program:
        made = _of_one(asking)
        asked = _list(made)
        asking.says_unsigned(_inbox("kh-a"), asked)
        program.wait_for("it is not signed by the federation")
        assert "asked for a sum" not in program.log
        assert not asking.answer("kh-a", asked).refused


# Keys ahead


def test_eight_keys_lie_ahead_of_what_was_offered(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"):
        first = asking.keys("kh-a")
        assert len(first) == 8 and is_by(broker, "kh-a", first)
        assert not is_by(broker, "kh-b", first)
        numbers = [key.number for key in first]
        assert numbers == sorted(set(numbers))
        # Rounds that are offered and never opened use keys up too.
        asking.offers(masking([keyholder("kh-a", 0, first[2])]))
        then = asking.keys("kh-a", lambda keys: keys[:1] == first[3:4])
        assert then[:5] == first[3:] and len(then) == 8 and is_by(broker, "kh-a", then)
        # An older offer that is shown again takes none back.
        asking.offers(masking([keyholder("kh-a", 0, first[0])]))
        made = answers(asking, masking([keyholder("kh-a", 0, first[2])]))
        assert not asking.answer("kh-a", _list(made)).refused
        assert asking.keys("kh-a") == then
    # The next start goes on with them, and with none that was used.
    with holding(tmp_path, broker, "kh-a"):
        assert asking.keys("kh-a", lambda keys: bool(keys)) == then


def test_a_presence_that_is_wrong_is_put_right(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"):
        keys = asking.keys("kh-a")
        session = asking.presences[-1][1].session
        for wrong in (
            Presence(online=False, session=session),
            Presence(online=True, session=session, keys=keys[:1]),
        ):
            asking.says(PresenceOf(ClientId("kh-a")), wrong, retain=True)
            wait_until(partial(_is_put_right, asking, wrong, keys))


def _is_put_right(asking: Asking, wrong: Presence, keys: tuple[RoundKey, ...]) -> bool:
    asking.listens()
    shown = [one for _, one in asking.presences]
    return wrong in shown and shown[-1].keys == keys and shown[-1].online


# Large answers


def test_a_large_answer_is_announced_and_sent_when_it_is_asked_for(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    size = 100_000
    with holding(tmp_path, broker, "kh-a") as program:
        made = _of_one(asking, size=size)
        asked = _list(made)
        announced = asking.hears(Announce, "kh-a", asking.asks("kh-a", asked))
        assert announced.size_bytes > announced.chunk_bytes
        # Asked for again: announced at once, the same.
        assert asking.hears(Announce, "kh-a", asking.asks("kh-a", asked)) == announced
        head = asking.fetches("kh-a", announced, range(1))
        before = len(asking.said)
        program.process.kill()
    # It is owed: said again with the first connection of the next life.
    with holding(tmp_path, broker, "kh-a", "--verbose") as program:
        assert asking.hears(Announce, "kh-a", before) == announced
        whole = asking.fetches("kh-a", announced)
        assert whole.startswith(head)
        opened = read_whole(whole, announced)
        assert opened.digest == asked.digest and list(opened.seeds) == [1]
        asking.receives("kh-a")
        program.wait_for("the sums were received")
        before = len(asking.said)
    with holding(tmp_path, broker, "kh-a"):
        # Had it said anything unasked, that would have come before this.
        assert asking.hears(Announce, "kh-a", asking.asks("kh-a", asked)) == announced
        assert len([one for _, one in asking.said[before:] if isinstance(one, Announce)]) == 1


def test_a_list_in_many_parts_is_one_list(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"):
        made = _of_one(asking)
        asked = made.list([made.of(f"c{number}") for number in range(40)], (1,))
        parts = listing.parts(asked, 2000)
        assert len(parts) > 5
        before = len(asking.said)
        # Out of order, and some twice, as QoS 1 may have it.
        for part in [*reversed(parts), *parts[:3]]:
            asking.says(_inbox("kh-a"), part)
        assert not asking.hears(Opened, "kh-a", before).refused


# One that is trusted alone


def test_an_aggregator_opens_sums_alone_and_those_of_its_mode(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "agg", command="aggregator"):
        key = asking.keys("agg")[0]
        made = answers(asking, masking([keyholder("agg", 0, key)], places=1))
        asked = made.list([made.of(name) for name in CLIENTS], (0,))
        shared = answers(asking, masking([keyholder("agg", 0, key)]))
        refused = asking.refusal("agg", _list(shared))
        assert refused == "agg opens sums in mode trusted, not keyholders"
        opened = asking.answer("agg", asked)
        assert made.opened(asked, list(sums_in(opened).values())).tolist() == (
            made.sum(asked).tolist()
        )
    asking.clears(PresenceOf(ClientId("agg")))


# What it tells nobody


def test_no_seed_is_in_a_log_or_left_on_the_disk(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a", "--verbose") as program:
        made = _of_one(asking)
        key = made.how.keyholders[0].key
        private = _private(tmp_path, "kh-a", key)
        asked = _list(made)
        secret = [private]
        for entry in asked.entries:
            what = sealing.context(
                FEDERATION, RUN, ROUND, entry.client, BASE, ClientId("kh-a"), key.number
            )
            masked = entry.masked
            share = sealing.open_sealed(private, masked.exchange, what, masked.sealed[0])
            secret += [share[:SEED_BYTES], share[SEED_BYTES:]]
            told = commitments.context(FEDERATION, RUN, ROUND, entry.client, BASE, masked.exchange)
            secret += commitments.keys(made.how, 0, told, share, masked.commitments)
        assert not asking.answer("kh-a", asked).refused
        assert "refused" not in program.log
        log = program.log
    for one in secret:
        assert not _on_disk(tmp_path, "kh-a", one)
        assert one.hex() not in log and repr(one)[2:-1] not in log
    for name in ("kh-a", "3 clients"):
        assert name in log


# Noise

NOISE: dict[str, Any] = {"noise": 1.5, "norm_steps": 2047, "norm_max": 1.0, "indicator": 9.0}


def _shares(folder: Path, made: Answers, asked: Open) -> list[dict[int, bytes]]:
    """Of each client the keys of all masks, as kh-a and kh-c could come to them together before
    their own keys go."""
    found: list[dict[int, bytes]] = []
    privates = [_private(folder, one.name, one.key) for one in made.how.keyholders]
    for entry in asked.entries:
        own: dict[int, bytes] = {}
        for at, one in enumerate(made.how.keyholders):
            masked, told = entry.masked, (FEDERATION, RUN, asked.round, entry.client, BASE)
            what = sealing.context(*told, one.name, one.key.number)
            share = sealing.open_sealed(privates[at], masked.exchange, what, masked.sealed[at])
            what = commitments.context(*told, masked.exchange)
            keys = commitments.keys(made.how, one.place, what, share, masked.commitments)
            own |= zip(seeds.held_by(3, 1)[one.place], keys, strict=True)
        found.append(own)
    return found


def test_noise_is_the_same_of_all_who_hold_a_seed_and_after_a_kill(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a") as program, holding(tmp_path, broker, "kh-c"):
        named = [keyholder("kh-a", 0, asking.keys("kh-a")[0])]
        named.append(keyholder("kh-c", 2, asking.keys("kh-c")[0]))
        made = answers(asking, masking(named, **NOISE))
        entries = [made.of(name) for name in CLIENTS]
        one, other = made.list(entries, (1, 2)), made.list(entries, (0, 1))
        shares = _shares(tmp_path, made, one)
        told = asking.answer("kh-a", one)
        also = asking.answer("kh-c", other)
        # Seed 1 is held by both.
        assert told.digests[0] == also.digests[1]
        assert sums_in(told)[1] == sums_in(also)[1]
        sums = {**sums_in(told), **sums_in(also)}
        opened = made.opened(one, [sums[seed] for seed in range(3)])
        assert opened.tolist() != made.sum(one).tolist()
        noise = made.noise_of(one, shares)
        wanted = made.sum(one) + noise
        wanted[: made.size] %= 2**made.how.bits
        assert opened.tolist() == wanted.tolist()
        program.process.kill()
        program.wait()
        with holding(tmp_path, broker, "kh-a"):
            assert asking.answer("kh-a", one) == told


def test_less_noise_than_clients_were_told_of_is_refused(
    broker: KitBroker, asking: Asking, tmp_path: Path
) -> None:
    with holding(tmp_path, broker, "kh-a"):
        key = asking.keys("kh-a")[0]
        made = answers(asking, masking([keyholder("kh-a", 0, key)], **NOISE))
        for changes in (
            {"noise": 0.75},
            {"norm_steps": 1023},
            {"noise": 0.0, "norm_steps": 0, "indicator": 0.0},
            {"participations_max": 100},
        ):
            asked = _list(made, masking=structs.replace(made.how, **changes))
            assert "the answer of ann is not what it signed" in asking.refusal("kh-a", asked)
        # Nor is there noise that nobody can draw, whoever signs for it.
        wild = answers(asking, structs.replace(made.how, norm_steps=1000))
        asked = _list(wild, masking=structs.replace(made.how, norm_steps=2**30))
        assert "cannot be drawn" in asking.refusal("kh-a", asked)
        assert not asking.answer("kh-a", _list(made)).refused


def _are_after(number: int, keys: Sequence[RoundKey]) -> bool:
    return keys[0].number > number


@pytest.mark.parametrize("looks_first", [True, False])
def test_who_was_in_as_many_sums_as_it_may_be_is_in_no_other(
    broker: KitBroker, asking: Asking, tmp_path: Path, *, looks_first: bool
) -> None:
    made: Answers | None = None
    with holding(tmp_path, broker, "kh-a") as program:
        for number in (1, 2, 3):
            key = asking.keys("kh-a")[0]
            how = masking([keyholder("kh-a", 0, key)], participations_max=2, **NOISE)
            made = answers(asking, how) if made is None else made
            made.how = how
            names = CLIENTS[:3] if number == 1 else CLIENTS
            entries = [made.of(name, round_id=RoundId(number)) for name in names]
            asked = made.list(entries, (1,), round=RoundId(number))
            if number < 3:
                if looks_first:
                    looks = structs.replace(asked, looks=True, seeds=())
                    assert asking.answer("kh-a", looks).fit
                assert not asking.answer("kh-a", asked).refused
                # The key of before may not be offered any more.
                assert asking.keys("kh-a", partial(_are_after, key.number))
                continue
            why = f"ann was in 2 sums of run {RUN}, and may be in no more than 2"
            refused = asking.answer("kh-a", asked)
            assert why in refused.refused
            assert refused.unfit == dict.fromkeys(names[:3], "spent")
            program.process.kill()
            program.wait()
    with holding(tmp_path, broker, "kh-a"):
        assert why in asking.refusal("kh-a", asked)
        # Without her, and the others who were in both, the key is good for a list.
        assert made is not None
        fresh = [made.of(name, round_id=RoundId(3)) for name in ("dan", "eve", "fay")]
        assert not asking.answer("kh-a", made.list(fresh, (1,), round=RoundId(3))).refused
