"""The experiment on what clients do locally, on a few made-up people."""

from pathlib import Path

from tests.experiments.people import made_up_har
from tests.experiments.programs import result


def test_each_variant_is_measured_by_each_client_on_its_own_data(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--seeds", "1", "--processes", "1"]
    found = result(
        "local.py", [*words, "--parts", "personal-people", "--runs", str(tmp_path / "runs")]
    )["outcomes"]
    by_variant = {one["variant"]: one for one in found}
    whole = by_variant["one model for all"]
    tuned, own = by_variant["fine-tuned, 1 epoch"], by_variant["own last layer"]
    assert len(found) == 5 and whole["accuracy_before"] is own["accuracy_before"] is None
    # Fine-tuning is for who measures, and changes nothing of the model.
    assert tuned["accuracy_before"] == whole["accuracy"]
    # These people are so easy to tell apart that each way does.
    assert all(one["accuracy"] > 0.9 and one["answers"] == 5 for one in found)
    assert all(one["worst_tenth"] is None for one in found)
