"""Clients of the lab remember what a codec left out of their answers, as real ones do."""

from pathlib import Path

import numpy as np

from tests.fleet_sim.lab_fleets import fleet, large_task, learning


def test_what_was_left_out_of_one_answer_is_in_the_next(tmp_path: Path) -> None:
    # Each training adds 1 to all of 1,000 numbers, of which half are sent.
    of = fleet(
        tmp_path,
        "clients = 2",
        rounds="count = 3\ncohort = 2\nquorum = 2\nclients_min = 2\n",
        task=large_task(tmp_path, 1_000),
        federation="codec = 'topk(share=0.5)+full'",
    )
    with learning(of) as lab:
        lab.run()
        assert lab.is_finished and lab.tensors is not None
        model = lab.tensors.flat
    # First one half by 1, then the other by 2, then the first by 2 again.
    values, counts = np.unique(model, return_counts=True)
    assert values.tolist() == [2.0, 3.0]
    assert counts.tolist() == [500, 500]
