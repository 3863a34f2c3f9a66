"""Clients' model files become names of one file; old ones do not pile up."""

from pathlib import Path

from fedmqtt.topics import Digest
from fleet_sim.shared_models import SharedModels


def model(folder: Path, client: str, digest: str) -> Path:
    path = folder / client / f"{digest}.model"
    path.parent.mkdir(exist_ok=True)
    path.write_text(digest)
    return path


def test_one_copy_is_left_of_what_several_have(tmp_path: Path) -> None:
    shared = SharedModels()
    paths = [model(tmp_path, name, "d1") for name in ("ann", "bob", "cat")]
    for path in paths:
        shared.share(Digest("d1"), path)
        # Offered again in the next round.
        shared.share(Digest("d1"), path)
    assert len({path.stat().st_ino for path in paths}) == 1
    assert [path.read_text() for path in paths] == ["d1"] * 3
    assert sorted(one.name for one in paths[0].parent.iterdir()) == ["d1.model"]


def test_different_models_stay_apart(tmp_path: Path) -> None:
    shared = SharedModels()
    ann, bob = model(tmp_path, "ann", "d1"), model(tmp_path, "bob", "d2")
    shared.share(Digest("d1"), ann)
    shared.share(Digest("d2"), bob)
    assert (ann.read_text(), bob.read_text()) == ("d1", "d2")


def test_who_has_moved_on_is_no_loss(tmp_path: Path) -> None:
    shared = SharedModels()
    ann = model(tmp_path, "ann", "d1")
    shared.share(Digest("d1"), ann)
    ann.unlink()
    bob, cat = model(tmp_path, "bob", "d1"), model(tmp_path, "cat", "d1")
    shared.share(Digest("d1"), bob)
    shared.share(Digest("d1"), cat)
    assert bob.read_text() == "d1" and bob.stat().st_ino == cat.stat().st_ino


def test_only_the_last_few_models_are_kept(tmp_path: Path) -> None:
    shared = SharedModels(kept=2)
    paths = [model(tmp_path, "ann", f"d{number}") for number in range(3)]
    shared.share(Digest("d0"), paths[0])
    shared.share(Digest("d1"), paths[1])
    # The old one is of use again: it stays.
    shared.share(Digest("d0"), paths[0])
    shared.share(Digest("d2"), paths[2])
    assert [path.exists() for path in paths] == [True, False, True]
