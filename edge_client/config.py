"""What the owner of a device may set, with every default."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from edge_client.conditions import Conditions
from edge_client.privacy import Privacy
from fedmqtt.messages import PURPOSES, Label, Purpose
from fedmqtt.topics import NAME_PATTERN, NAME_RULE

_SECONDS_MAX = 2**32 - 1
"""What MQTT has room for; as a session's life it means for ever."""


class Trainer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep_warm_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds the trainer's process stays after a round, should one follow: it\n"
            "takes seconds to import torch on a Raspberry Pi, and 200 MB of its memory. 0 ends it\n"
            "at once.",
        ),
    ] = 30.0
    nice: Annotated[
        int, Meta(ge=0, le=19, description="How much it gives way to others: 0 (no) to 19 (most).")
    ] = 10


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keepalive_s: Annotated[
        int, Meta(ge=5, le=1200, description="Longest silence before the client pings the broker.")
    ] = 60
    session_expiry_s: Annotated[
        int,
        Meta(
            ge=0,
            le=_SECONDS_MAX,
            description="How long the broker keeps messages while this client is away.",
        ),
    ] = 86_400
    will_delay_s: Annotated[
        int,
        Meta(
            ge=0,
            le=_SECONDS_MAX,
            description="How long the broker waits before it tells of a lost link (MQTT 5).",
        ),
    ] = 2
    retry_max_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Longest pause between attempts to reach the broker; longer only\n"
            "where the coordinator asks a large fleet not to return all at once.",
        ),
    ] = 60.0
    leave_from_s: Annotated[
        float,
        Meta(
            ge=0,
            description="For batteries: once its answer is received the client disconnects,\n"
            "if the next round is expected in so many seconds or more, and comes back shortly\n"
            "before it; 0 stays connected.",
        ),
    ] = 0.0
    chunk_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=2 * 1024 * 1024,
            description="Largest piece of an answer; less where the broker's limit is lower.",
        ),
    ] = 128 * 1024
    resend_s: Annotated[
        float,
        Meta(gt=0, description="An answer without a receipt is sent again after so many seconds."),
    ] = 20.0
    tls_ca: Annotated[
        str, Meta(description="File of the CA that signed the broker's certificate, for mqtts://.")
    ] = ""


class ClientConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `fedmqtt client` knows. The four without a default must be given."""

    broker: Annotated[str, Meta(description="mqtt://[user:password@]host[:port][,host[:port]...]")]
    federation: Annotated[
        str,
        Meta(pattern=NAME_PATTERN, description="The federation's name, as its coordinator has it."),
    ]
    id: Annotated[
        str,
        Meta(pattern=NAME_PATTERN, description=f"This device's name: {NAME_RULE}."),
    ]
    task: Annotated[
        str, Meta(description="What it learns: a module, or the path of a Python file of yours.")
    ]
    data: Annotated[str, Meta(description="Folder of this device's own data. It never leaves.")] = (
        "."
    )
    state: Annotated[
        str,
        Meta(description="Folder for finished answers and the model; empty: under ~/.local/state."),
    ] = ""
    label: Annotated[
        Label,
        Meta(
            description="What kind of device this is: phone, watch, a site. A federation may see\n"
            "to it that each kind takes part. Up to 40 of A-Z a-z 0-9 . _ - and spaces."
        ),
    ] = ""
    purposes: Annotated[
        tuple[Purpose, ...],
        Meta(
            min_length=1,
            description="What this device is willing to do. describe: tell counts, means and\n"
            "histograms of its data, summed up over all of its samples.",
        ),
    ] = PURPOSES
    model_bytes_max: Annotated[
        int, Meta(ge=1, description="Larger models are declined, before anything is fetched.")
    ] = 1_000_000_000
    outbox_bytes_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Room for answers that wait to be received. Where another might not\n"
            "fit, new rounds are declined; what waits is never dropped.",
        ),
    ] = 2_000_000_000
    progress_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="While it trains, the client tells how far it is every so many seconds,\n"
            "and more seldom in a large fleet; 0 tells what it does, and not how far it is.",
        ),
    ] = 5.0
    quiet: Annotated[
        bool,
        Meta(
            description="Say nothing before the first offer is read either: for a fleet that is\n"
            "quiet from its first day on (docs/scale.md). A device learns it from offers, and\n"
            "remembers it."
        ),
    ] = False
    link: Link = field(default_factory=Link)
    trainer: Trainer = field(default_factory=Trainer)
    conditions: Annotated[Conditions, Meta(description="When the device takes part at all.")] = (
        field(default_factory=Conditions)
    )
    privacy: Annotated[Privacy, Meta(description="How this device's answers must be hidden.")] = (
        field(default_factory=Privacy)
    )

    @property
    def state_dir(self) -> Path:
        if self.state:
            return Path(self.state)
        return Path.home() / ".local" / "state" / "fedmqtt" / self.federation / self.id
