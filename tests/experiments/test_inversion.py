"""What leaks of an update and what does not, in a second; and the program, on digits it draws."""

from pathlib import Path

import pytest
import torch

from experiments import digits, server_views
from experiments.gradient_inversion import Seen, by_division, judge
from experiments.inversion import NORM_MAX, Case, Cell
from tests.experiments.programs import result, run
from tests.learning_tasks.idx_files import write_mnist

VICTIMS = 40
PIXELS = 8 * 8


@pytest.fixture(scope="module")
def case() -> Case:
    """Of as many clients with one digit each. The attacks below are on single ones."""
    return Case(digits.drawn(), Cell(clients=VICTIMS), seed=1)


def _divided(views: list[Seen]) -> torch.Tensor:
    return torch.stack([by_division(one.values, PIXELS) for one in views]).clamp(0, 1)


def test_a_plain_update_gives_its_image_back(case: Case) -> None:
    exact = torch.stack([by_division(change, PIXELS) for change in case.changes])
    assert float((exact - case.victims).square().mean(1).max()) < 1e-20
    # As it crosses the broker it has been rounded to float32.
    found = _divided([server_views.plain(change) for change in case.changes])
    assert float((found - case.victims).square().mean(1).max()) < 1e-12


def test_what_crosses_the_broker_under_masks_is_worse_than_a_guess(case: Case) -> None:
    views = [server_views.masked(change, NORM_MAX, 1) for change in case.changes]
    found = _divided(views)
    error = float((found - case.victims).square().mean())
    assert error > 0.07 > case.gallery.mean_error
    # Masks, and not what is rounded or clipped before, are what hides it: their sum opens.
    opened = [server_views.opened_sum(one[None], NORM_MAX, 0, 1) for one in case.changes]
    assert case.judge(_divided(opened))[0].recovered == VICTIMS


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_noise_on_a_clipped_update_leaves_nobody_to_be_identified(case: Case, sigma: float) -> None:
    assert _identified(case, sigma) == 0


def test_too_little_noise_does(case: Case) -> None:
    assert _identified(case, 0.001) > VICTIMS / 2


def _identified(case: Case, sigma: float) -> int:
    """Each on its own: of whom is the image nearest to what was found?"""
    seen = [
        server_views.opened_sum(change[None], NORM_MAX, sigma, number)
        for number, change in enumerate(case.changes)
    ]
    found = _divided(seen)
    return sum(
        judge(mine[None], victim[None], case.gallery.images)[0].identified
        for mine, victim in zip(found, case.victims, strict=True)
    )


def test_a_sum_of_few_clipped_updates_leaks_though_nobody_sees_one() -> None:
    case = Case(digits.drawn(), Cell(clients=2), seed=1)
    assert float(case.changes.norm(dim=1).min()) > NORM_MAX
    found, _ = case.judge(case.attacked(case.seen(), NORM_MAX))
    assert found.recovered == found.identified == 2


def test_what_was_found_is_told_apart_without_knowing_whose_it_is() -> None:
    gallery = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found, ordered = judge(gallery[[2, 1]] * 0.9, gallery[[1, 2]], gallery)
    assert found.errors == pytest.approx((0.005, 0.005))
    assert found.identified == 2 and found.recovered == 0
    torch.testing.assert_close(ordered, gallery[[1, 2]] * 0.9)


def test_small_digits_are_means_of_nine_pixels_without_the_border(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=10, test=20)
    small = digits.small(tmp_path)
    assert small.side == 8 and small.labels.tolist() == [*range(10), *range(10)]
    # A 1 is a bar from row 2 to row 5, of columns 4 to 23: from 0 to 3 and 2 to 21 within the
    # border.
    across = torch.tensor([1 / 3, *[1.0] * 6, 1 / 3], dtype=torch.float64)
    wanted = torch.zeros(8, 8, dtype=torch.float64)
    wanted[0], wanted[1] = across, across / 3
    torch.testing.assert_close(small.images[1].reshape(8, 8), wanted)


def test_the_panels_are_drawn(tmp_path: Path) -> None:
    out = tmp_path / "inversion.png"
    panels = result("inversion.py", ["--parts", "panels", "--seeds", "1", "--picture", str(out)])
    plain, masked, summed, noised = panels["panels"]
    assert (plain["recovered"], masked["recovered"], noised["recovered"]) == (8, 0, 0)
    assert summed["recovered"] == 8
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_mistake_is_told(tmp_path: Path) -> None:
    ended = run("inversion.py", ["--mnist", str(tmp_path)])
    assert ended.returncode == 2
    assert "give the folder with the four files of MNIST" in ended.stderr
