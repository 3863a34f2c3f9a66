"""Asks other programs for epsilons, once: oracles.json, by which our accounting is judged.

They are too heavy to be needed by a test. To repeat it, in an environment of its own:

    pip install torch==2.13.0 dp-accounting==0.6.0 opacus==1.6.0
    python tests/fedmqtt/privacy/make_oracles.py

Opacus' third accountant, by Gaussian differential privacy, is left out: its central limit gives
less than the true value (0.494 in the eighth case, where it is 2.107).
"""

import json
from importlib.metadata import version
from pathlib import Path

import dp_accounting
from dp_accounting import pld, rdp
from opacus.accountants import PRVAccountant, RDPAccountant

CASES = (
    # noise multiplier, share of the devices in a round, rounds, delta
    (1.3, 250 / 60000, 3600, 1e-5),
    (1.1, 256 / 60000, 14063, 1e-5),
    (1.0, 5000 / 763430, 4120, 1e-9),
    (1.0, 0.1, 100, 1e-5),
    (2.0, 0.1, 100, 1e-5),
    (1.0, 0.3, 50, 1e-3),
    (0.8, 0.01, 500, 1e-6),
    (0.6, 0.001, 1000, 1e-6),
    (10.0, 1.0, 50, 1e-5),
    (4.0, 1.0, 1, 1e-5),
    (1.0, 1.0, 1, 1e-5),
)
GAUSSIAN = [(sigma, k) for sigma in (1.0, 4.0, 8.0, 16.0) for k in (1, 5, 10, 20, 50)]
TREES = [(10.0, 1), (10.0, 7), (20.0, 8), (20.0, 100), (20.0, 1000)]
DELTA = 1e-5


def main() -> None:
    cases = [
        {
            "sigma": sigma,
            "share": share,
            "rounds": rounds,
            "delta": delta,
            "dp_accounting_rdp": _dp_accounting(rdp.RdpAccountant(), sigma, share, rounds, delta),
            "dp_accounting_pld": _dp_accounting(pld.PLDAccountant(), sigma, share, rounds, delta),
            "opacus_rdp": _opacus(RDPAccountant(), sigma, share, rounds, delta),
            "opacus_prv": _opacus(PRVAccountant(), sigma, share, rounds, delta),
        }
        for sigma, share, rounds, delta in CASES
    ]
    gaussian = [
        {
            "sigma": sigma,
            "participations": k,
            "delta": DELTA,
            "dp_accounting_pld": _dp_accounting(pld.PLDAccountant(), sigma, 1.0, k, DELTA),
        }
        for sigma, k in GAUSSIAN
    ]
    trees = [
        {
            "sigma": sigma,
            "rounds": rounds,
            "delta": DELTA,
            "dp_accounting_rdp": _tree(sigma, rounds),
        }
        for sigma, rounds in TREES
    ]
    versions = {name: version(name) for name in ("dp-accounting", "opacus", "torch")}
    found = {"versions": versions, "cases": cases, "gaussian": gaussian, "trees": trees}
    path = Path(__file__).with_name("oracles.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


def _dp_accounting(
    accountant: dp_accounting.PrivacyAccountant,
    sigma: float,
    share: float,
    rounds: int,
    delta: float,
) -> float:
    event = dp_accounting.GaussianDpEvent(sigma)
    if share < 1:
        event = dp_accounting.PoissonSampledDpEvent(share, event)
    return float(accountant.compose(event, rounds).get_epsilon(delta))


def _tree(sigma: float, rounds: int) -> float:
    event = dp_accounting.dp_event.SingleEpochTreeAggregationDpEvent(sigma, rounds)
    neighbours = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    accountant = rdp.RdpAccountant(neighboring_relation=neighbours)
    return float(accountant.compose(event).get_epsilon(DELTA))


def _opacus(
    accountant: RDPAccountant | PRVAccountant,
    sigma: float,
    share: float,
    rounds: int,
    delta: float,
) -> float:
    accountant.history = [(sigma, share, rounds)]
    return float(accountant.get_epsilon(delta=delta))


if __name__ == "__main__":
    main()
