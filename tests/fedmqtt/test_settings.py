"""Settings: one clear sentence for each mistake, and a file that says what is in force."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from coordinator.config import FederationConfig
from edge_client.conditions import Conditions
from edge_client.config import ClientConfig, Link
from fedmqtt import settings
from fedmqtt.settings import SettingsError

_T = TypeVar("_T", bound=Struct)

ODD = [
    'say "cheese"',
    "it's",
    "C:\\data\\new",
    "two\nlines\r\n\tand a tab",
    "Grüße, 你好 🎈",
    "\x00\x1b\x7f",
    "# no comment",
    "[table]",
    "a = 1",
    "",
    " spaces ",
    "40",
    "true",
    "'''",
]


class Oven(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    degrees: Annotated[int, Meta(ge=0, le=300, description="How hot it gets.")] = 180
    fan: Annotated[bool, Meta(description="Whether the air moves.")] = False


class Cake(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z]+\Z", description="What it is called: a-z.")]
    kind: Annotated[Literal["sponge", "cheese"], Meta(description="What it is.")] = "sponge"
    layers: Annotated[tuple[Literal["cream", "jam"], ...], Meta(description="From below.")] = ()
    sugar: Annotated[float, Meta(gt=0, description="Grams.")] = 100.0
    oven: Annotated[Oven, Meta(description="How it is baked.")] = field(default_factory=Oven)
    extras: dict[str, Any] = field(default_factory=dict)


def _read(tmp_path: Path, text: str, *overrides: str) -> Cake:
    path = tmp_path / "cake.toml"
    path.write_text(text, encoding="utf-8")
    return settings.read(path, overrides, Cake)


def _mistake(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        _read(tmp_path, text, *overrides)
    return str(error.value).replace(f"{tmp_path}/", "")


# What is read


def test_the_command_line_comes_after_the_file_and_later_words_after_earlier(
    tmp_path: Path,
) -> None:
    text = 'name = "apple"\nsugar = 5\n[oven]\nfan = true\n'
    cake = _read(tmp_path, text, "sugar=7", "oven.degrees=200", "sugar = 8")
    assert cake == Cake(name="apple", sugar=8.0, oven=Oven(degrees=200, fan=True))


def test_without_a_file_there_are_the_defaults() -> None:
    assert settings.read(None, ["name=apple"], Cake) == Cake(name="apple")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=apple", "apple"),
        ('name="apple"', "apple"),
        ("name='apple'", "apple"),
        ("name = apple", "apple"),
        ("name=true", "true"),
    ],
)
def test_text_may_be_quoted_or_bare(override: str, value: str) -> None:
    assert settings.read(None, [override], Cake).name == value


def test_a_bare_number_is_text_where_text_belongs() -> None:
    config = settings.read(None, ["broker=b", "federation=2024", "id=7", "task=t"], ClientConfig)
    assert (config.federation, config.id) == ("2024", "7")


def test_a_list_is_written_as_in_toml() -> None:
    cake = settings.read(None, ["name=a", 'layers=["jam", "cream"]', "extras.nuts=3"], Cake)
    assert (cake.layers, cake.extras) == (("jam", "cream"), {"nuts": 3})


# Mistakes


def test_a_mistake_is_one_line_also_where_what_is_said_of_the_key_is_two() -> None:
    needed = ['name="a"', 'task="t"']
    with pytest.raises(SettingsError) as error:
        settings.read(None, [*needed, "rounds.deadline_s=0"], FederationConfig)
    assert str(error.value) == (
        "the command line: rounds.deadline_s: expected a number > 0.0 (A round is closed after so"
        " many seconds, come what may. `tuning` may learn to close it sooner)"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "",
            "cake.toml: missing key name (What it is called: a-z):"
            " give it in a file, or as --set name=...",
        ),
        (
            'name = "a"\nsuger = 1',
            "cake.toml: unknown key suger; choose from: name, kind, layers, sugar, oven, extras",
        ),
        (
            'name = "a"\n[oven]\nheat = 1',
            "cake.toml: unknown key oven.heat; choose from: degrees, fan",
        ),
        (
            "name = 3",
            "cake.toml: name: expected text, got a whole number (What it is called: a-z)",
        ),
        ('name = "A"', "cake.toml: name: not allowed (What it is called: a-z)"),
        ('name = "a\\n"', "cake.toml: name: not allowed (What it is called: a-z)"),
        (
            'name = "a"\n[oven]\nfan = "yes"',
            "cake.toml: oven.fan: expected true or false, got text (Whether the air moves)",
        ),
        (
            'name = "a"\n[oven]\ndegrees = 500',
            "cake.toml: oven.degrees: expected a whole number <= 300 (How hot it gets)",
        ),
        ('name = "a"\nsugar = 0', "cake.toml: sugar: expected a number > 0.0 (Grams)"),
        (
            'name = "a"\noven = 3',
            "cake.toml: oven: expected a table, got a whole number (How it is baked)",
        ),
        (
            'name = "a"\nlayers = "jam"',
            "cake.toml: layers: expected a list, got text (From below)",
        ),
        (
            'name = "a"\nkind = "mud"',
            "cake.toml: kind cannot be 'mud'; choose from: cheese, sponge",
        ),
        (
            'name = "a"\nlayers = ["jam", "mud"]',
            "cake.toml: layers cannot be 'mud'; choose from: cream, jam",
        ),
        (
            'name = "a"\n[oven\n',
            "cake.toml: Expected ']' at the end of a table declaration (at line 2, column 6)",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    assert _mistake(tmp_path, text) == sentence


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "oven.degrees=500",
            "the command line: oven.degrees: expected a whole number <= 300 (How hot it gets)",
        ),
        (
            "stove.heat=1",
            "the command line: unknown key stove; choose from: name, kind, layers, sugar, oven,"
            " extras",
        ),
        ("oven.heat=1", "the command line: unknown key oven.heat; choose from: degrees, fan"),
        (
            "oven=1",
            "the command line: oven: expected a table, got a whole number (How it is baked)",
        ),
        ('layers=["mud"]', "the command line: layers cannot be 'mud'; choose from: cream, jam"),
        ("name.first=x", "--set name.first=x: name is not a table"),
        ("sugar", "--set sugar: expected key=value, as in --set rounds.count=5"),
        ("=3", "--set =3: expected key=value, as in --set rounds.count=5"),
        ("oven.=3", "--set oven.=3: expected key=value, as in --set rounds.count=5"),
    ],
)
def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(
    tmp_path: Path, override: str, sentence: str
) -> None:
    assert _mistake(tmp_path, 'name = "a"', override) == sentence


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, why in (
        (tmp_path / "none.toml", "no such file"),
        (tmp_path, "Is a directory"),
        (binary, "not a text in UTF-8, so no TOML file"),
    ):
        with pytest.raises(SettingsError) as error:
            settings.read(path, [], Cake)
        assert str(error.value) == f"{path}: {why}"


# What is in force


def test_the_file_explains_itself() -> None:
    text = settings.render(Cake(name="apple", layers=("jam", "cream"), extras={"nuts": 3}))
    assert text == (
        "# What it is called: a-z.\n"
        'name = "apple"\n'
        "# What it is.\n"
        "# One of: cheese, sponge.\n"
        'kind = "sponge"\n'
        "# From below.\n"
        "# One of: cream, jam.\n"
        'layers = ["jam", "cream"]\n'
        "# Grams.\n"
        "sugar = 100.0\n"
        "\n"
        "# How it is baked.\n"
        "[oven]\n"
        "# How hot it gets.\n"
        "degrees = 180\n"
        "# Whether the air moves.\n"
        "fan = false\n"
        "\n"
        "[extras]\n"
        "nuts = 3\n"
    )


def _again(tmp_path: Path, config: _T) -> _T:
    path = tmp_path / "again.toml"
    path.write_text(settings.render(config), encoding="utf-8")
    return settings.read(path, [], type(config))


@pytest.mark.parametrize("odd", ODD)
def test_a_clients_settings_come_back_as_they_were(tmp_path: Path, odd: str) -> None:
    config = ClientConfig(
        broker=odd,
        federation="f",
        id="i",
        task=odd,
        data=odd,
        state=odd,
        purposes=("evaluate",),
        link=Link(retry_max_s=math.inf, tls_ca=odd),
        conditions=Conditions(charging=True, load_max=1e-9, temperature_max=1e22),
    )
    assert _again(tmp_path, config) == config


@pytest.mark.parametrize("odd", ODD)
def test_a_federations_settings_come_back_as_they_were(tmp_path: Path, odd: str) -> None:
    config = FederationConfig(
        name="f",
        task="t",
        runs=odd or "runs",
        initial_model=odd,
        aggregation_settings={
            odd: 1,
            "plain": [odd, {odd: {"deep": [1.5, -math.inf, True]}}],
            "empty": {},
        },
    )
    assert _again(tmp_path, config) == config


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_override_holds_any_text(text: str) -> None:
    overrides = ["broker=b", "federation=f", "id=i", settings.override("task", text)]
    assert settings.read(None, overrides, ClientConfig).task == text


@given(st.builds(Cake, name=st.from_regex(r"\A[a-z]+\Z"), sugar=st.floats(min_value=1e-300)))
def test_any_settings_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, cake: Cake
) -> None:
    assert _again(tmp_path_factory.mktemp("cake"), cake) == cake


def test_what_needs_no_checking_twice_is_converted_alike() -> None:
    assert settings.convert({"name": "a"}, Cake, "aggregation") == Cake(name="a")
    with pytest.raises(SettingsError, match=r"^aggregation: unknown key x"):
        settings.convert({"name": "a", "x": 1}, Cake, "aggregation")


def test_defaults_are_what_a_program_needs_not_repeat() -> None:
    """Every default passes the checks that a written value must pass."""
    client = ClientConfig(broker="mqtt://b", federation="f", id="i", task="t")
    federation = FederationConfig(name="f", task="t")
    for config in (client, federation):
        assert msgspec.convert(msgspec.to_builtins(config), type(config)) == config
