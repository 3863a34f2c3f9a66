"""What the operator of a federation may set, with every default."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from coordinator.rounds import Late
from fedmqtt.messages import Training
from fedmqtt.topics import NAME_PATTERN

# \Z, as `$` admits a line break at the end.


class Broker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(description="mqtt://[user:password@]host[:port], or mqtts://...")] = (
        "mqtt://localhost:1883"
    )
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
            "Who is invited to train too, measures before it trains.",
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


class Tuning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: Annotated[
        bool,
        Meta(
            description="Learn over-selection and deadline from how many answer, and how fast.\n"
            "What was chosen, and why, is on the status page `pace`."
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
            "`batch` of them at a time."
        ),
    ] = "discard"
    batch: Annotated[
        int, Meta(ge=1, le=1_000_000, description="With buffer: how many are taken up at a time.")
    ] = 10
    rounds_max: Annotated[
        int, Meta(ge=1, le=15, description="Answers that are older by more rounds are refused.")
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


class TrainingSettings(Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an offer says of training; in a file, unlike on the wire, every word must be known."""


class FederationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `fedmqtt coordinator` knows."""

    name: Annotated[
        str,
        Meta(
            pattern=NAME_PATTERN,
            description="The federation's name, as clients give it: 1 to 64 of A-Z a-z 0-9 . _ -",
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
    codec: Annotated[
        str,
        Meta(
            description="How updates become bytes: a chain of files in fedmqtt/codecs, such as\n"
            "part(share=0.25)+eden+zstd. `fedmqtt codecs` lists them."
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
    limits: Limits = field(default_factory=Limits)
    transfer: Transfer = field(default_factory=Transfer)
