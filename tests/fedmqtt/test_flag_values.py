"""A number that makes no sense is refused before anything begins, with the flag's name."""

import pytest

from fedmqtt import __main__ as program
from fedmqtt import flag_values

NONSENSE = ("0", "-1", "nan", "inf", "-inf", "1e999", "1e306", "", "five")
FLAGS = (
    ("doctor", "--model-mb"),
    ("health", "--within"),
)


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_a_number_without_sense_is_refused(
    command: str, flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([command, f"{flag}={value}"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"argument {flag}: {value!r}: expected a number above 0, up to 1e+09" in told


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("0.5", 0.5), ("1e3", 1000.0)])
def test_a_number_above_0_is_taken(text: str, value: float) -> None:
    assert flag_values.positive(text) == value
