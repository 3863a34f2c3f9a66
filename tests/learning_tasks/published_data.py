"""Data that may not come with this program: tests read it where FEDMQTT_DATA says that it lies.

That folder has one folder for each data set: `mnist` with the four idx files, `har` with
`ucihar_features.npz`.
"""

import os
from pathlib import Path

import pytest

_FOLDER = os.environ.get("FEDMQTT_DATA")


def folder_of(name: str) -> Path:
    """The folder of one data set; skips the test where there is none."""
    if _FOLDER is None:
        pytest.skip(f"FEDMQTT_DATA does not name a folder that has {name}")
    folder = Path(_FOLDER) / name
    if not folder.is_dir():
        pytest.skip(f"there is no {name} in FEDMQTT_DATA={_FOLDER}")
    return folder
