"""Clients' model files become names of one file; old ones do not pile up."""

from pathlib import Path

from edge_client.trainer_pool import TrainerPool
from edge_client.training_job import Done, FromTrainer, Progress
from fedmqtt.topics import ClientId, Digest
from fleet_sim.shared_models import KeepingTrainers, SharedModels
from tests.edge_client.jobs import job, task_file
from tests.fleet_sim.hand_clock import HandLoop


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


def test_a_model_that_a_job_waits_for_is_kept_until_that_has_ended(tmp_path: Path) -> None:
    loop, shared, said = HandLoop(), SharedModels(kept=2), list[FromTrainer]()
    pool = TrainerPool(loop, size=1)
    trainers = KeepingTrainers(shared, pool)

    def others_come(numbers: range) -> None:
        for number in numbers:
            shared.share(Digest(f"d{number}"), model(tmp_path, "bob", f"d{number}"))

    try:
        # One place, which somebody has for as long as it takes: the next job waits.
        busy = task_file(tmp_path, "busy", "for n in range(10**9):\n    progress(0.0)")
        first = trainers.submit(job(tmp_path, task=busy), said.append)
        waiting = job(tmp_path, client=ClientId("bob"))
        shared.share(Digest("d0"), Path(waiting.model_path))
        trainers.submit(waiting, said.append)
        others_come(range(1, 6))
        assert not (tmp_path / "bob" / "d3.model").exists()
        trainers.cancel(first)
        trainers.cancel(first)
        loop.until(lambda: any(not isinstance(one, Progress) for one in said))
        assert isinstance(said[-1], Done)
        # Now it goes as others do.
        assert Path(waiting.model_path).exists()
        others_come(range(6, 8))
        assert not Path(waiting.model_path).exists()
        assert sorted(one.name for one in (tmp_path / "bob").iterdir()) == ["d6.model", "d7.model"]
    finally:
        pool.close()
        loop.close()
