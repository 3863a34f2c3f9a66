"""A fleet that nobody owns yet: `fleet.toml` says who is in it, and what they have to put up with.

    fleet.toml ─ read ─▶ Fleet ─ crew(names, keys) ─▶ Crew[n] ─▶ Equipment: online, link, hardware

Everything that is drawn comes from the seed and the client's name, so that a client has the same
weather in both modes, in whatever order clients are looked at, and whoever else is in the fleet;
only ranks are shared out among all.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field, structs

from coordinator import aggregation, checks, one_at_a_time, selection
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from fedmqtt import parts, settings
from fedmqtt.settings import SettingsError
from fleet_sim import connectivity, hardware, links, splits
from fleet_sim.clock import stream
from fleet_sim.connectivity import Connectivity
from fleet_sim.hardware import DeviceSettings, Hardware
from fleet_sim.intervals import TIME_OF_WEEK_PATTERN, Interval, seconds_of, since
from fleet_sim.links import Link, LinkSettings
from fleet_sim.ranks import ranks
from fleet_sim.tables import under

_T = TypeVar("_T", bound=Struct)

_PATHS = ("path", "file", "table")
"""Keys whose values are paths, from the folder of the fleet's file."""


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Annotated[
        str,
        Meta(
            description="Folder of the task's pool of samples, from the folder of this file;\n"
            "empty: the task brings its own."
        ),
    ] = ""
    split: Annotated[
        str, Meta(description="Who holds which samples (a file in fleet_sim/splits).")
    ] = "owners"
    settings: Annotated[dict[str, Any], Meta(description="Settings of the split.")] = field(
        default_factory=dict
    )
    evaluate: Annotated[
        Literal["test", "clients"],
        Meta(
            description="Who measures the model. test: one client that is always there, on the\n"
            "pool's test part, and the others only train. clients: as the federation says, each\n"
            "on samples of its own that it does not train on."
        ),
    ] = "test"
    held_out: Annotated[
        float,
        Meta(
            ge=0,
            lt=1,
            description="With `clients`: the share of its samples that each keeps to measure on.",
        ),
    ] = 0.2


class Weather(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Annotated[
        str, Meta(description="When clients are online (a file in fleet_sim/connectivity).")
    ] = "always"
    settings: Annotated[dict[str, Any], Meta(description="Settings of that kind.")] = field(
        default_factory=dict
    )
    follows_data: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="How much it depends on the data that a client holds (its mean label)\n"
            "when it is online: 0 not at all, 1 entirely.",
        ),
    ] = 0.0


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    polite: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of departures that say goodbye to the broker. In virtual time only.",
        ),
    ] = 0.0
    half_open: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of departures that the broker does not notice until it has heard\n"
            "nothing for 1.5 times the keepalive. The others are cut.",
        ),
    ] = 0.2
    reboots_per_day: Annotated[
        float,
        Meta(
            ge=0,
            le=10_000,
            description="How often a client loses its memory, but not its disk, on average.",
        ),
    ] = 0.0
    reboot_s: Annotated[
        float, Meta(gt=0, le=1e6, description="Seconds until it is back, on average.")
    ] = 60.0
    trainer_crashes: Annotated[
        float, Meta(ge=0, le=1, description="Share of trainings that end in a crash.")
    ] = 0.0


class Masking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    opening_s: Annotated[
        float,
        Meta(
            ge=0,
            le=1e6,
            description="Where answers are masked: how long keyholders take to open a round's\n"
            "sum. They are always there.",
        ),
    ] = 0.5


class FleetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that `fedmqtt simulate` knows."""

    federation: Annotated[
        Any,
        Meta(description="The path of a coordinator's federation.toml, or a table of its keys."),
    ]
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**53,
            description="Of everything that is drawn: split, weather, devices; and, unless\n"
            "federation.seed is given, first model, who is invited, training.",
        ),
    ] = 1
    clients: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description='How many; 0, with the split "owners": everybody who owns samples.',
        ),
    ] = 0
    starts: Annotated[
        str,
        Meta(
            pattern=TIME_OF_WEEK_PATTERN,
            description='Time of the week at which the run begins, as "14:30" (on a Monday) or\n'
            '"Tue 14:30".',
        ),
    ] = "Mon 00:00"
    hours_max: Annotated[
        float,
        Meta(gt=0, le=100_000, description="The run ends after so many hours of its own time."),
    ] = 168.0
    data: Data = field(default_factory=Data)
    connectivity: Weather = field(default_factory=Weather)
    link: Annotated[LinkSettings, Meta(description="Between each client and the broker.")] = field(
        default_factory=LinkSettings
    )
    device: Annotated[DeviceSettings, Meta(description="What each client runs on.")] = field(
        default_factory=DeviceSettings
    )
    faults: Faults = field(default_factory=Faults)
    masking: Masking = field(default_factory=Masking)


@dataclass(frozen=True, slots=True)
class Equipment:
    """One client's."""

    client: str
    rank: float
    online: Callable[[], Iterator[Interval]]
    """Begins anew, with the same intervals, at each call: seconds since the run began."""
    link: Link
    hardware: Hardware
    label: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A file that was found to be possible."""

    source: str
    """The file, for messages."""
    folder: Path
    """What its paths are told from."""
    config: FleetConfig
    """As read, with every `settings` as its part's own struct, and the federation's as well."""
    federation: FederationConfig

    @property
    def data_dir(self) -> Path:
        return self.folder / self.config.data.path

    def as_used(self) -> str:
        """The file with every default, the federation in it, and its paths in full."""
        config = _with_full_paths(self.config, self.folder)
        if config.federation.task.endswith(".py"):
            # Not in `config`: the task's name crosses links, and so is in the trace.
            task = str(Path(config.federation.task).resolve())
            config = structs.replace(
                config, federation=structs.replace(config.federation, task=task)
            )
        return settings.render(config)

    def crew(self, clients: Sequence[str], keys: Sequence[float] | None = None) -> "Crew":
        """All clients' weather and devices; `keys` is a number of each one's data, such as its
        mean label, that the weather may follow. Raises SettingsError for a fleet too small."""
        with under(f"{self.source}: "):
            _check_size(len(clients), self.federation)
        return _crew(self.config, self.folder, self.source, clients, keys)


@dataclass(frozen=True, slots=True)
class Crew:
    """A fleet's clients. Each is drawn when it is asked for, so that a million take little room."""

    config: FleetConfig
    clients: Sequence[str]
    ranks: Sequence[float]
    _online: "_Prepared"
    _plugged: "_Prepared"
    _links: links.Links
    _devices: hardware.Devices

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, n: int) -> Equipment:
        client, rank = self.clients[n], self.ranks[n]
        return Equipment(
            client,
            rank,
            online=lambda: self._intervals(self._online, client, rank),
            link=self._links.draw(rank, stream(self.config.seed, "link", client)),
            hardware=self._devices.draw(
                self._intervals(self._plugged, client, rank),
                stream(self.config.seed, "device", client),
            ),
            label=hardware.label_of(self.config.device, client),
        )

    def _intervals(self, kind: "_Prepared", client: str, rank: float) -> Iterator[Interval]:
        chance = stream(self.config.seed, kind.purpose, client)
        begun = seconds_of(self.config.starts)
        return since(kind.part.online(kind.settings, rank, chance), begun)


@dataclass(frozen=True, slots=True)
class _Prepared:
    purpose: str
    part: Connectivity
    settings: Any


def read(path: Path, overrides: Sequence[str] = ()) -> Fleet:
    """A fleet from its file, then `key.key=value` overrides in order.

    Raises SettingsError for a file that cannot be: names the key, what was expected, the choices.
    """
    _check_where(path, overrides)
    rough = settings.read(path, overrides, FleetConfig)
    source = str(path)
    with under(f"{source}: "):
        kind = _exact(rough)
    if isinstance(rough.federation, dict) and "seed" not in rough.federation:
        overrides = [*overrides, f"federation.seed={rough.seed}"]
    # Read again, now that it is known what is in its tables of settings.
    config = settings.read(path, overrides, kind)
    federation = _federation(config, path)
    config = structs.replace(config, federation=federation)
    plain = msgspec.convert(msgspec.to_builtins(federation), FederationConfig)
    with under(f"{source}: "):
        _check(config, path.parent)
        _check_judge(config, plain)
        _check_size(config.clients, plain)
    _crew(config, path.parent, source, ["anybody"], None)
    return Fleet(source, path.parent, config, plain)


def presets() -> list[str]:
    """The names of the fleets that come with the program."""
    return sorted(file.name.removesuffix(".toml") for file in _presets().iterdir())


def preset(name: str) -> Path:
    """The file of a fleet that comes with the program. Raises SettingsError with the choices."""
    if name not in presets():
        choices = ", ".join(presets())
        raise SettingsError(f"--preset: there is no {name!r}; choose one of: {choices}")
    return _presets() / f"{name}.toml"


def judge(client: str) -> Equipment:
    """A client that nothing ever happens to: it is there to measure."""
    return Equipment(client, 0.0, _always, Link(), Hardware(ms_per_sample=0.0, start_s=0.0))


def _always() -> Iterator[Interval]:
    yield 0.0, math.inf


def _presets() -> Path:
    return Path(str(resources.files("fleet_sim"))) / "presets"


# What a file has to be like


def _check_where(path: Path, overrides: Sequence[str]) -> None:
    """A federation's settings are set where they are: in the table, or in the file that is named
    instead of it. Raises SettingsError."""
    named = settings.read(path, [], _Named).federation
    file = path.parent / named if isinstance(named, str) else None
    for override in overrides:
        table, _, key = override.partition("=")[0].strip().partition(".")
        if table == "federation" and key and file is not None:
            raise SettingsError(
                f"--set {override}: {path} names a file for its federation: set {key} in {file}"
            )
        if table in _ONLY_OF_FEDERATIONS:
            there = f"in {file}" if file is not None else f"with --set federation.{override}"
            raise SettingsError(f"--set {override}: {table} is the federation's: set it {there}")


def _exact(rough: FleetConfig) -> type[FleetConfig]:
    """The file's form, with each table of settings in that of the part that was chosen."""
    weather = _part(connectivity, "connectivity.kind", rough.connectivity.kind)
    split = _part(splits, "data.split", rough.data.split)
    _check_settings("data", "split", rough.data.split, rough.data.settings, split)
    _check_settings(
        "connectivity", "kind", rough.connectivity.kind, rough.connectivity.settings, weather
    )
    charging = rough.device.battery.charging
    battery: type[hardware.Battery] = hardware.Battery
    if charging != hardware.ONLINE:
        kind = _part(connectivity, "device.battery.charging", charging, others=(hardware.ONLINE,))
        battery = _with(hardware.Battery, settings=kind.Settings)
    elif rough.device.battery.settings:
        raise SettingsError('device.battery.settings: there are none with charging = "online"')
    whole: dict[str, type[Struct]] = {
        "data": _with(Data, settings=split.Settings),
        "connectivity": _with(Weather, settings=weather.Settings),
        "device": _with(DeviceSettings, battery=battery),
    }
    if isinstance(rough.federation, dict):
        whole["federation"] = _federation_kind(
            rough.federation.get("aggregation", "fedavg"),
            rough.federation.get("selection", "uniform"),
        )
    elif not isinstance(rough.federation, str):
        raise SettingsError(
            "federation: expected the path of a federation.toml, or a table of its keys"
        )
    return _with(FleetConfig, **whole)


def _check_settings(section: str, key: str, name: str, given: dict[str, Any], part: Any) -> None:
    if given and not structs.fields(part.Settings):
        raise SettingsError(f'{section}.settings: there are none with {key} = "{name}"')


def _federation_kind(strategy: object, policy: object) -> type[FederationConfig]:
    chosen = {
        "aggregation_settings": (aggregation, strategy),
        "selection_settings": (selection, policy),
    }
    # A part that does not exist is refused by name later.
    own: dict[str, type[Struct]] = {
        key: parts.load(folder, str(name)).Settings
        for key, (folder, name) in chosen.items()
        if name in parts.names(folder)
    }
    return _with(FederationConfig, **own)


def _with(kind: type[_T], **fields: type[Struct]) -> type[_T]:
    """The same struct, with other types for some of its fields."""
    described = {name: _description(kind, name) for name in fields}
    changed: list[Any] = [
        (name, Annotated[own, Meta(description=described[name])])
        if any(one.required for one in structs.fields(own))
        else (name, Annotated[own, Meta(description=described[name])], field(default_factory=own))
        for name, own in fields.items()
    ]
    made = defstruct(
        kind.__name__, changed, bases=(kind,), frozen=True, kw_only=True, forbid_unknown_fields=True
    )
    return cast(type[_T], made)


def _description(kind: type[Struct], name: str) -> str:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    found = next(one.type for one in info.fields if one.name == name)
    if not isinstance(found, msgspec.inspect.Metadata):
        return ""
    return str((found.extra_json_schema or {}).get("description", ""))


def _part(folder: ModuleType, key: str, name: str, others: Sequence[str] = ()) -> Any:
    """Any: what a module of a folder has to define is said there. Raises SettingsError."""
    if name not in (known := parts.names(folder)):
        choices = ", ".join([*others, *known])
        raise SettingsError(f"{key}: there is no {name!r}; choose one of: {choices}")
    return parts.load(folder, name)


def _federation(config: FleetConfig, path: Path) -> FederationConfig:
    """From the table, or from the file that is named instead of it."""
    found, where, folder = config.federation, f"{path}: federation.", path.parent
    if isinstance(found, str):
        file = path.parent / found
        with under(f"{path}: federation: "):
            rough = settings.read(file, [], FederationConfig)
            is_seeded = settings.read(file, [], _Seed).seed is not UNSET
            overrides = [] if is_seeded else [f"seed={config.seed}"]
            found = settings.read(
                file, overrides, _federation_kind(rough.aggregation, rough.selection)
            )
        where, folder = f"{file}: ", file.parent
    assert isinstance(found, FederationConfig)
    with under(where):
        checks.check_parts(found)
        found = one_at_a_time.applied(found)
        checks.check(_judged(found) if config.data.evaluate == "test" else found)
        _check_masks(found)
    if found.initial_model:
        # In full, so that both modes, and whoever repeats the run, find the same file.
        full = str((folder / found.initial_model).resolve())
        found = structs.replace(found, initial_model=full)
    return found


def _check_masks(federation: FederationConfig) -> None:
    """Raises SettingsError."""
    if federation.privacy.aggregation == "committee":
        raise SettingsError(
            'privacy.aggregation is "committee": the lab leaves masks out, and of a committee\'s it'
            ' knows neither bytes nor bits; set it to "keyholders", whose sums come out the same'
        )
    if masked_round.mixes_rounds(federation):
        raise SettingsError(
            f"privacy.aggregation is {federation.privacy.aggregation!r}, and rounds.mode is"
            ' "asynchronous": the lab does not open sums of several rounds\' answers; for what they'
            ' come to, but for whole weights, set privacy.aggregation to "plain"'
        )


def _judged(federation: FederationConfig) -> FederationConfig:
    """As its clients know it, where none of them measures: the judge does."""
    silent = structs.replace(federation.evaluation, every=0)
    masks = masked_round.is_masked(federation)
    return structs.replace(federation, evaluation=silent) if masks else federation


class _Named(Struct, frozen=True):
    """Of a fleet's file: its federation, whatever stands there."""

    federation: Any = None


_ONLY_OF_FEDERATIONS = frozenset(one.name for one in structs.fields(FederationConfig)) - {
    one.name for one in structs.fields(FleetConfig)
}


class _Seed(Struct, frozen=True):
    """Of a federation.toml: whether it gives one."""

    seed: int | UnsetType = UNSET


def _check(config: FleetConfig, folder: Path) -> None:
    """What no single setting can tell."""
    data, faults = config.data, config.faults
    if not (folder / data.path).is_dir():
        raise SettingsError(
            f"data.path: data folder {folder / data.path}: no such folder; choose another with"
            " --set data.path=FOLDER, or none for what the task brings"
        )
    if config.clients == 0 and data.split != "owners":
        raise SettingsError(
            f'clients: say among how many the split "{data.split}" is made; 0, everybody who owns'
            ' samples, goes with the split "owners" only'
        )
    if data.evaluate == "clients" and data.held_out == 0:
        raise SettingsError(
            "data.held_out: 0 leaves nothing that clients could measure the model on: give a share"
            ' above 0, or data.evaluate = "test"'
        )
    if faults.polite + faults.half_open > 1:
        raise SettingsError(
            f"faults.half_open: {faults.half_open:g} of the departures and faults.polite ="
            f" {faults.polite:g} are more than all: together at most 1"
        )


def _check_judge(config: FleetConfig, federation: FederationConfig) -> None:
    """Whoever measures on the test data has no data of its own to train on."""
    if config.data.evaluate != "test":
        return
    for key, is_set in (
        ("evaluation.fine_tune_epochs", federation.evaluation.fine_tune_epochs > 0),
        ("training.personal", bool(federation.training.personal)),
    ):
        if is_set:
            raise SettingsError(
                f'data.evaluate: with federation.{key}, models differ between clients, and "test"'
                ' measures one for all of them; give "clients" and a share for data.held_out'
            )


def _check_size(clients: int, federation: FederationConfig) -> None:
    """`clients` 0 is not known yet."""
    for key in ("quorum", "clients_min"):
        needed = getattr(federation.rounds, key)
        if 0 < clients < needed:
            raise SettingsError(
                f"clients: with {clients} of them no round could ever make a model, as"
                f" federation.rounds.{key} is {needed}: lower that, or have more clients"
            )


# What a file names is read


def _crew(
    config: FleetConfig,
    folder: Path,
    source: str,
    clients: Sequence[str],
    keys: Sequence[float] | None,
) -> Crew:
    weather, battery = config.connectivity, config.device.battery
    with under(f"{source}: connectivity.settings."):
        online = _prepared("connectivity", weather.kind, weather.settings, folder, config, clients)
    plugged = online
    if battery.charging != hardware.ONLINE:
        with under(f"{source}: device.battery.settings."):
            plugged = _prepared(
                "charging", battery.charging, battery.settings, folder, config, clients
            )
    with under(f"{source}: link."):
        prepared_links = links.prepare(config.link, folder)
    with under(f"{source}: device."):
        devices = hardware.prepare(config.device, folder)
    placed = ranks(len(clients), keys, weather.follows_data, stream(config.seed, "ranks"))
    return Crew(config, clients, placed, online, plugged, prepared_links, devices)


def _prepared(
    purpose: str,
    kind: str,
    chosen: Any,
    folder: Path,
    config: FleetConfig,
    clients: Sequence[str],
) -> _Prepared:
    part: Connectivity = _part(connectivity, purpose, kind)
    starts = seconds_of(config.starts)
    return _Prepared(purpose, part, part.prepare(chosen, folder, len(clients), starts))


def _with_full_paths(config: _T, folder: Path) -> _T:
    changed: dict[str, Any] = {}
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if name in _PATHS and value:
            changed[name] = str((folder / value).resolve())
        elif isinstance(value, Struct) and not isinstance(value, FederationConfig):
            changed[name] = _with_full_paths(value, folder)
    return structs.replace(config, **changed)
