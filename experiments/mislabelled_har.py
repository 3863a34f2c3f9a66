"""HAR as a client has it who calls each activity another: class c is class 5 - c.

See `attacks.py`.
"""

from dataclasses import replace
from pathlib import Path

from learning_tasks import har
from learning_tasks.har import CLASS_NAMES, build_model, loss
from learning_tasks.pool import Pool

__all__ = ["CLASS_NAMES", "build_model", "load_pool", "loss"]


def load_pool(data_dir: Path, purpose: str) -> Pool:
    pool = har.load_pool(data_dir, purpose)
    return replace(pool, targets=len(CLASS_NAMES) - 1 - pool.targets)
