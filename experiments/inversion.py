"""What can be seen of a digit in an update? Four views of a server, and what it makes of them.

  plain      an update as it is, without a mask: one division gives the image back
  masked     the same update as it crosses the broker, under three masks
  sum        the opened sum of 8 clients, each clipped and with one digit, without noise: it leaks
  noised     the same with noise

and a table: how many images are recovered (mean square error below 0.002) or at least identified
(of 2,000 digits that the attacker has, the nearest to what it found is the right one; `by chance`
is how often that would be so for who draws from the 2,000), over cohort, noise, codec, images a
client and local epochs. The attacker is told much: see experiments/gradient_inversion.py. Digits
are those that MNIST tests with, of 8 x 8 pixels for a model of 4,810 numbers, and whole ones for
one of 50,890; without --mnist they are drawn. What came of it is in docs/privacy.md.

  python experiments/inversion.py --mnist path/to/mnist --picture docs/images/inversion.png
  python experiments/inversion.py --parts panels

The panels take a minute and a half on one core; a cell of the table 1 to 30 s a seed, one with 32
clients minutes. Prints tables, and the result as JSON on the last line.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import digits, gradient_inversion, program, server_views
from experiments.digits import Digits
from experiments.gradient_inversion import Found, Prior, Seen, Training
from experiments.inversion_picture import Panel, draw
from experiments.tables import markdown

NORM_MAX = 0.1
"""Nearly all updates of one digit are longer: clipping is at work."""
SUMMED = 8
SIGMA = 0.3
"""Of the noise in the panel, in clip norms."""
LARGE = 20_000
"""Numbers of a model above which the attack by curvature takes too long."""

SIGMAS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
CODECS = ("full", "int8", "int4", "eden", "part(share=0.05,scaled=false)+full")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a server sees of `clients` clients."""

    clients: int = 1
    images: int = 1
    """Of each client."""
    epochs: int = 1
    sigma: float = 0.0
    codec: str = ""
    """Of a single update; empty: updates are clipped and summed under masks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    cell: Cell
    victims: int
    recovered: int
    identified: int
    by_chance: float
    median_error: float
    seconds: float
    """For a seed, mean."""


class Case:
    """Clients with digits of their own, and the model that they were sent."""

    def __init__(self, gallery: Digits, cell: Cell, seed: int) -> None:
        self.gallery, self.cell, self.seed = gallery, cell, seed
        chance = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(gallery.images), generator=chance)
        mine, others = drawn[: cell.clients * cell.images], drawn[cell.clients * cell.images :]
        self.victims = gallery.images[mine]
        self.prior: Prior = gradient_inversion.prior_of(gallery.images[others])
        self._labels = gallery.labels[mine].reshape(cell.clients, cell.images)
        self._model = gradient_inversion.model_of(gallery.side, seed)
        shape = (cell.clients, cell.images, -1)
        self.changes = self.training(0).changes(self.victims.reshape(shape)).detach()
        """Before they are clipped, shape (clients, numbers)."""

    def training(self, norm_max: float) -> Training:
        return Training(self._model, self._labels, self.cell.epochs, norm_max=norm_max)

    def seen(self) -> Seen:
        if self.cell.codec:
            return server_views.coded(self.changes[0], self.cell.codec, self.seed)
        return server_views.opened_sum(self.changes, NORM_MAX, self.cell.sigma, self.seed)

    def attacked(self, seen: Seen, norm_max: float) -> Tensor:
        """Images, shape (victims, pixels)."""
        attack = gradient_inversion.by_curvature
        if self.changes.shape[1] > LARGE:
            attack = gradient_inversion.by_descent
        found = attack(seen, self.training(norm_max), self.prior, self.seed)
        return found.flatten(0, 1)

    def judge(self, found: Tensor) -> tuple[Found, Tensor]:
        return gradient_inversion.judge(found, self.victims, self.gallery.images)


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    panels: list[Panel] = []
    outcomes: list[Outcome] = []
    with program.mistakes_told("inversion.py"):
        sources = _sources(arguments.mnist)
        if "panels" in arguments.parts:
            for gallery in sources:
                panels += _panels(gallery, arguments.seeds)
            print(_panel_table(panels))
            if arguments.picture:
                draw(panels, arguments.picture)
        if "table" in arguments.parts:
            for cell in _cells(arguments.clients):
                outcomes.append(_outcome(sources[0], cell, arguments.seeds))
                sys.stderr.write(f"{outcomes[-1]}\n")
            print(_table(outcomes))
    program.print_result(
        "inversion",
        panels=[panel.told for panel in panels],
        table=[asdict(one) for one in outcomes],
    )


def _sources(folder: Path | None) -> list[Digits]:
    return [digits.drawn()] if folder is None else [digits.small(folder), digits.mnist(folder)]


def _panels(gallery: Digits, seeds: list[int]) -> Iterator[Panel]:
    """The four views, of the same victims; those of the first seed are drawn."""
    cases = [Case(gallery, Cell(clients=SUMMED), seed) for seed in seeds]
    pixels = gallery.side**2

    def plain(case: Case) -> Tensor:
        views = [server_views.plain(change) for change in case.changes]
        return torch.stack([gradient_inversion.by_division(one.values, pixels) for one in views])

    def masked(case: Case) -> Tensor:
        views = [server_views.masked(change, NORM_MAX, case.seed) for change in case.changes]
        found = [gradient_inversion.by_division(one.values, pixels) for one in views]
        return torch.stack(found).clamp(0, 1)

    def opened(sigma: float) -> Callable[[Case], Tensor]:
        def of_sum(case: Case) -> Tensor:
            seen = server_views.opened_sum(case.changes, NORM_MAX, sigma, case.seed)
            return case.attacked(seen, NORM_MAX)

        return of_sum

    yield _panel(gallery, "one plain update", cases, plain)
    yield _panel(gallery, "one masked update", cases, masked)
    yield _panel(gallery, f"sum of {SUMMED}, no noise", cases, opened(0))
    yield _panel(gallery, f"sum of {SUMMED}, noise {SIGMA}", cases, opened(SIGMA))


def _panel(
    gallery: Digits, view: str, cases: list[Case], attack: Callable[[Case], Tensor]
) -> Panel:
    began = time.perf_counter()
    found = [attack(case) for case in cases]
    seconds = (time.perf_counter() - began) / len(cases)
    judged = [case.judge(images) for case, images in zip(cases, found, strict=True)]
    return Panel(
        digits=gallery.name,
        view=view,
        guess=gallery.mean_error,
        victims=cases[0].victims,
        found=judged[0][1],
        errors=[error for one, _ in judged for error in one.errors],
        recovered=sum(one.recovered for one, _ in judged),
        identified=sum(one.identified for one, _ in judged),
        seconds=seconds,
    )


def _cells(clients: list[int]) -> list[Cell]:
    return [
        *(Cell(codec=codec) for codec in CODECS),
        *(Cell(clients=count) for count in clients),
        *(Cell(clients=SUMMED, sigma=sigma) for sigma in SIGMAS[1:]),
        *(Cell(clients=SUMMED, epochs=5, sigma=sigma) for sigma in (0.0, 0.1, 0.3)),
        *(Cell(images=8, epochs=epochs) for epochs in (1, 5)),
        Cell(clients=2, images=8, epochs=5),
    ]


def _outcome(gallery: Digits, cell: Cell, seeds: list[int]) -> Outcome:
    began = time.perf_counter()
    judged = []
    for seed in seeds:
        case = Case(gallery, cell, seed)
        norm_max = 0.0 if cell.codec else NORM_MAX
        judged.append(case.judge(case.attacked(case.seen(), norm_max))[0])
    errors = [error for one in judged for error in one.errors]
    return Outcome(
        cell=cell,
        victims=len(errors),
        recovered=sum(one.recovered for one in judged),
        identified=sum(one.identified for one in judged),
        by_chance=len(errors) * cell.clients * cell.images / len(gallery.images),
        median_error=median(errors),
        seconds=(time.perf_counter() - began) / len(seeds),
    )


def _panel_table(panels: list[Panel]) -> str:
    rows = []
    for one in panels:
        row = [one.digits, one.view, f"{one.recovered}/{len(one.errors)}"]
        row += [f"{one.identified}", f"{median(one.errors):.1e}"]
        rows.append([*row, f"{one.guess:.3f}", f"{one.seconds:.3f}"])
    head = ["digits", "the server has", "recovered", "identified", "median MSE"]
    return markdown([*head, "MSE of the mean image", "seconds"], rows) + "\n"


def _table(outcomes: list[Outcome]) -> str:
    rows = []
    for one in outcomes:
        cell = one.cell
        view = f"one update by {cell.codec}" if cell.codec else f"sum of {cell.clients}"
        row = [view, str(cell.images), str(cell.epochs), f"{cell.sigma:g}"]
        row += [f"{one.recovered}/{one.victims}", f"{one.identified}", f"{one.by_chance:.1f}"]
        rows.append([*row, f"{one.median_error:.1e}", f"{one.seconds:.1f}"])
    head = ["the server has", "images each", "epochs", "noise", "recovered", "identified"]
    return markdown([*head, "by chance", "median MSE", "seconds"], rows) + "\n"


def _parse() -> argparse.Namespace:
    parser = program.parser(__doc__, "mnist")
    parts = ("panels", "table")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 8, 16, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--picture", type=Path, help="a PNG of the panels, where to write it")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
