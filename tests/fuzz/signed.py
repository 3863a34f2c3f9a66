"""Signed envelopes: nothing gets out of one but what was put in, and where it was put in for.

And the files that go with them: keys that were revoked, rounds that a device is done with.
"""

import functools

from msgspec import structs

from edge_client import disclosed
from edge_client.disclosed_file import DisclosedFile
from edge_client.known_model import NOT_KNOWN_ANY_MORE, KnownModels
from edge_client.rounds_done import RoundsDone
from fedmqtt import messages, revocations, signing
from fedmqtt.envelope import BadSignature
from fedmqtt.revocations import RevocationsError
from fedmqtt.signing import BadKey, CoordinatorSeal, DeviceSeal, OperatorSeal, WorkerSeal
from fedmqtt.topics import ClientId, OfferBoard, OrderOf, RoundId, RunId, UpdatePart, WorkOf
from tests.fedmqtt.test_messages import EXAMPLES, MASKING
from tests.fedmqtt.test_topics import HOME
from tests.fuzz.decoder import Decoder, MadeNothing
from tests.fuzz.files import folder, place, with_sum, without_sum
from tests.offers import RUN, offer

OF_ANN = UpdatePart(0, ClientId("ann"), RoundId(1), "0")
OFFER = OfferBoard()
OF_CAROL = OrderOf(ClientId("carol"))
OF_WORKER = WorkOf(ClientId("worker-1"))
_UPDATE, _OFFER, _ORDER, _CLAIMS = (
    messages.encode(EXAMPLES[name]) for name in ("update", "offer", "order_rollback", "claims")
)

# Made once, with a signature that anybody may make: these keys are nobody's.
_FEDERATION = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
_DEVICE = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="


@functools.cache
def _coordinator() -> CoordinatorSeal:
    return CoordinatorSeal("home", _FEDERATION)


@functools.cache
def _device() -> DeviceSeal:
    public = signing.public_key(_DEVICE)
    ticket = signing.ticket(_FEDERATION, "home", "ann", public)
    return DeviceSeal(_DEVICE, ticket, signing.public_key(_FEDERATION))


def _from_device(data: bytes) -> None:
    opened = _coordinator().opened(OF_ANN, HOME.path(OF_ANN), data)
    # A piece goes by the digest that was announced, and is in no envelope.
    assert opened == _UPDATE or (opened == data and messages.is_piece(data))


def _from_coordinator(data: bytes) -> None:
    opened = _device().opened(OFFER, HOME.path(OFFER), data)
    assert opened == _OFFER or opened == data == b""


@functools.cache
def _operator() -> OperatorSeal:
    public = signing.public_key(_DEVICE)
    ticket = signing.operator_ticket(_FEDERATION, "home", "carol", public)
    return OperatorSeal(_DEVICE, ticket, signing.public_key(_FEDERATION))


def _from_operator(data: bytes) -> None:
    assert _coordinator().opened(OF_CAROL, HOME.path(OF_CAROL), data) == _ORDER


@functools.cache
def _worker() -> WorkerSeal:
    public = signing.public_key(_DEVICE)
    ticket = signing.worker_ticket(_FEDERATION, "home", "worker-1", public)
    return WorkerSeal("home", _DEVICE, ticket, signing.public_key(_FEDERATION))


def _from_worker(data: bytes) -> None:
    assert _coordinator().opened(OF_WORKER, HOME.path(OF_WORKER), data) == _CLAIMS


def _signed_updates() -> list[bytes]:
    return [
        _device().sealed(OF_ANN, HOME.path(OF_ANN), _UPDATE),
        messages.encode(EXAMPLES["chunk"]),
    ]


def _key(data: bytes) -> None:
    text = data.decode(errors="replace")
    public = signing.public_key(text)
    assert signing.public_key(text) == public and len(public) == 44


def _revoked(data: bytes) -> None:
    listed = revocations.read(place("revoked.txt", data))
    # Which key was whose is for people alone, and one may have been several's.
    keys = sorted(listed.keys)
    whose = [(key, device) for key in keys[:1] for device in sorted(listed.devices)]
    again = revocations.render(
        [*whose, *((key, "pi-3") for key in keys)], enrolled={"pi-3"} - listed.devices
    )
    assert revocations.read(place("revoked.txt", again.encode())) == listed


def _lists() -> list[bytes]:
    named = [(signing.public_key(one), "pi-3") for one in (_FEDERATION, _DEVICE)]
    return [revocations.render(named, enrolled).encode() for enrolled in (None, ())]


def _rounds_done(data: bytes) -> None:
    path = place("rounds-done", with_sum(data))
    done = RoundsDone(path)
    is_kept = path.exists()
    done.add(RunId("r-1"), RoundId(7))
    assert done.includes(RunId("r-1"), RoundId(7))
    assert RoundsDone(path).includes(RunId("r-1"), RoundId(7))
    if not is_kept:
        raise MadeNothing


def _done() -> list[bytes]:
    path = folder("seed-rounds-done")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = RoundsDone(path)
    done.add(RunId("r-0"), RoundId(3))
    done.add(RunId("r-1"), RoundId(2))
    return [without_sum(path)]


def _known_models(data: bytes) -> None:
    path = place("known-models", with_sum(data))
    known = KnownModels(path)
    is_damaged = known.of("demo", "digits") == NOT_KNOWN_ANY_MORE
    known.keep("demo", "digits", "f")
    assert known.of("demo", "digits") == KnownModels(path).of("demo", "digits") == "f"
    if is_damaged:
        raise MadeNothing


def _known() -> list[bytes]:
    path = folder("seed-known-models")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = KnownModels(path)
    known.keep("demo", "digits", "0a784345a3eedf1f")
    known.keep("demo", "words", "5d289ad9452624d3")
    return [without_sum(path)]


def _disclosed(data: bytes) -> None:
    path = place("disclosed-demo", with_sum(data))
    file = DisclosedFile(path.parent, "demo")
    told = disclosed.begin(file.read(), offer(), "train")
    file.keep(told)
    assert DisclosedFile(path.parent, "demo").read() == told
    if told.lost:
        raise MadeNothing


def _told() -> list[bytes]:
    path = folder("seed-disclosed")
    path.mkdir(parents=True, exist_ok=True)
    file = DisclosedFile(path, "demo")
    told = file.read()
    for number in (1, 2):
        noised = structs.replace(MASKING, noise=2.0, norm_max=1.0, weight_max=1)
        told = disclosed.begin(told, offer(number, masking=noised), "train")
        told = disclosed.finish(told, RUN, RoundId(1))
    file.keep(told)
    return [without_sum(file.path)]


DECODERS = [
    Decoder("signed_by_device", _from_device, _signed_updates, (BadSignature,)),
    Decoder(
        "signed_by_coordinator",
        _from_coordinator,
        lambda: [_coordinator().sealed(OFFER, HOME.path(OFFER), _OFFER)],
        (BadSignature,),
    ),
    Decoder(
        "signed_by_operator",
        _from_operator,
        lambda: [_operator().sealed(OF_CAROL, HOME.path(OF_CAROL), _ORDER)],
        (BadSignature,),
    ),
    Decoder(
        "signed_by_worker",
        _from_worker,
        lambda: [_worker().sealed(OF_WORKER, HOME.path(OF_WORKER), _CLAIMS)],
        (BadSignature,),
    ),
    Decoder("key", _key, lambda: [_FEDERATION.encode(), _DEVICE.encode()], (BadKey,)),
    Decoder("revoked_keys", _revoked, _lists, (RevocationsError,)),
    Decoder("rounds_done", _rounds_done, _done),
    Decoder("known_models", _known_models, _known),
    Decoder("disclosed", _disclosed, _told),
]
