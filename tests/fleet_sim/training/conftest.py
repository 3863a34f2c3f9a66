"""Tests of learning run as a trainer does: on one thread, which is fastest for small models."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
