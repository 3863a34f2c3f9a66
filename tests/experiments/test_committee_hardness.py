"""The estimate is the one that its paper gives, and harder things come out harder."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import committee_hardness
from experiments.committee_hardness import block_size
from tests.patience import ENDS_WITHIN_S

PROGRAM = Path(committee_hardness.__file__)


@pytest.mark.parametrize(
    ("dimension", "deviation", "block"), [(1024, 8**0.5, 967), (512, 12**0.5, 449)]
)
def test_the_papers_own_schemes_have_the_papers_block_sizes(
    dimension: int, deviation: float, block: int
) -> None:
    # Table 1 there: NewHope and JarJar, modulo 12289. Samples are looked at in steps of 8 here.
    assert abs(block_size(dimension, math.log2(12289), deviation) - block) <= 2


def test_it_is_harder_with_a_smaller_modulus_and_with_larger_errors() -> None:
    assert block_size(2048, 24, 4) > block_size(2048, 32, 4) > block_size(2048, 32, 2)


def test_of_two_honest_clients_an_answer_is_hidden_by_more_than_192_bits() -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=True,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert min(line["classical_bits"] for line in lines) > 192
