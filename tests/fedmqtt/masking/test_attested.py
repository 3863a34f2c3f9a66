"""An entry that anybody has changed, or moved elsewhere, is refused, and told whose it is."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fedmqtt import envelope, signing
from fedmqtt.masking import attested
from fedmqtt.masking.attested import NotAttested
from fedmqtt.messages import Entry, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import BASE, CLIENTS, FEDERATION, ROUND, RUN

MASKING = cohort.masking()
ENTRY = cohort.answer(MASKING, CLIENTS[0], np.ones(10, np.float32)).entry


@dataclass(frozen=True)
class Case:
    federation: str = FEDERATION
    federation_public: str = ""
    run: RunId = RUN
    round_id: RoundId = ROUND
    base: Digest = BASE
    masking: Masking = MASKING
    entry: Entry = ENTRY

    def check(self) -> None:
        public = self.federation_public or signing.public_key(cohort.federation_key())
        digest = attested.masking_digest(self.masking)
        attested.check(
            self.federation, public, self.run, self.round_id, self.base, digest, self.entry
        )


def test_what_a_registered_device_signed_holds() -> None:
    Case().check()


OTHERS: dict[str, Any] = {
    "federation": "ward-8",
    "federation_public": signing.public_key(signing.new_key()),
    "run": RunId("r2"),
    "round_id": RoundId(8),
    "base": Digest("cd" * 32),
    "masking": structs.replace(MASKING, floor=3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_was_signed_for_one_thing_does_not_hold_for_another(name: str) -> None:
    with pytest.raises(NotAttested, match=CLIENTS[0]):
        replace(Case(), **{name: OTHERS[name]}).check()


@pytest.mark.parametrize("field", [one.name for one in structs.fields(Masking)])
def test_a_client_says_how_its_answer_is_masked(field: str) -> None:
    other = structs.replace(cohort.masking(4, 2), ranges=(0.5,), rotate=True, share=0.5)
    other = structs.replace(other, mode="trusted", norm_max=1.0, weight_max=2, samples_max=7)
    other = structs.replace(other, floor=3, bits=20, value_bits=10, change_max=2.0, block_norms=4)
    other = structs.replace(other, noise=1.0, norm_steps=5, indicator=2.0, participations_max=9)
    other = structs.replace(other, metrics=("loss",), classes=2, work=b"w")
    other = structs.replace(other, lists_max=20, times_max=8, guard=9, clients_max=3)
    changed = structs.replace(MASKING, **{field: getattr(other, field)})
    assert changed != MASKING
    with pytest.raises(NotAttested, match="not what it signed"):
        replace(Case(), masking=changed).check()


def _entry(**changes: Any) -> Entry:
    return structs.replace(ENTRY, masked=structs.replace(ENTRY.masked, **changes))


FIELDS = ("exchange", "key", "ticket", "signature", "payload", "sealed", "commitments")


@given(st.sampled_from(FIELDS), st.data())
def test_a_bit_that_was_changed_in_any_field_is_noticed(name: str, data: st.DataObject) -> None:
    def hurt(value: bytes) -> bytes:
        at = data.draw(st.integers(0, 8 * len(value) - 1))
        return value[: at // 8] + bytes([value[at // 8] ^ 1 << at % 8]) + value[at // 8 + 1 :]

    match name:
        case "payload" | "key" | "ticket":
            entry = structs.replace(ENTRY, **{name: hurt(getattr(ENTRY, name))})
        case "sealed":
            sealed = list(ENTRY.masked.sealed)
            number = data.draw(st.integers(0, len(sealed) - 1))
            sealed[number] = hurt(sealed[number])
            entry = _entry(sealed=tuple(sealed))
        case _:
            entry = _entry(**{name: hurt(getattr(ENTRY.masked, name))})
    with pytest.raises(NotAttested, match=CLIENTS[0]):
        replace(Case(), entry=entry).check()


def test_seals_in_another_order_cut_elsewhere_or_left_out_are_noticed() -> None:
    first, second, third = ENTRY.masked.sealed
    moved = (first + second[:1], second[1:], third)
    for sealed in ((second, first, third), moved, (first, second), (*ENTRY.masked.sealed, b"")):
        with pytest.raises(NotAttested, match="not what it signed"):
            replace(Case(), entry=_entry(sealed=sealed)).check()


def test_commitments_that_were_swapped_or_stripped_on_their_way_are_noticed() -> None:
    """As by a coordinator that would have an honest keyholder blamed, or a client left out."""
    own = ENTRY.masked.commitments
    assert len(own) == 96
    others = cohort.answer(MASKING, CLIENTS[1], np.ones(10, np.float32)).entry.masked.commitments
    moved = own[32:] + own[:32]
    for told in (b"", own[:64], own + bytes(32), moved, others):
        with pytest.raises(NotAttested, match="not what it signed"):
            replace(Case(), entry=_entry(commitments=told)).check()
    # Nor can bytes of the one field be given to its neighbour.
    *sealed, last = ENTRY.masked.sealed
    with pytest.raises(NotAttested, match="not what it signed"):
        replace(Case(), entry=_entry(sealed=(*sealed, last + own[:1]), commitments=own[1:])).check()


def test_nobody_passes_for_another_with_that_ones_answer_or_with_its_own_keys() -> None:
    with pytest.raises(NotAttested, match="bob has no ticket"):
        replace(Case(), entry=structs.replace(ENTRY, client=ClientId("bob"))).check()
    key, ticket = cohort.credentials("c1")
    public = signing.as_bytes(signing.public_key(key))
    signed = signing.as_bytes(ticket, envelope.TICKET_BYTES)
    own = structs.replace(ENTRY, key=public, ticket=signed)
    with pytest.raises(NotAttested, match="c0 has no ticket"):
        replace(Case(), entry=own).check()


@pytest.mark.parametrize(
    ("federation", "name"), [("ward-8", CLIENTS[0]), (FEDERATION, ClientId("bob"))]
)
def test_who_has_another_ticket_for_its_key_signed_for_the_first_one_all_the_same(
    federation: str, name: ClientId
) -> None:
    key, _ = cohort.credentials(CLIENTS[0])
    public = signing.public_key(key)
    other = signing.ticket(cohort.federation_key(), federation, name, public)
    ticket = signing.as_bytes(other, envelope.TICKET_BYTES)
    entry = structs.replace(ENTRY, client=name, ticket=ticket)
    with pytest.raises(NotAttested, match="not what it signed"):
        replace(Case(), federation=federation, entry=entry).check()


def test_a_device_that_was_revoked_is_asked_for_by_its_key() -> None:
    asked = []

    def is_revoked(key: str) -> bool:
        asked.append(key)
        return True

    public = signing.public_key(cohort.federation_key())
    digest = attested.masking_digest(MASKING)
    with pytest.raises(NotAttested, match="key of c0 was revoked"):
        attested.check(FEDERATION, public, RUN, ROUND, BASE, digest, ENTRY, is_revoked)
    assert asked == [signing.public_key(cohort.credentials("c0")[0])]


def test_how_often_an_answer_counts_is_not_its_senders_affair() -> None:
    replace(Case(), entry=structs.replace(ENTRY, times=8)).check()


def test_what_a_newer_program_could_say_beside_changes_no_digest() -> None:
    """As any MessagePack library encodes it: with the shortest headers."""
    kept = {field.encode_name for field in structs.fields(MASKING)}
    said = msgpack.unpackb(msgspec.msgpack.encode(MASKING))
    assert len(said) < len(kept)
    wanted = hashlib.sha256(msgpack.packb(said)).digest()
    assert attested.masking_digest(MASKING) == wanted
