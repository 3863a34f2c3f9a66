"""What may travel between programs: one frozen struct per message, tagged by kind, as MessagePack.

    coordinator to clients            client to coordinator
      Offer     a round is open         Presence    I am here, and what I can do
      Go        send these chunks       Announce    I have an answer of this size
      Receipt   counted, or why not     Chunk       a piece of it
      TimeLeft  before the round ends   Update      what training changed
                                        Evaluation  how the model does on my data
    coordinator to coordinators         Decline     why I do not take part
      Seat      I run this federation
      Claim     does anybody run it?
    coordinator to keyholders         keyholder to coordinator
      Open      add up these masks      Opened      their sums
    coordinator to operators          operator to coordinator
      OrderAnswer  what came of it      Ask         by which word do you take an order?
                                        Order       do this, by that word
    coordinator to workers            worker to coordinator
      Lanes     whose answers to take   Working     I am here, and which lanes I listen to
      Verdicts  which of them count     Claims      these answers came
                                        Passed      what else came, as it is
                                        SumPiece    a piece of a Sum of those that count

An answer is named by (run, round, client); everything that is said about one carries run and round.

Unknown fields are ignored, so that versions can mix while a fleet is upgraded.
"""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from fedmqtt import unreadable
from fedmqtt.topics import NAME_PATTERN, ROUND_MAX, RUN_PATTERN, ClientId, Digest, RoundId, RunId

_T = TypeVar("_T")

WIRE_VERSION = 1
"""Raised when an old program could misread a new message, not when a field is added."""

SMALL_MODEL_BYTES = 4096
"""A model file up to this size comes with its offer: fetching it would take more bytes."""

Purpose = Literal["train", "evaluate", "describe"]
"""To describe is to answer questions about the data with sums (`data_query.py`)."""
ALL_PURPOSES: tuple[Purpose, ...] = ("train", "evaluate", "describe")
PURPOSES: tuple[Purpose, ...] = ("train", "evaluate")
"""What a client does unless its owner says otherwise. Who lets a model learn from the data has not
said that the data may be described."""

Count = Annotated[int, Meta(ge=1, le=2**53)]
Round = Annotated[RoundId, Meta(ge=0, le=ROUND_MAX)]
# It becomes part of a file's name on every client.
Run = Annotated[RunId, Meta(pattern=RUN_PATTERN)]
EPOCH_MAX = 2**53
Epoch = Annotated[int, Meta(ge=0, le=EPOCH_MAX)]
"""Of one start of a coordinator, and above all before it, so that an old one cannot act for a new;
see `coordinator/leadership.py`."""
# The length too: `$` alone admits a newline at the end, and a digest becomes a topic and a path.
Sha256 = Annotated[Digest, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Name = Annotated[str, Meta(max_length=200)]
Reason = Annotated[str, Meta(max_length=500)]
Token = Annotated[str, Meta(pattern=r"^[0-9a-f]{16,64}\Z")]
LABEL_MAX = 40
# \Z, as `$` admits a line break at the end.
Label = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._ -]{{0,{LABEL_MAX}}}\Z")]
Metrics = Annotated[dict[Name, float], Meta(max_length=100)]


class WireError(ValueError):
    """The peer sent bytes that are not a message we know."""


class Training(Struct, frozen=True, kw_only=True):
    """How a client trains in one round."""

    epochs: Annotated[
        int, Meta(ge=1, le=10_000, description="Passes over the client's own data.")
    ] = 1
    batch_size: Annotated[int, Meta(ge=1, le=1_000_000, description="Samples per step.")] = 16
    learning_rate: Annotated[float, Meta(gt=0, le=1e6, description="Step size of local SGD.")] = (
        0.05
    )
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Momentum of local SGD.")] = 0.0
    weight_decay: Annotated[float, Meta(ge=0, le=1e3, description="L2 penalty of local SGD.")] = 0.0
    proximal: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Pulls local SGD back to the round's model, more the larger: FedProx's mu.",
        ),
    ] = 0.0

    def steps(self, sample_count: int) -> int:
        """Steps of local SGD that so many samples come to: a batch each, also the last of a pass
        that is not full."""
        return self.epochs * -(-sample_count // self.batch_size)


LAYER_PATTERNS_MAX = 100
LayerPattern = Annotated[str, Meta(min_length=1, max_length=200)]
FINE_TUNE_EPOCHS_MAX = 1000


class Method(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a federation asks of its clients beyond plain local SGD. The defaults ask nothing."""

    sends: Literal["change", "gradient"] = "change"
    """`gradient`: of the loss over all of a client's samples, at the round's model. It travels as
    the change that a step of gradient descent with rate 1 makes: minus the gradient."""
    partial: bool = False
    """Who runs out of time sends what it has by then. Every update tells its `steps`."""
    tells_loss: bool = False
    """Every update tells its `base_loss`."""
    personal: Annotated[tuple[LayerPattern, ...], Meta(max_length=LAYER_PATTERNS_MAX)] = ()
    """Layers whose names match one of these stay on the device; see `fedmqtt/personal.py`."""
    fine_tune_epochs: Annotated[int, Meta(ge=0, le=FINE_TUNE_EPOCHS_MAX)] = 0
    """A copy of the model is trained for so long before it is measured."""
    difference: bool = False
    """Send how the change differs from what was counted of this client so far, and remember that
    and what is sent, once it is counted."""
    control: Literal["none", "from_mean", "from_zero"] = "none"
    """Correct each gradient by the control that came with the model, less your own; remember your
    own, and send behind the change how it differs from what was counted of it. Who has none yet
    takes the model's for its own, or zeros. See `fedmqtt/control.py`."""
    fraction_bits: Annotated[int, Meta(ge=0, le=52)] = 0
    """What clients remember are multiples of 2^-so many: then both sides add up to the same."""
    interval_max: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Tell how many rounds lie between your answers, on average, each counted as so many at most;
    0: this is not asked for."""

    @property
    def is_chained(self) -> bool:
        """Whether an answer goes by the one of its client that was counted before it."""
        return self.difference or self.control != "none"


PLAIN = Method()


def method_name(training: Training, method: Method) -> str:
    """What an update says of how it was made, in words; empty for plain local SGD.

    An older program, which does not know what it was asked, repeats nothing, and is found out.
    """
    said = [f"proximal={training.proximal:g}"] if training.proximal else []
    said += [method.sends] if method.sends != PLAIN.sends else []
    said += ["partial"] if method.partial else []
    said += ["tells-loss"] if method.tells_loss else []
    said += [] if method.control == PLAIN.control else ["control"]
    return " ".join(said)


class Message(Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """Base of every message."""


BASE_BYTES = 8
"""Of a digest, that tell a delta's base from the few models that a client may hold."""

DELTAS_MAX = 16
"""That lead to one model, one after the other."""


class DeltaRef(Struct, frozen=True, array_like=True):
    """A file of changes, in chunks as a model's: it makes one model of the one before it.

    Without names, and the digests as bytes: it stands in each offer, which goes to every client.
    """

    base: Annotated[bytes, Meta(min_length=BASE_BYTES, max_length=BASE_BYTES)]
    """How the digest of the model begins that it changes. What is made of another is found out by
    the digest of the outcome."""
    sha256: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Of the file."""
    size_bytes: Annotated[int, Meta(ge=1, le=2**40)]
    """Of the file."""

    @property
    def digest(self) -> Digest:
        """Of the file, as in topics."""
        return Digest(self.sha256.hex())

    def changes(self, model: Digest) -> bool:
        """Whether this is the model that it starts from."""
        return model.startswith(self.base.hex())


class ModelRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a model's file can be fetched, and how to know that it arrived whole."""

    digest: Sha256
    """SHA-256 of the file, as in the topics of its chunks."""
    size_bytes: Annotated[int, Meta(ge=1, le=2**40)]
    """Of the file."""
    chunk_bytes: Annotated[int, Meta(ge=1024, le=2**28)]
    """Of each chunk but the last."""
    fingerprint: Name
    """Of names, shapes and dtypes of the tensors: two models of one task share it."""
    deltas: Annotated[tuple[DeltaRef, ...], Meta(max_length=DELTAS_MAX)] = ()
    """Fewer bytes for who holds one of the models before: each makes the next one's base, and the
    last this model."""

    def file_of(self, delta: DeltaRef) -> "ModelRef":
        """Where a delta's file can be fetched: beside the model's, in the same way."""
        return structs.replace(self, digest=delta.digest, size_bytes=delta.size_bytes, deltas=())


EVERYBODY = 2**56
"""The threshold that is above every draw."""

Threshold = Annotated[int, Meta(ge=0, le=EVERYBODY)]


class Sortition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """By what each client sees for itself whether it is invited; see `fedmqtt/sortition.py`."""

    salt: Annotated[str, Meta(max_length=64)]
    """What a client's draw is made from, beside its name, the round and the purpose."""
    train: Threshold
    """Who draws less is invited to train."""
    evaluate: Threshold
    """Who draws less is invited to evaluate."""
    quiet: bool = False
    """Nobody listens to presences: clients say nothing until they are invited."""
    begin_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """Within how long those who are invited to train begin: the less one draws, the sooner."""


class SlowLinks(Struct, frozen=True, kw_only=True):
    """By which codec clients may answer that found their link to be slow."""

    below_kbps: Annotated[float, Meta(gt=0, le=1e9)]
    """Kilobits per second, from the client to the broker."""
    codec: Name
    """By which they answer."""


Key32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A public key, or a SHA-256."""
Key64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""A signature (Ed25519), or a ticket."""

KEYHOLDERS_MAX = 8
SEED_SHARE_MAX = 2048
"""Bytes of what is sealed to one keyholder."""
COMMITMENT_BYTES = 32
COMMITMENTS_MAX = 70
"""Of one answer: seeds of eight places of which four are tolerated."""
ROUND_KEYS_MAX = 32
"""That a keyholder publishes ahead."""
TIMES_MAX = 8
"""How often one answer may be in a sum."""
UNFIT_MAX = 1000
"""Clients of a list that a keyholder names at once."""
WhyUnfit = Literal["seal", "commitment", "signature", "revoked", "unenrolled", "spent", "twin"]
"""Why an answer may be in no sum: what its client sealed does not hold, or is not what it committed
to, or what it signed does not hold, which is that client's doing; its key was revoked, or is on no
list of enrolled devices; it was in as many sums as it may be; it has one key with a client before
it."""


class RoundKey(Struct, frozen=True, array_like=True):
    """To which clients seal seeds, for one round: its private half is deleted when that closes."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    """Of this keyholder's keys: each number is used once."""
    public: Key32
    """X25519."""
    signature: Key64
    """By the keyholder's own key, which devices know from their enrolment."""


class Keyholder(Struct, frozen=True, array_like=True):
    """One that can open a part of the masks of a round."""

    name: ClientId
    """As devices' credentials have it."""
    place: Annotated[int, Meta(ge=0, lt=KEYHOLDERS_MAX)]
    """Which seeds it is given follows from it: see `fedmqtt/masking/seeds.py`."""
    key: RoundKey
    """For this round."""


MASKED_METRICS_MAX = 20
MASKED_CLASSES_MAX = 62
"""So many cells, as letters and digits have, are what a masked answer has room for."""
BLOCK_NORMS_MAX = 512
"""Of a model of a million numbers, half a block each; more would make every offer longer."""


class Masking(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How answers are masked, so that nothing but their sum can be read; see `fedmqtt/masking/`."""

    mode: Literal["trusted", "keyholders", "committee"]
    """`trusted`: one keyholder, the aggregator, opens all; `keyholders`: several share it;
    `committee`: clients do, and answers are hidden in a ring."""
    keyholders: Annotated[tuple[Keyholder, ...], Meta(min_length=1, max_length=KEYHOLDERS_MAX)]
    """That have published a key: not all places need to be taken."""
    places: Annotated[int, Meta(ge=1, le=KEYHOLDERS_MAX)]
    """Of keyholders, whether they are there or not."""
    tolerated: Annotated[int, Meta(ge=0, lt=KEYHOLDERS_MAX)]
    """So many of them together learn nothing; one more, together with the coordinator, would."""
    floor: Annotated[int, Meta(ge=2, le=2**20)]
    """Fewest clients in a sum that keyholders open."""
    bits: Annotated[int, Meta(ge=4, le=32)]
    """Of the modulus, 2^bits: the sum of all clients' values fits."""
    value_bits: Annotated[int, Meta(ge=2, le=24)]
    """Of one value, with its sign."""
    weight_max: Annotated[int, Meta(ge=1, le=255)] = 1
    """What a client counts for at most; 1: all count the same."""
    samples_max: Annotated[int, Meta(ge=1, le=2**53)] = 1
    """As many samples, or more, count for `weight_max`."""
    change_max: Annotated[float, Meta(gt=0, le=1e6)]
    """A larger change of one number is clipped to it."""
    norm_max: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """A change with a larger L2 norm is made as long; 0: its norm is not bounded."""
    noise: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """Deviation of the noise that keyholders add under each seed, in clip norms; 0: none.
    What a client sends then has a norm of at most `norm_steps`; see `noise_promise.py`."""
    norm_steps: Annotated[int, Meta(ge=0, le=2**32)] = 0
    """With noise: the clip norm, in steps between two values."""
    indicator: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """With noise: the same deviation, in what a client can change of the count of norms that were
    not clipped. 0: that is not told."""
    participations_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """In so many sums of a run may a device be: keyholders open no other. 0: in any number."""
    share: Annotated[float, Meta(ge=0.001, le=1)] = 1.0
    """Of the numbers, that all clients of the round send: the same ones."""
    rotate: bool = False
    """Whether a random rotation comes before values are rounded: for few bits."""
    ranges: Annotated[tuple[Annotated[float, Meta(gt=0, le=1e9)], ...], Meta(max_length=4096)] = ()
    """Of the values in each block, in the place of `change_max`. None: that one for all. Fewer than
    blocks: each is of as many successive ones."""
    block_norms: Annotated[int, Meta(ge=0, le=BLOCK_NORMS_MAX)] = 0
    """Each answer tells under its mask how large its values are in each block, or in each of so
    many stretches of them where there are more: by that the next ranges are set. 0: it does not."""
    metrics: Annotated[tuple[Name, ...], Meta(max_length=MASKED_METRICS_MAX)] = ()
    """What clients measure of the base before they train, under the mask: metrics by name, and the
    confusion matrix of so many `classes`. See `fedmqtt/masking/measured.py`."""
    classes: Annotated[int, Meta(ge=0, le=MASKED_CLASSES_MAX)] = 0
    """Of the confusion matrix; 0: there is none."""
    lists_max: Annotated[int, Meta(ge=1, le=1000)] = 1
    """So many lists are opened with one key, and no answer is on two of them. Where it is more than
    one, an answer to any offer with the same keys may be on each: see `lists_promise.py`."""
    times_max: Annotated[int, Meta(ge=1, le=TIMES_MAX)] = 1
    """So many times an answer may be in a sum."""
    work: Annotated[bytes, Meta(max_length=32)] = b""
    """SHA-256 of what else the offer asks of those who train: see `fedmqtt/offered_work.py`."""
    guard: Annotated[int, Meta(ge=0, le=16)] = 0
    """With a committee: so many bits below each value are for errors; see
    `fedmqtt/committee_promise.py`."""
    clients_max: Annotated[int, Meta(ge=1, le=2**16 - 1)] = 1
    """An answer may stand for so many devices, as a site's does: it is the sum of theirs, and each
    answer tells under its mask for how many. 1: each is of one."""

    @property
    def mixes_rounds(self) -> bool:
        """Whether answers to offers of several rounds, and so to several models, come into one sum,
        as where rounds are asynchronous. Who decides whether it answers, or opens that, has to
        know: keyholders see no model, and one answer could be to a model of its own."""
        return self.lists_max > 1 or self.times_max > 1

    @property
    def is_measured(self) -> bool:
        """Whether clients measure the base."""
        return bool(self.metrics or self.classes)


class SiteTerms(Struct, frozen=True, kw_only=True):
    """By what a site may add up its devices' changes, and answer for all of them: see
    docs/sites.md."""

    bits: Annotated[int, Meta(ge=1, le=52)]
    """Of fraction, in the round's exact sum."""
    change_max: Annotated[float, Meta(gt=0, le=1e9)]
    """No change of a device's may be larger, in any number."""
    samples_max: Annotated[int, Meta(ge=1, le=2**28)]
    """No device may claim more samples."""
    clients_max: Annotated[int, Meta(ge=1, le=2**20)]
    """A site's answer may stand for so many devices,"""
    weight_max: Annotated[int, Meta(ge=1, le=2**48)]
    """and for so many samples, all together."""


class Offer(Message, frozen=True, kw_only=True):
    """A round is open: who is invited, from which model, until when."""

    wire: int = WIRE_VERSION
    epoch: Epoch = 0
    """Of the coordinator. Who has seen a newer one's offer ignores this."""
    run: Run
    """So that round 1 of a new run is not taken for the old one's. Outlives the coordinator."""
    round: Round
    task: Name
    """What is learned. Who runs another task declines."""
    model: ModelRef
    """The round's base, or the questions of a round that describes."""
    train: tuple[ClientId, ...]
    """Who is invited to train."""
    evaluate: tuple[ClientId, ...]
    """Who is invited to measure the base; who is in both does that first, in one answer."""
    closes_in_s: Annotated[float, Meta(ge=0, le=1e9)]
    """Counted from when this was published; a late reader has less (see `TimeLeft`)."""
    training: Training
    """How to train."""
    codec: Name
    """By which updates are coded: see `fedmqtt/codec_chain.py`."""
    lanes: Annotated[int, Meta(ge=1, le=4096)]
    """How many there are; a client's is `topics.lane_of`."""
    seed: int
    """Of the chance that codecs share with the coordinator."""
    model_file: Annotated[bytes, Meta(max_length=SMALL_MODEL_BYTES)] = b""
    """The model itself where it is small: nothing needs to be fetched."""
    spread_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """Pace hint to all: after a lost connection, return at a random moment within so long."""
    late_rounds: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Answers of up to so many rounds ago still count: who is slow goes on when a round closes."""
    method: Method = PLAIN
    """What is asked beyond plain local SGD."""
    sortition: Sortition | None = None
    """In the place of `train` and `evaluate`, which are empty then."""
    slow_links: SlowLinks | None = None
    """None: all answer by `codec`."""
    describes: bool = False
    """Whoever is in `train` is to describe its data, and `model` holds the questions. (A program of
    before says nothing of this and is not invited; should it be, no task trains on questions.)"""
    asynchronous: bool = False
    """No round waits for anybody: an older model can be fetched by whom it was offered to, and an
    open round's offer comes again with more that are invited."""
    masking: Masking | None = None
    """None: answers can be read by the coordinator."""
    sites: SiteTerms | None = None
    """None: nobody may answer for others."""


class TimeLeft(Message, frozen=True, kw_only=True):
    """To an invited client that came back: how long the round will still wait for it."""

    run: Run
    round: Round
    closes_in_s: Annotated[float, Meta(ge=0, le=1e9)]
    """From now on."""


class Go(Message, frozen=True, kw_only=True):
    """Send these chunks of the answer you announced, as half-open ranges of chunk numbers."""

    run: Run
    round: Round
    digest: Sha256
    """Of the answer that was announced."""
    ranges: Annotated[tuple[tuple[int, int], ...], Meta(max_length=100_000)]
    """Ascending: ((0, 3), (7, 8)) is chunks 0, 1, 2 and 7."""


class Receipt(Message, frozen=True, kw_only=True):
    """What became of a client's answer. After it the client may forget the answer.

    Sent when the answer would survive a loss of the coordinator's power, and not before.
    """

    run: Run
    round: Round
    accepted: bool
    """Whether it counts."""
    reason: Reason = ""
    """Why not."""
    next_round_in_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Pace hint: when the next round is expected to open; 0 says nothing."""
    counted: Round | None = None
    """Where clients send differences: the round whose answer was counted last of this client, 0 for
    none. What the client remembers has to be of the same round; None says nothing."""
    blamed: bool = False
    """It was refused for what it is, and the next one like it will be: for the device's owner."""


class Masked(Struct, frozen=True, kw_only=True, array_like=True):
    """What goes with a masked payload, of its sender's making, and signed by its sender: by the key
    in the envelope around the message."""

    exchange: Key32
    """Fresh, of the client: X25519."""
    sealed: Annotated[
        tuple[Annotated[bytes, Meta(max_length=SEED_SHARE_MAX)], ...],
        Meta(max_length=KEYHOLDERS_MAX),
    ]
    """Seeds of the masks: for each keyholder of the offer those of its place, in the same order."""
    signature: Key64
    """Of all of it, and of what it is for: see `fedmqtt/masking/attested.py`."""
    commitments: Annotated[bytes, Meta(max_length=COMMITMENTS_MAX * COMMITMENT_BYTES)] = b""
    """To each seed that several keyholders of the offer hold, 32 bytes, one after the other in the
    order of their numbers: see `fedmqtt/masking/commitments.py`."""


class Entry(Struct, frozen=True, array_like=True):
    """One client's answer, in a list of which a sum is to be opened."""

    client: ClientId
    """Who sent it."""
    times: Annotated[int, Meta(ge=1, le=TIMES_MAX)]
    """It is in the sum so many times."""
    payload: Key32
    """SHA-256 of the masked payload."""
    masked: Masked
    """As it came with the payload."""
    key: Key32
    """The device's public key (Ed25519), and its ticket, as its message's envelope had them."""
    ticket: Key64
    """See `fedmqtt/signing.py`."""


class Answered(Struct, frozen=True, array_like=True):
    """What successive entries of a list answer: an offer of one round."""

    round: Round
    base: Sha256
    """Of that offer's model."""
    count: Annotated[int, Meta(ge=1, le=2**32)]
    """So many of them."""


class Open(Message, frozen=True, kw_only=True):
    """To a keyholder: add up the masks of these clients. A long list comes in parts."""

    run: Run
    round: Round
    base: Sha256
    masking: Masking
    """As in the round's offer."""
    body: Annotated[int, Meta(ge=0, le=2**32)]
    """How many values a payload has, and how many whole numbers behind them."""
    tail: Annotated[int, Meta(ge=0, le=8192)]
    """Whole numbers behind the values: what was measured."""
    digest: Key32
    """SHA-256 of the whole list: see `fedmqtt/masking/listing.py`."""
    part: Annotated[int, Meta(ge=0, le=100_000)]
    """Of the list, from 0."""
    parts: Annotated[int, Meta(ge=1, le=100_000)]
    """How many there are."""
    entries: tuple[Entry, ...]
    """In this part."""
    seeds: Annotated[tuple[Annotated[int, Meta(ge=0, lt=256)], ...], Meta(max_length=256)]
    """Whose sums to send; of all others that it holds, a digest."""
    looks: bool = False
    """Open nothing yet, and say whether it could be: another list may yet come in its place."""
    answered: Annotated[tuple[Answered, ...], Meta(max_length=256)] = ()
    """What the entries of the whole list answer, in their order. None: all of them `round`, which
    is the one that closes, and `base`."""


class Activity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client does at this moment. For people: nothing is decided by it, but that who is at
    work is not told of an open round again."""

    doing: Label = ""
    """In a word: downloading, training, evaluating, describing or sending. Empty: it waits."""
    round: Round = RoundId(0)
    """For which round; 0: for none."""
    progress: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """How much of that is done. Where answers are masked, in whole epochs: finer steps would tell
    how much data the device has."""
    epoch: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """The one that it is in, from 1; 0: it does not train, or has not begun."""
    epochs: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """How many it trains; 0: it does not."""
    uplink_kbps: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """How wide its way to the broker is, as its answers have shown; 0: they have not."""
    devices: Annotated[int, Meta(ge=0, le=2**31)] = 0
    """Of a site: how many devices are there that it stands for."""


class Presence(Message, frozen=True, kw_only=True):
    """Whether a client is there and what it can do. Also its will, with `online` false."""

    wire: int = WIRE_VERSION
    online: bool
    """False: a goodbye, or a will."""
    session: Annotated[str, Meta(max_length=64)]
    """New at each connection, so that a late will of an old connection is recognised."""
    task: Name = ""
    """What it runs. The coordinator invites nobody of another task."""
    purposes: Annotated[tuple[Purpose, ...], Meta(max_length=8)] = ()
    """What it is willing to do now; none while its owner's conditions do not hold."""
    program: Name = ""
    """Name and version, for people."""
    label: Label = ""
    """What its owner calls the kind of device, so that each kind gets its share of the rounds."""
    draws: bool = False
    """Whether it understands an offer's `sortition`."""
    note: Reason = ""
    """For people: why it does not take part, what went wrong last."""
    describes: bool = False
    """Whether it is willing to describe its data: not one of `purposes`, which a program of before
    could not read."""
    keys: Annotated[tuple[RoundKey, ...], Meta(max_length=ROUND_KEYS_MAX)] = ()
    """Of a keyholder: for rounds to come, the next one first."""
    floor: Annotated[int, Meta(ge=0)] = 0
    """Of a keyholder: the fewest answers of which it opens a sum, whatever a round's floor is."""
    activity: Activity | None = None
    """None: its program tells nothing of that."""

    def would(self, purpose: Purpose) -> bool:
        return self.describes if purpose == "describe" else purpose in self.purposes


CLASSES_MAX = 256
"""A confusion matrix of more classes is not sent: it would outgrow many a model."""

Confusion = Annotated[
    tuple[Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=CLASSES_MAX)], ...],
    Meta(max_length=CLASSES_MAX),
]
"""Counts of a classifier: one row per true class, one column per predicted."""


class Measures(Struct, frozen=True, kw_only=True):
    """How a model does on one client's own data."""

    sample_count: Count
    metrics: Metrics = {}
    """Means over the client's samples."""
    confusion: Confusion | None = None
    """For tasks that classify."""
    label: Label = ""
    """Of its sender, as in its presence: said here too, for figures by group are the same after a
    restart whoever is there."""


class Device(Struct, frozen=True, kw_only=True):
    """What a client tells of itself with its answer, where nobody listens to its presence."""

    program: Name = ""
    """Name and version, for people."""
    label: Label = ""
    """What its owner calls the kind of device."""


class SumOf(Struct, frozen=True, kw_only=True):
    """Of what a site's answer is the sum: see `fedmqtt/exact_total.py`."""

    clients: Annotated[int, Meta(ge=1, le=2**20)]
    """So many devices' changes."""
    bits: Annotated[int, Meta(ge=1, le=52)]
    """Its numbers are multiples of 2^-bits."""


class Update(Message, frozen=True, kw_only=True):
    """What training changed: trained minus base, encoded by the offer's codec.

    Where layers are personal, of the others alone, in the model's order. Where the offer asks for
    a control, how that changed is behind it.
    """

    wire: int = WIRE_VERSION
    run: Run
    round: Round
    base: Sha256
    fingerprint: Name
    sample_count: Count
    codec: Name
    metrics: Metrics = {}
    measures: Measures | None = None
    """Of the base, before training, from a client that was invited to evaluate too."""
    method: Name = ""
    """How it was made: see `method_name`."""
    steps: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Of local SGD. 0: its sender does not say."""
    base_loss: float | None = None
    """Mean loss of the base over the samples that were trained on."""
    since: Round = RoundId(0)
    """The round of this client's that was counted last, as it knows: a difference is one to what
    has been counted up to there. 0: nothing has."""
    whole: bool = False
    """No difference, since what was counted is not remembered here: to count in place of it, if it
    is in the sum still."""
    interval: Annotated[float, Meta(ge=1, le=10_000)] = 1.0
    """Rounds from one of its answers to the next, on average, where the offer asks for that."""
    masked: Masked | None = None
    """The payload is masked; what stands above of the client's data is left out then."""
    device: Device | UnsetType = UNSET
    """In a quiet federation; left out in others."""
    sum_of: SumOf | UnsetType = UNSET
    """Of a site: the payload is the sum of its devices' changes, each times its samples, as whole
    numbers, and `sample_count` is all of their samples. Left out: it is one client's change."""
    payload: memoryview
    """Decoded without a copy: a view into the bytes that arrived."""


class Evaluation(Message, frozen=True, kw_only=True):
    """The answer of a client that was invited to evaluate alone."""

    wire: int = WIRE_VERSION
    run: Run
    round: Round
    base: Sha256
    measures: Measures


class Opened(Message, frozen=True, kw_only=True):
    """A keyholder's answer to a list: sums of masks, or why not."""

    run: Run
    round: Round
    digest: Key32
    """Of the list."""
    seeds: Annotated[tuple[Annotated[int, Meta(ge=0, lt=256)], ...], Meta(max_length=256)] = ()
    """Of which the payload holds the sums, one after the other."""
    digests: Annotated[tuple[Key32, ...], Meta(max_length=256)] = ()
    """SHA-256 of the packed sum of each seed's masks that this keyholder holds, in the order of
    their numbers: others hold them too. (No map: many libraries take no numbers for keys.)"""
    fit: bool = False
    """It was to be looked at: it would be opened, and nothing is up to now."""
    refused: Reason = ""
    """Why the list is not opened; empty: it is."""
    unfit: Annotated[dict[ClientId, WhyUnfit], Meta(max_length=UNFIT_MAX)] = {}
    """Without whom it would not have been refused, where there are such; so many at most."""
    payload: memoryview = memoryview(b"")
    """Packed as clients' payloads are."""


class Decline(Message, frozen=True, kw_only=True):
    """An invited client will not answer this round, and why."""

    run: Run
    round: Round
    reason: Reason
    """For people."""


class Announce(Message, frozen=True, kw_only=True):
    """An answer too large for one message waits on the client; say when to send it."""

    run: Run
    round: Round
    digest: Sha256
    """SHA-256 of the whole answer: the bytes of an Update or an Evaluation."""
    size_bytes: Annotated[int, Meta(ge=1, le=2**40)]
    """Of the whole answer."""
    chunk_bytes: Annotated[int, Meta(ge=1024, le=2**28)]
    """Of each chunk but the last."""


class Chunk(Message, frozen=True, kw_only=True):
    """One piece of the answer with this digest; its number is in the topic."""

    digest: Sha256
    """Of the whole answer, as announced."""
    data: memoryview
    """The bytes of this chunk."""


class Seat(Message, frozen=True, kw_only=True):
    """Who coordinates the federation: retained on the seat's topic; on that of claims an answer, or
    with `taken` false a will."""

    epoch: Epoch
    """Of this start of the coordinator."""
    token: Annotated[str, Meta(max_length=64)]
    """New for each start of a program."""
    taken: bool
    """False: it is free."""
    run: Name = ""
    """That it runs, for people."""
    where: Name = ""
    """Host and process, for people."""
    reply_to: Annotated[str, Meta(max_length=64)] = ""
    """The token of the claim that this is said to."""


class Claim(Message, frozen=True, kw_only=True):
    """A coordinator that has just come asks whether there is one. Who holds the seat replies."""

    token: Annotated[str, Meta(max_length=64)]
    """New for each claim."""


OrderKind = Literal["pause", "resume", "stop", "rollback", "invite"]


class Ask(Message, frozen=True, kw_only=True):
    """An operator wants to give an order, and asks for a word that makes it fresh."""

    token: Token
    """New for each question, by which the answer is known."""


class Order(Message, frozen=True, kw_only=True):
    """What the coordinator is to do. Obeyed once, however often it comes."""

    token: Token
    """The order's own: given again with the same one, it is the same order."""
    word: Token
    """That the coordinator gave for it. It is good once, and for a short time: so an order that was
    kept from the coordinator, or recorded, does nothing later, and no clocks need agree."""
    what: OrderKind
    """See docs/control.md."""
    round: Round = RoundId(0)
    """To whose model `rollback` goes back."""
    client: Annotated[str, Meta(max_length=64)] = ""
    """Whom to `invite`."""


class OrderAnswer(Message, frozen=True, kw_only=True):
    """To an Ask: a word. To an Order: what came of it."""

    reply_to: Token
    """The token of what this is said to."""
    word: Annotated[str, Meta(max_length=64)] = ""
    """By which one order will be taken."""
    done: bool = False
    """Whether the order is carried out, or will be as `said` tells."""
    stale: bool = False
    """Its word is good no more: ask for another, and say the order again."""
    said: Reason = ""
    """What came of it, in a sentence for whoever gave the order."""


LANES_MAX = 1024
CLAIMS_MAX = 256
"""In one message."""
SUM_TERMS_MAX = 2**20
Session = Annotated[str, Meta(pattern=r"^[0-9a-f]{0,64}\Z")]
Number = Annotated[int, Meta(ge=1, le=2**53)]
"""Of a message in its session and direction, from 1: one that is missing ends the session."""


class Working(Message, frozen=True, kw_only=True):
    """A worker is there, and takes in these lanes. Said every few seconds; also its will."""

    token: Token
    """New at each connection."""
    online: bool = True
    """False: a goodbye, or a will."""
    program: Name = ""
    """Name and version: sums come of one version alone."""
    settings: Sha256 = Digest("0" * 64)
    """Of the settings by which it checks and adds up answers."""
    session: Session = ""
    """The one it is in; none: it wants one, or this is a will."""
    version: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Of the lanes that it listens to."""
    said: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """How many numbered messages it has sent in this session."""


class Claimed(Struct, frozen=True, array_like=True):
    """One update, as a worker found it."""

    client: Annotated[ClientId, Meta(pattern=NAME_PATTERN)]
    """Whose it is."""
    run: Run
    round: Round
    base: Sha256
    fingerprint: Name
    fault: Reason
    """What is wrong with its numbers; empty: nothing."""
    excused: bool
    """That is not its sender's fault."""
    checked: bool
    """Whether its numbers were looked at: they are not of one that cannot count."""
    sample_count: Count
    loss: float | None
    """As its sender reports it."""
    digest: Sha256
    """Of what its device signed: the message, or its announcement."""
    key: Annotated[bytes, Meta(max_length=32)]
    """By which that was signed; empty where nothing is, or of an answer in pieces."""


class Claims(Message, frozen=True, kw_only=True):
    """Updates that came, and wait for a word on whether they count."""

    session: Session
    """In which it is said."""
    number: Number
    """Of this message: each of a session is one above that before it."""
    claims: Annotated[tuple[Claimed, ...], Meta(max_length=CLAIMS_MAX)]
    """In the order in which they came."""


class Passed(Message, frozen=True, kw_only=True):
    """What else a client sent, or a worker has to say to one."""

    session: Session
    """In which it is said."""
    number: Number
    """As in Claims."""
    client: Annotated[ClientId, Meta(pattern=NAME_PATTERN)]
    """Who sent it, or is told."""
    round: Round
    part: Annotated[str, Meta(max_length=16)] = ""
    """The place in which it came; empty: it goes to the client's inbox, and is a Go."""
    key: Annotated[bytes, Meta(max_length=32)] = b""
    """By which it was signed."""
    goes_on: bool = False
    """What is too large for one message comes in several, one after the other with nothing between
    them: here is a part of the payload, and in the next message of the session the next one."""
    payload: memoryview
    """As it came, without its envelope; of what nobody can read, how it begins."""


class Term(Struct, frozen=True, array_like=True):
    """One update in a sum, and what it said beside its numbers."""

    client: Annotated[ClientId, Meta(pattern=NAME_PATTERN)]
    """Whose it was."""
    samples: Count
    """It weighs so much."""
    metrics: Metrics
    codec: Name
    size_bytes: Annotated[int, Meta(ge=0, le=2**40)]
    """Of its payload."""
    measures: Measures | None


class Sum(Message, frozen=True, kw_only=True):
    """What updates to one round come to. A file: it travels in pieces, and is kept as it came."""

    run: Run
    round: Round
    bits: Annotated[int, Meta(ge=0, le=62)]
    """Its numbers are multiples of 2^-bits."""
    weight: Annotated[int, Meta(ge=1, le=2**62)]
    """Of all terms."""
    terms: Annotated[tuple[Term, ...], Meta(min_length=1, max_length=SUM_TERMS_MAX)]
    """No client twice."""
    payload: memoryview
    """The weighted changes' sum: an int64 for each number, little-endian."""


class SumPiece(Message, frozen=True, kw_only=True):
    """A piece of the encoded Sum that was collected last. They come in their order."""

    session: Session
    """In which it is said."""
    number: Number
    """As in Claims."""
    index: Annotated[int, Meta(ge=0, le=2**31)]
    """Of this piece, from 0."""
    count: Annotated[int, Meta(ge=1, le=2**31)]
    """How many there are."""
    digest: Sha256
    """Of the whole."""
    data: memoryview
    """The bytes of this piece."""


class Lanes(Message, frozen=True, kw_only=True):
    """To one worker: what it is to listen to, and how what comes is read. Said again and again."""

    token: Token
    """Of the worker's connection that it is said to."""
    before: Annotated[str, Meta(max_length=64)] = ""
    """Of the connection that was heard under this name before that; empty: none is known. A worker
    that knows it to be another's has a namesake."""
    session: Session
    """Another one than before: all that was not handed over is forgotten."""
    version: Annotated[int, Meta(ge=0, le=2**53)]
    """Of the lanes: what a worker says that it listens to."""
    lanes: Annotated[tuple[Annotated[int, Meta(ge=0, lt=LANES_MAX)], ...], Meta(max_length=1024)]
    """What it is to listen to."""
    said: Annotated[int, Meta(ge=0, le=2**53)]
    """How many numbered messages were sent to it in this session."""
    run: Run
    round: Round
    """The open one, or the next: answers to those before it need no look."""
    size: Annotated[int, Meta(ge=0, le=2**40)]
    """Numbers in a change."""
    shapes: tuple[tuple[int, ...], ...]
    """Of the tensors that it is made of, in their order."""
    answer_bytes_max: Annotated[int, Meta(ge=1, le=2**41)]
    """No answer is larger."""
    refused: Reason = ""
    """Why it gets no lanes."""


class Verdicts(Message, frozen=True, kw_only=True):
    """What becomes of claims, in this order: add those, let go of these, hand over the sum."""

    session: Session
    """In which it is said."""
    number: Number
    """Of this message: each of a session, in this direction, is one above that before it."""
    round: Round
    bits: Annotated[int, Meta(ge=0, le=62)]
    """Of fraction, in the sum."""
    taken: Annotated[tuple[ClientId, ...], Meta(max_length=CLAIMS_MAX)] = ()
    """Whose updates to this round count."""
    refused: Annotated[tuple[tuple[ClientId, Round], ...], Meta(max_length=CLAIMS_MAX)] = ()
    """Whose updates do not, to which rounds."""
    admitted: Annotated[tuple[tuple[ClientId, Announce], ...], Meta(max_length=CLAIMS_MAX)] = ()
    """Whose announced answers may be sent."""
    collects: bool = False
    """The sum of all that were taken since the last time is wanted now."""


FromWorker = Working | Claims | Passed | SumPiece
ToWorker = Lanes | Verdicts
FromOperator = Ask | Order
FromClient = Update | Evaluation | Decline | Announce | Chunk | Opened
ToClient = Receipt | Go | TimeLeft | Offer | Open
AmongCoordinators = Seat | Claim
AnyMessage = (
    Offer
    | Presence
    | FromClient
    | ToClient
    | AmongCoordinators
    | FromOperator
    | OrderAnswer
    | FromWorker
    | ToWorker
    | Sum
)


_encoder = msgspec.msgpack.Encoder()
_offer: msgspec.msgpack.Decoder[Offer] = msgspec.msgpack.Decoder(Offer)
_presence: msgspec.msgpack.Decoder[Presence] = msgspec.msgpack.Decoder(Presence)
_from_client: msgspec.msgpack.Decoder[FromClient] = msgspec.msgpack.Decoder(FromClient)
_to_client: msgspec.msgpack.Decoder[ToClient] = msgspec.msgpack.Decoder(ToClient)
_among: msgspec.msgpack.Decoder[AmongCoordinators] = msgspec.msgpack.Decoder(AmongCoordinators)
_from_operator: msgspec.msgpack.Decoder[FromOperator] = msgspec.msgpack.Decoder(FromOperator)
_order_answer: msgspec.msgpack.Decoder[OrderAnswer] = msgspec.msgpack.Decoder(OrderAnswer)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_sum: msgspec.msgpack.Decoder[Sum] = msgspec.msgpack.Decoder(Sum)


def task_name(task: str) -> str:
    """What a task is called between programs: a file's name without its folders and `.py`.

    Every device keeps its copy of the file where it likes.
    """
    return task.replace("\\", "/").rpartition("/")[2].removesuffix(".py")


def encode(message: AnyMessage) -> bytes:
    return _encoder.encode(message)


def encode_pieces(update: Update) -> tuple[bytes, memoryview]:
    """What `encode` gives, in two pieces that follow one another: the payload is not copied."""
    return encode_head(update, update.payload.nbytes), update.payload.cast("B")


def encode_head(message: Update | Opened, payload_bytes: int) -> bytes:
    """What stands before a payload of so many bytes, whatever payload the message has."""
    empty = encode(structs.replace(message, payload=memoryview(b"")))
    # The payload is the last field, and an empty one is two bytes: "bin 8" and its length.
    assert empty.endswith(b"\xa7payload\xc4\x00")
    return empty[:-2] + b"\xc6" + payload_bytes.to_bytes(4)


_PIECE_BEGINS = b"\x83\xa4kind\xa5chunk"
"""A map of three, whose first key is the tag: what else follows, it is a Chunk or no message."""


def is_piece(data: bytes) -> bool:
    """Whether this is read as a Chunk, if at all: told without reading it.

    A piece needs no signature of its own: the digest of the whole was signed.
    """
    return data.startswith(_PIECE_BEGINS)


def read_offer(data: bytes) -> Offer:
    """What stands on the offer board. Raises WireError, like all readers here, and nothing else."""
    return _read(_offer, data)


def read_presence(data: bytes) -> Presence:
    return _read(_presence, data)


def read_from_client(data: bytes | bytearray | memoryview) -> FromClient:
    """A part of an answer. Its payload is a view into `data`, which must not change after."""
    return _read(_from_client, data)


def read_to_client(data: bytes) -> ToClient:
    return _read(_to_client, data)


def read_among_coordinators(data: bytes) -> AmongCoordinators:
    return _read(_among, data)


def read_from_operator(data: bytes) -> FromOperator:
    return _read(_from_operator, data)


def read_order_answer(data: bytes) -> OrderAnswer:
    return _read(_order_answer, data)


def read_from_worker(data: bytes) -> FromWorker:
    return _read(_from_worker, data)


def read_to_worker(data: bytes) -> ToWorker:
    return _read(_to_worker, data)


def read_sum(data: bytes | memoryview) -> Sum:
    """Its payload is a view into `data`."""
    return _read(_sum, data)


def _read(decoder: msgspec.msgpack.Decoder[_T], data: bytes | bytearray | memoryview) -> _T:
    try:
        return decoder.decode(data)
    except unreadable.MESSAGE as bad:
        raise WireError(f"not a message we know: {bad}") from bad
