"""What the owner of a site may set, with every default: `site.toml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, field, structs

from coordinator import checks, round_rules
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from coordinator.persistence.ledger_url import IN_FOLDERS
from edge_client.config import ClientConfig
from fedmqtt import settings
from fedmqtt.settings import SettingsError

LABEL = "site"
"""Of a site in the centre's eyes, unless its owner gives it another."""

_THE_CENTRES = (
    *("seed", "codec", "training", "aggregation", "aggregation_settings", "initial_model"),
    *("late", "differential_privacy", "downlink_codec"),
)
"""Keys of a federation.toml that follow, at a site, from what the centre asks."""
_NOT_THERE = {
    "sites": "a site's own clients are devices, and no sites",
    "workers": "a site adds up its devices' answers by itself",
    "statistics": "a site does not ask its devices what their data is like",
}
_THE_SITES = ("ledger", "runs", "checkpoint")
"""Those that follow from where a site keeps its own files."""
_TASK = "task"
"""It is for all: below [centre] or [devices] it can only say the same again."""
_COUNT = "rounds.count"
_NOT_OFFERED = (*_THE_CENTRES, *_NOT_THERE, *_THE_SITES, _TASK, _COUNT)
"""Below [devices]: what is refused is no choice for who mistypes another key."""


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task: Annotated[
        str,
        Meta(
            min_length=1,
            description="What is learned: a module, or the path of a Python file of yours, as\n"
            "at the centre and on each device.",
        ),
    ]
    rounds_per_report: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Rounds with its own devices that a site makes of one round of the\n"
            "centre's. With 1 the two levels add up exactly what one would.",
        ),
    ] = 1
    rounds_alone: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="While the centre is out of reach, the site goes on with so many rounds\n"
            "of its own at most; what they come to is handed up when it is back. 0: none.",
        ),
    ] = 5
    alone_after_s: Annotated[
        float,
        Meta(ge=0, le=1e8, description="How long the centre must be gone before they begin."),
    ] = 60.0
    credentials: Annotated[
        str,
        Meta(
            description="File that the centre's operator made for this site with `fedmqtt enroll`."
        ),
    ] = ""
    centre: Annotated[
        dict[str, Any],
        Meta(description="How this site takes part at the centre: as a client's settings."),
    ] = field(default_factory=dict)
    devices: Annotated[
        dict[str, Any],
        Meta(
            description="How it coordinates its own devices: as a federation.toml, without what\n"
            "the centre says of training."
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteConfig:
    rounds_per_report: int
    rounds_alone: int
    alone_after_s: float
    credentials: str
    centre: ClientConfig
    devices: FederationConfig
    tells_measures: bool = True
    """What devices measure may go up under a mask: the owner says so by `centre.purposes`."""

    @property
    def state(self) -> Path:
        """Where all that is to outlive the program lies."""
        return self.centre.state_dir

    @property
    def runs(self) -> Path:
        return self.state / "runs"


def credentials_of(path: Path, overrides: Sequence[str]) -> str:
    """Where those for the centre lie, if there are some. Raises SettingsError."""
    return settings.read(path, overrides, _File).credentials


def read(path: Path, overrides: Sequence[str], ours: Mapping[str, str]) -> SiteConfig:
    """`ours`: what the credentials say of the site, for `centre`. Raises SettingsError."""
    told = settings.read(path, overrides, _File)
    for key in _THE_CENTRES:
        if key in told.devices:
            raise SettingsError(
                f"{path}: devices.{key} follows from what the centre asks of all: leave it out"
            )
    for key, why in _NOT_THERE.items():
        if key in told.devices:
            raise SettingsError(f"{path}: devices.{key} is given, and {why}: leave it out")
    if "count" in _table(told.devices, "rounds"):
        raise SettingsError(
            f"{path}: devices.rounds.count is given, and a site has as many rounds as the centre"
            " asks for: leave it out"
        )
    for key in _THE_SITES:
        if key in told.devices:
            raise SettingsError(f"{path}: devices.{key} is the site's state folder: leave it out")
    centre = {"label": LABEL, "task": told.task, **ours, **told.centre}
    for key in ("federation", "id"):
        if key in ours and centre[key] != ours[key]:
            raise SettingsError(
                f"{path}: centre.{key} is {centre[key]!r}, and {told.credentials} is for"
                f" {ours[key]!r}: leave centre.{key} out"
            )
    devices = {"task": told.task, **told.devices}
    config = SiteConfig(
        told.rounds_per_report,
        told.rounds_alone,
        told.alone_after_s,
        told.credentials,
        settings.convert(centre, ClientConfig, f"{path}, [centre]", "centre", (_TASK,)),
        settings.convert(devices, FederationConfig, f"{path}, [devices]", "devices", _NOT_OFFERED),
    )
    return _checked(path, config)


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Empty where it is none, which is said when all is read."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _checked(path: Path, config: SiteConfig) -> SiteConfig:
    if config.centre.task != config.devices.task:
        raise SettingsError(f"{path}: one task is for all: set `task`, and none below it")
    if config.centre.federation == config.devices.name:
        raise SettingsError(
            f"{path}: devices.name is {config.devices.name!r}, as the centre's federation: give the"
            " site's own another, as a broker may carry both"
        )
    if "describe" in config.centre.purposes:
        raise SettingsError(
            f"{path}: centre.purposes has describe, and a site does not ask its devices what their"
            " data is like: leave it out"
        )
    if config.devices.rounds.mode != "synchronous":
        raise SettingsError(
            f"{path}: devices.rounds.mode is {config.devices.rounds.mode!r}: a site's round is one"
            ' of the centre\'s, and ends with it; set it to "synchronous"'
        )
    rounds = structs.replace(config.devices.rounds, count=0)
    devices = structs.replace(
        config.devices, rounds=rounds, runs=str(config.runs), ledger=IN_FOLDERS
    )
    try:
        checks.check(devices)
    except SettingsError as bad:
        raise SettingsError(f"{path}, [devices]: {bad}") from bad
    if round_rules.fleet(devices) and not devices.evaluation.clients:
        raise SettingsError(
            f"{path}: devices.evaluation.clients is 0, which asks all devices of a quiet site to"
            " measure a model, and the centre says when: say how many"
        )
    centre, tells = config.centre, "evaluate" in config.centre.purposes
    if masked_round.is_masked(devices):
        # Who measures alone would be read.
        able = tuple(purpose for purpose in centre.purposes if purpose == "train")
        centre = structs.replace(centre, purposes=able)
    return replace(config, centre=centre, devices=devices, tells_measures=tells)
