"""What the operator of a federation may set, with every default."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from coordinator.concurrency import Mode
from coordinator.noise.differential_privacy import DifferentialPrivacy
from coordinator.rounds import SETTLED_ROUNDS, Late
from fedmqtt.messages import (
    FINE_TUNE_EPOCHS_MAX,
    KEYHOLDERS_MAX,
    LANES_MAX,
    LAYER_PATTERNS_MAX,
    MASKED_CLASSES_MAX,
    MASKED_METRICS_MAX,
    LayerPattern,
    Name,
    Training,
)
from fedmqtt.topics import NAME_PATTERN, NAME_RULE

# \Z, as `$` admits a line break at the end.


class Broker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="mqtt://[user:password@]host[:port], or mqtts://...; of a cluster, all\n"
            "its nodes: mqtt://a:1883,b:1883,c:1883"
        ),
    ] = "mqtt://localhost:1883"
    keepalive_s: Annotated[
        int, Meta(ge=5, le=1200, description="Longest silence before a ping.")
    ] = 30
    tls_ca: Annotated[
        str, Meta(description="File of the CA that signed the broker's certificate, for mqtts://.")
    ] = ""
    credentials: Annotated[
        str,
        Meta(
            description="File that `fedmqtt broker-kit` wrote for the coordinator. It names the\n"
            "broker, unless `url` is an mqtts:// address."
        ),
    ] = ""
    revoked: Annotated[
        str,
        Meta(
            description="File of devices whose signatures count no more, as `fedmqtt revoke`\n"
            "writes it: KIT/revoked-devices. It is read again when it has changed."
        ),
    ] = ""


class Rounds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    count: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Rounds to run; 0 runs until stopped.")
    ] = 20
    cohort: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Answers that complete a round.")
    ] = 10
    over_selection: Annotated[
        float,
        Meta(
            ge=1,
            le=100,
            description="Clients invited per answer wanted, since some never answer. A start: see\n"
            "`tuning`.",
        ),
    ] = 1.3
    quorum: Annotated[
        int,
        Meta(
            ge=1, le=1_000_000, description="Fewest answers that make a new model. At most cohort."
        ),
    ] = 2
    clients_min: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Willing clients to wait for before a round opens."),
    ] = 2
    deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="A round is closed after so many seconds, come what may. `tuning` may\n"
            "learn to close it sooner.",
        ),
    ] = 300.0
    pause_s: Annotated[
        float, Meta(ge=0, le=1e8, description="Seconds between one round and the next.")
    ] = 0.0
    retry_s: Annotated[
        float,
        Meta(ge=0, le=1e8, description="Pause after a round that had too few answers for a model."),
    ] = 5.0
    away_grace_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e8,
            description="With a quorum, a round stops waiting for clients gone for so long.",
        ),
    ] = 10.0
    mode: Annotated[
        Mode,
        Meta(
            description="synchronous: a round invites its clients and waits for a cohort of them.\n"
            "asynchronous: no round waits for anybody. A round is a version of the model, over as\n"
            "soon as `cohort` answers to any version have come; docs/strategies.md tells when."
        ),
    ] = "synchronous"
    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="With asynchronous: how many clients are at work at any time.",
        ),
    ] = 20


class Evaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    every: Annotated[
        int,
        Meta(
            ge=0,
            description="Clients measure the model in each so many rounds and at the end; 0 never.",
        ),
    ] = 1
    clients: Annotated[
        int,
        Meta(
            ge=0,
            description="How many clients measure; 0 is all who are willing.\n"
            "Who is invited to train too, measures before it trains. Where answers are masked,\n"
            "all that train measure, and nobody else.",
        ),
    ] = 20
    final_deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="How long the last evaluation waits for clients that are away.",
        ),
    ] = 60.0
    fine_tune_epochs: Annotated[
        int,
        Meta(
            ge=0,
            le=FINE_TUNE_EPOCHS_MAX,
            description="Who measures first trains a copy of the model on its own data, so many\n"
            "epochs. How good the model was before is told too, as accuracy_before and so on.",
        ),
    ] = 0
    metrics: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=MASKED_METRICS_MAX,
            description="Which metrics are told where answers are masked. None: those that the\n"
            "task names, or loss and accuracy.",
        ),
    ] = ()
    classes: Annotated[
        int,
        Meta(
            ge=0,
            le=MASKED_CLASSES_MAX,
            description="The classes of the confusion matrix that is told where answers are\n"
            "masked. 0: as many as the task names.",
        ),
    ] = 0


class Tuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: Annotated[
        bool,
        Meta(
            description="Learn over-selection and deadline from how many answer, and how fast.\n"
            "What was chosen, and why, is on the status page `pace`. Nothing is learned where\n"
            "rounds are asynchronous."
        ),
    ] = True
    over_selection_min: Annotated[
        float, Meta(ge=1, le=100, description="Never invite fewer per answer wanted.")
    ] = 1.0
    over_selection_max: Annotated[
        float, Meta(ge=1, le=100, description="Never invite more per answer wanted.")
    ] = 2.0
    deadline_min_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="Never close a round sooner; rounds.deadline_s is the most. Best above\n"
            "1.5 times broker.keepalive_s: until then, who died may seem to be at work.",
        ),
    ] = 45.0


class LateAnswers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: Annotated[
        Late,
        Meta(
            description="Of answers whose round has closed. discard: they are refused. weigh:\n"
            "they count in the round that closes next, the older the less. buffer: so too, but\n"
            "`batch` of them at a time. Where rounds are asynchronous, all answers count."
        ),
    ] = "discard"
    batch: Annotated[
        int, Meta(ge=1, le=1_000_000, description="With buffer: how many are taken up at a time.")
    ] = 10
    rounds_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Answers that are older by more rounds are refused. At most 15, where\n"
            "rounds are synchronous.",
        ),
    ] = 5


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    change_max: Annotated[
        float,
        Meta(
            gt=0,
            le=1e9,
            description="Updates that change any parameter by more are rejected. Also sets the\n"
            "resolution of the exact sum, so no larger than needed.",
        ),
    ] = 64.0
    samples_max: Annotated[
        int,
        Meta(
            ge=1,
            le=2**28,
            description="Updates that claim to have trained on more samples are rejected.",
        ),
    ] = 1_000_000
    messages_per_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e6,
            description="Of one client; what exceeds it is dropped. Ten seconds' worth, or the\n"
            "messages of four answers, may come at once, and answers that count are free.",
        ),
    ] = 200.0
    bytes_per_s: Annotated[
        int, Meta(ge=1024, le=2**40, description="So, too, for the bytes of one client.")
    ] = 64 * 1024 * 1024
    strikes: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="So many messages that nobody can read, answers that are refused for what\n"
            "is in them or is sealed there, or tenths of a second of a flood put a client in\n"
            "quarantine: it is not invited and not heard. 0: never.\n"
            "`fedmqtt quarantine` shows, lifts and adds.",
        ),
    ] = 5
    strikes_within_s: Annotated[
        float, Meta(gt=0, le=1e8, description="Older ones are forgotten.")
    ] = 3600.0
    quarantine_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="How long the first quarantine lasts; the next one is twice as long.",
        ),
    ] = 600.0
    quarantine_max_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="And never longer. Who stays out for so long begins with the first again.",
        ),
    ] = 86400.0


class Statistics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rounds: Annotated[
        int,
        Meta(
            ge=2,
            le=50,
            description="How often clients are asked. The first time finds the powers of two\n"
            "between which data lies; each further one makes the brackets of quantiles up to 32\n"
            "times narrower.",
        ),
    ] = 5
    clients_min: Annotated[
        int,
        Meta(
            ge=2,
            le=100_000,
            description="Of fewer clients nothing is told, and a round waits for as many.",
        ),
    ] = 3
    samples_min: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="No quantile's bracket is narrowed to fewer samples, over all clients.",
        ),
    ] = 10
    features: Annotated[
        tuple[str, ...],
        Meta(description="Which of the task's features; empty: all of them."),
    ] = ()
    quantiles: Annotated[
        tuple[Annotated[float, Meta(gt=0, lt=1)], ...],
        Meta(max_length=20, description="Which quantiles, as shares of the samples."),
    ] = (0.05, 0.25, 0.5, 0.75, 0.95)
    bins: Annotated[int, Meta(ge=4, le=256, description="Of each histogram, of equal width.")] = 64
    ranges: Annotated[
        dict[str, tuple[float, float]],
        Meta(
            description="Of histograms, by feature: from where to where, as [-2.0, 2.0].\n"
            "Others are found."
        ),
    ] = field(default_factory=dict)


class Transfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    chunk_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=2 * 1024 * 1024,
            description="Largest piece of a model; less where the broker's limit is lower.",
        ),
    ] = 128 * 1024
    uploads_at_once: Annotated[
        int, Meta(ge=1, le=10_000, description="Large updates that may be on the way at a time.")
    ] = 4
    stall_s: Annotated[
        float,
        Meta(gt=0, description="An upload that stands still so long is asked for what is missing."),
    ] = 5.0


class Workers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Programs that take in answers in the coordinator's place: see docs/scale.md."""

    lanes: Annotated[
        int,
        Meta(
            ge=0,
            le=LANES_MAX,
            description="Into so many parts clients are divided, by their names; each worker\n"
            "takes some. A few for each worker that may ever come: 32, say. 0: no workers.",
        ),
    ] = 0
    terms: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="A worker hands over its sum when so many answers are in it,",
        ),
    ] = 64
    hand_over_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="or the first of them has waited for so long. Receipts come then.",
        ),
    ] = 1.0
    at_once: Annotated[
        int, Meta(ge=1, le=1000, description="Workers that may be handing over at a time.")
    ] = 4


class Sites(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clients that stand for devices of their own: see docs/sites.md."""

    clients_max: Annotated[
        int,
        Meta(
            ge=0,
            le=2**20,
            description="A site may answer for so many devices at most. The exact sum leaves room\n"
            "for as many behind each answer, and so do masked ones, where nobody sees for how\n"
            "many one answer stands. 0: nobody answers for others.",
        ),
    ] = 0
    weight_max: Annotated[
        int,
        Meta(
            ge=0,
            le=2**48,
            description="And for so many samples of theirs together; with more its answer is\n"
            "refused, so that no site drowns all others. 0: limits.samples_max, as one client.",
        ),
    ] = 0


class TrainingSettings(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an offer says of training; in a file, unlike on the wire, every word must be known."""

    personal: Annotated[
        tuple[LayerPattern, ...],
        Meta(
            max_length=LAYER_PATTERNS_MAX,
            description="Layers that stay on each device, by the names of the model's tensors:\n"
            '["*.bn*", "head.*"]. They are trained there, and never sent.',
        ),
    ] = ()


class SlowLinks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    codec: Annotated[
        str,
        Meta(
            description="By which codec clients on slow links answer, each by what it measures of\n"
            "its own link; empty: all answer by `codec`."
        ),
    ] = ""
    below_kbps: Annotated[
        float,
        Meta(
            gt=0,
            le=1e9,
            description="A link is slow that carries fewer kilobits per second to the broker.",
        ),
    ] = 256.0


class Privacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    aggregation: Annotated[
        str,
        Meta(
            description="What the coordinator sees of an answer. plain: all of it. trusted: the\n"
            "sum of a round alone, if one keyholder is honest. keyholders: so too, if not more\n"
            "than `tolerated` of several are not. docs/masked-rounds.md tells which, when.\n"
            "committee: an experiment, see docs/committee.md."
        ),
    ] = "plain"
    experiments: Annotated[
        tuple[Literal["committee"], ...],
        Meta(
            max_length=1,
            description="Ways to hide answers that no cryptographer has reviewed, and that may be\n"
            'used all the same: "committee", or none.',
        ),
    ] = ()
    floor: Annotated[
        int,
        Meta(
            ge=2,
            le=2**20,
            description="No sum of fewer clients is opened. A sum of few still tells much of each.",
        ),
    ] = 10
    places: Annotated[
        int, Meta(ge=3, le=KEYHOLDERS_MAX, description="With keyholders: how many there are.")
    ] = 3
    tolerated: Annotated[
        int,
        Meta(
            ge=1,
            lt=KEYHOLDERS_MAX,
            description="So many of them learn nothing, also together with the coordinator. One\n"
            "more opens a sum.",
        ),
    ] = 1
    value_bits: Annotated[
        int,
        Meta(
            ge=2,
            le=24,
            description="Of each number of a change, with its sign. On the way it takes more, so\n"
            "that the sum over all clients fits: see docs/masked-rounds.md.",
        ),
    ] = 20
    weight_max: Annotated[
        int,
        Meta(ge=1, le=255, description="What a client counts for at most; 1: all count the same."),
    ] = 1
    samples_max: Annotated[
        int,
        Meta(
            ge=1,
            le=2**53,
            description="So many samples, or more, count for `weight_max`; fewer for as much less.",
        ),
    ] = 1000
    change_max: Annotated[
        float,
        Meta(gt=0, le=1e6, description="A larger change of one number is clipped to it."),
    ] = 1.0
    norm_max: Annotated[
        float,
        Meta(
            ge=0,
            le=1e9,
            description="A change with a larger L2 norm is made as long; 0: its norm has no bound.",
        ),
    ] = 0.0
    share: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1,
            description="Of the numbers, that clients send in a round: all the same ones.",
        ),
    ] = 1.0
    rotate: Annotated[
        bool,
        Meta(description="Rotate at random before rounding: best below 8 value_bits."),
    ] = False
    ranges: Annotated[
        Literal["adaptive", "fixed"],
        Meta(
            description="With rotate: to what values are clipped before they are rounded. fixed:\n"
            "all to change_max. adaptive: each block to 4 times its root mean square in the round\n"
            "before, which clients tell under their masks, and to change_max at the most."
        ),
    ] = "adaptive"
    key_rounds: Annotated[
        int,
        Meta(
            ge=1,
            le=SETTLED_ROUNDS,
            description="With asynchronous rounds: so many are offered with the same keys of\n"
            "keyholders. An answer that comes when others are in use does not count any more.",
        ),
    ] = 10
    keyholder_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e6, description="So long a keyholder may be silent until others are asked."),
    ] = 10.0
    opening_deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e8,
            description="A round whose sum nobody has opened by then keeps its model.",
        ),
    ] = 120.0


class CheckpointSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that `fedmqtt rollback` can go back to: see docs/control.md."""

    keep: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="How many models before the newest are kept in the run's folder. Each\n"
            "takes the disk of the model, and of what the strategy remembers beside it.",
        ),
    ] = 5
    store: Annotated[
        str,
        Meta(
            description="An S3-compatible store that has the models too, as s3://BUCKET/PREFIX;\n"
            "empty: the run's folder, and the ledger where that is on a server. The account is in\n"
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials."
        ),
    ] = ""
    endpoint: Annotated[
        str,
        Meta(
            description="Where that store is, as https://minio.example.org:9000; empty: as boto3\n"
            "finds it, in AWS_ENDPOINT_URL or at Amazon's."
        ),
    ] = ""


class StatusSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told on the broker of each client: see docs/status.md."""

    clients: Annotated[
        bool, Meta(description="A page for each of the 1000 clients that were active last.")
    ] = True
    forget_days: Annotated[
        float,
        Meta(
            gt=0,
            le=36_500,
            description="The page of a client that has said nothing for so long is taken away.",
        ),
    ] = 7.0


class FederationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `fedmqtt coordinator` knows."""

    name: Annotated[
        str,
        Meta(
            pattern=NAME_PATTERN,
            description=f"The federation's name, as clients give it: {NAME_RULE}",
        ),
    ]
    task: Annotated[
        str,
        Meta(
            min_length=1,
            description="What is learned: a module, or the path of a Python file of yours.",
        ),
    ]
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**53,
            description="Of the initial model, of who is invited, of local training, of codecs.",
        ),
    ] = 0
    initial_model: Annotated[
        str,
        Meta(
            description="A safetensors file to start from, say a pre-trained model;\n"
            "empty: random, from the seed."
        ),
    ] = ""
    runs: Annotated[
        str, Meta(min_length=1, description="The folder in which each run's folder is made.")
    ] = "runs"
    ledger: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where it is written what was accepted: sqlite, in each run's folder; or\n"
            "postgresql://USER@HOST/DATABASE, so that a standby on another machine goes on with\n"
            "the same round (docs/other-machines.md). Its password is in ~/.pgpass, not here.",
        ),
    ] = "sqlite"
    codec: Annotated[
        str,
        Meta(
            description="How updates become bytes: a chain of files in fedmqtt/codecs, such as\n"
            "part(share=0.25)+eden+zstd. `fedmqtt codecs` lists them."
        ),
    ] = "full"
    downlink_codec: Annotated[
        str,
        Meta(
            description="How models go to clients: full, or as deltas by a codec such as int4 or\n"
            "eden, for clients that hold one of the models before."
        ),
    ] = "full"
    broker: Broker = field(default_factory=Broker)
    rounds: Rounds = field(default_factory=Rounds)
    tuning: Tuning = field(default_factory=Tuning)
    late: LateAnswers = field(default_factory=LateAnswers)
    selection: Annotated[
        str, Meta(description="Who is invited to train (a file in coordinator/selection).")
    ] = "uniform"
    selection_settings: Annotated[
        dict[str, Any], Meta(description="Of the selection policy; see fedmqtt selections.")
    ] = field(default_factory=dict)
    aggregation: Annotated[
        str, Meta(description="How answers become a model (a file in coordinator/aggregation).")
    ] = "fedavg"
    aggregation_settings: Annotated[
        dict[str, Any],
        Meta(description="Of the aggregation strategy; see fedmqtt strategies."),
    ] = field(default_factory=dict)
    training: Annotated[TrainingSettings, Meta(description="How clients train in a round.")] = (
        field(default_factory=TrainingSettings)
    )
    evaluation: Evaluation = field(default_factory=Evaluation)
    statistics: Annotated[
        Statistics, Meta(description="What `fedmqtt statistics` asks; training goes without it.")
    ] = field(default_factory=Statistics)
    limits: Limits = field(default_factory=Limits)
    transfer: Transfer = field(default_factory=Transfer)
    slow_links: SlowLinks = field(default_factory=SlowLinks)
    workers: Annotated[
        Workers, Meta(description="Programs beside the coordinator that take in answers.")
    ] = field(default_factory=Workers)
    sites: Annotated[
        Sites, Meta(description="Servers that take part with devices of their own.")
    ] = field(default_factory=Sites)
    checkpoint: Annotated[
        CheckpointSettings, Meta(description="Models that one can go back to.")
    ] = field(default_factory=CheckpointSettings)
    status: Annotated[
        StatusSettings, Meta(description="What everybody on the broker may read of each client.")
    ] = field(default_factory=StatusSettings)
    privacy: Annotated[
        Privacy, Meta(description="Whether anybody can read a single client's answer.")
    ] = field(default_factory=Privacy)
    differential_privacy: DifferentialPrivacy = field(default_factory=DifferentialPrivacy)
