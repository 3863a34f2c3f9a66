"""Made-up people: they did each of six activities four times; a feature each tells which."""

from pathlib import Path

import numpy as np

PEOPLE = 21


def made_up_har(folder: Path) -> Path:
    """The folder of their data, as HAR comes. There is one more of them, who tests."""
    count = (PEOPLE + 1) * 24
    activity = np.arange(count) % 6
    features = np.zeros((count, 561), np.float32)
    features[np.arange(count), activity] = 1
    person = np.arange(count) // 24
    data = folder / "har"
    data.mkdir()
    np.savez(
        data / "ucihar_features.npz",
        X=features,
        y=activity.astype(np.uint8),
        subject=(person + 1).astype(np.uint8),
        is_test=person == PEOPLE,
        bout=np.arange(count).astype(np.int16),
    )
    return data
