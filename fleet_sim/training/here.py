"""Work in this process, one order after the other."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fedmqtt.weights import Weights
from fleet_sim.training.bench import Bench
from fleet_sim.training.orders import Answer, Order


class Here:
    def __init__(self, task: str, data_dir: Path, device: str) -> None:
        self._bench = Bench(task, data_dir, device)

    def run(
        self, base: Weights, orders: Sequence[Order], progress: Callable[[int], None]
    ) -> list[Answer]:
        answers: list[Answer] = []
        threads = torch.get_num_threads()
        # As in a process that trains: more threads would change the last bits.
        torch.set_num_threads(1)
        try:
            for order in orders:
                answers.append(self._bench.work(base, order))
                progress(sum(len(answer.results) for answer in answers))
        finally:
            torch.set_num_threads(threads)
        return answers

    def close(self) -> None:
        """Nothing was started."""
