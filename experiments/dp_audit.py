"""Is the noise as good as promised? An attack that must not do better than the claimed epsilon.

Canaries: as many devices as the model has numbers, each of which changes a number of its own as far
as the clip norm lets it, and nothing else. A coin decides of each whether it takes part, in every
round. The attacker sees each round's mean with its noise, knows all of this but the coins, and says
of each device whether it was there. How often it is right, and wrong, bounds epsilon from below:
with confidence 0.95 (Clopper and Pearson 1934, by half for each rate),

    epsilon >= log((true positives - delta) / false positives)        and so for the negatives

Where it claims a device is decided on half of the canaries, and judged on the other half. The noise
of numbers is independent, so that each canary is a trial of its own; with that, what Steinke, Nasr
and Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, do in general is simple.

The sums are `coordinator/noise/private_sum.py`'s, and under masks those that keyholders open: there
the attacker is a coordinator that works with one keyholder of three, and subtracts the noise that
this one knows; or who has the models alone, and knows none.

Each mechanism is attacked as it is, and with half of the noise that was claimed: that must be
caught.

  python experiments/dp_audit.py
  python experiments/dp_audit.py --canaries 1000000 --seed 5

Takes five minutes, most of them for the keyholders' noise. Prints a table, and the result as JSON
on the last line.
"""

import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from coordinator.noise import differential_privacy
from coordinator.noise.differential_privacy import DifferentialPrivacy, Plan
from coordinator.noise.private_sum import PrivateRound, PrivateSum
from experiments import keyholder_noise, program
from experiments.tables import markdown
from fedmqtt.messages import Masking
from fedmqtt.privacy import tree

DELTA = 1e-5
CONFIDENCE = 0.95
_THRESHOLDS = 60
_STEPS = 60

Scores = NDArray[np.float64]
Coins = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    noise_multiplier: float
    rounds: int
    mechanism: str = "independent"
    adaptive: bool = False
    masked: Literal["", "coalition", "models"] = ""
    """With noise by keyholders: who attacks."""


CASES = (
    Case("one round", 1.0, 1),
    Case("one round, adaptive clipping", 1.0, 1, adaptive=True),
    Case("four rounds", 2.0, 4),
    Case("sixteen rounds", 4.0, 16),
    Case("tree of eight rounds, in one of them", 2.0, 8, mechanism="tree"),
    Case("keyholders, against the coordinator and one", 1.0, 1, masked="coalition"),
    Case("the same, four rounds", 2.0, 4, masked="coalition"),
    Case("keyholders, against who has the models", 1.0, 1, masked="models"),
)


@dataclass(frozen=True, slots=True)
class Audit:
    name: str
    claimed: float
    """Epsilon at `DELTA`."""
    found: float
    """A lower bound on what it truly is."""
    found_with_half_the_noise: float

    @property
    def is_honest(self) -> bool:
        return self.found <= self.claimed

    @property
    def is_caught(self) -> bool:
        return self.found_with_half_the_noise > self.claimed


def audit(case: Case, canaries: int, seed: int) -> Audit:
    if case.masked:
        return _audit_masked(case, canaries, seed)
    claimed = plan(case)
    halved = replace(claimed, sigma=claimed.sigma / 2)
    return Audit(
        case.name,
        claimed.epsilon_max,
        lower_bound(*attack(case, claimed, canaries, seed)),
        lower_bound(*attack(case, halved, canaries, seed)),
    )


def _audit_masked(case: Case, canaries: int, seed: int) -> Audit:
    chosen = DifferentialPrivacy(
        noise="keyholders",
        noise_multiplier=case.noise_multiplier,
        participations_max=case.rounds,
        delta=DELTA,
    )
    made, how = keyholder_noise.settled(chosen, canaries, clients=100, rounds=case.rounds)
    told = made.plan.epsilon if case.masked == "coalition" else made.plan.epsilon_of_models
    halved = structs.replace(how, noise=how.noise / 2)
    return Audit(
        case.name,
        told(case.rounds, case.rounds, canaries),
        lower_bound(*attack_masked(case, how, canaries, seed)),
        lower_bound(*attack_masked(case, halved, canaries, seed)),
    )


def attack_masked(case: Case, how: Masking, canaries: int, seed: int) -> tuple[Scores, Coins]:
    """As `attack`."""
    coins = np.random.default_rng([seed, canaries]).random(canaries) < 0.5
    spike = np.array([how.norm_max], np.float32)
    # What it sends elsewhere is 0, and all are alike: their sum is made at once.
    (steps, *_) = keyholder_noise.words_of(how, spike).tolist()
    total = (coins * np.uint32(steps)).astype(np.uint32)
    scores: Scores = np.zeros(canaries)
    for number in range(1, case.rounds + 1):
        clients = keyholder_noise.drawn_seeds(how, (seed, number))
        found = keyholder_noise.opened(how, clients, number, total)
        if case.masked == "coalition":
            # The keyholder in the first place lacks the first seed, and holds the others.
            for known in keyholder_noise.noises(how, clients, number, canaries)[1:]:
                found -= known
        scores += found.view(np.int32)
    return scores, coins


def plan(case: Case) -> Plan:
    chosen = DifferentialPrivacy(
        noise="central",
        noise_multiplier=case.noise_multiplier,
        participations_max=1 if case.mechanism == "tree" else case.rounds,
        delta=DELTA,
        adaptive=case.adaptive,
        mechanism="tree" if case.mechanism == "tree" else "independent",
    )
    made = differential_privacy.plan(chosen, case.rounds)
    assert made is not None
    return made


def attack(case: Case, made: Plan, canaries: int, seed: int) -> tuple[Scores, Coins]:
    """How much each device seems to have been there, and whether it was."""
    coins = np.random.default_rng([seed, canaries]).random(canaries) < 0.5
    # Of a tree: as the device that is in the first round alone.
    told_by = _weights(case)
    scores: Scores = np.zeros(canaries)
    memory: dict[str, NDArray[np.generic]] = {}
    for number in range(1, case.rounds + 1):
        key = f"known to the attacker's judge, {seed}".encode().ljust(32)
        added = PrivateSum(canaries, PrivateRound(made, key, number, memory, norm_max=1e6))
        is_in = case.mechanism == "independent" or number == 1
        change = np.array([made.clip_norm], np.float32)
        for place in np.flatnonzero(coins) if is_in else ():
            added.add_at(np.array([place]), change, 1)
        if not added.weight:
            # Somebody of no interest is in every round.
            added.add(np.zeros(canaries, np.float32), 1)
        scores += (float(told_by[number - 1]) * added.weight) * added.mean()
    return scores, coins


def _weights(case: Case) -> NDArray[np.float64]:
    """By which the rounds tell most: of signal s under noise of covariance S, S^-1 s."""
    if case.mechanism == "independent":
        return np.ones(case.rounds)
    nodes = sorted({node for t in range(1, case.rounds + 1) for node in tree.covering(t)})
    one = np.eye(len(nodes), dtype=np.int64)
    mixed = np.array(
        [
            tree.increment(t, len(nodes), lambda node: one[nodes.index(node)])
            for t in range(1, case.rounds + 1)
        ],
        np.float64,
    )
    signal = np.zeros(case.rounds)
    signal[0] = 1
    return np.asarray(np.linalg.solve(mixed @ mixed.T, signal), np.float64)


def lower_bound(scores: Scores, coins: Coins) -> float:
    """On epsilon at `DELTA`; 0 where nothing is shown."""
    half = scores.size // 2
    first, second = slice(0, half), slice(half, None)
    best = max(
        np.quantile(scores[first], np.linspace(0.0005, 0.9995, _THRESHOLDS)),
        key=lambda threshold: _bound_at(float(threshold), scores[first], coins[first]),
    )
    return max(0.0, _bound_at(float(best), scores[second], coins[second]))


def _bound_at(threshold: float, scores: Scores, coins: Coins) -> float:
    positives = scores > threshold
    there, away = int(coins.sum()), int((~coins).sum())
    true, false = int((positives & coins).sum()), int((positives & ~coins).sum())
    return max(
        _log_ratio(true, there, false, away),
        _log_ratio(away - false, away, there - true, there),
    )


def _log_ratio(right: int, of_those: int, wrong: int, of_these: int) -> float:
    rate = 1 - highest(of_those - right, of_those)
    return math.log((rate - DELTA) / highest(wrong, of_these)) if rate > DELTA else -math.inf


def highest(count: int, trials: int, error: float = (1 - CONFIDENCE) / 2) -> float:
    """The largest rate at which so few of so many are no less likely than `error`."""
    if count >= trials:
        return 1.0
    counts = np.arange(count + 1)
    logs = np.array([_log_choose(trials, int(k)) for k in counts])
    low, high = count / trials, 1.0
    for _ in range(_STEPS):
        rate = (low + high) / 2
        terms = logs + counts * math.log(rate) + (trials - counts) * math.log1p(-rate)
        if np.exp(terms).sum() >= error:
            low = rate
        else:
            high = rate
    return high


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def main() -> None:
    arguments = program.parser(__doc__)
    arguments.add_argument("--canaries", type=int, default=200_000, help="devices, and numbers")
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args()
    found = []
    for case in CASES:
        sys.stderr.write(f"{case.name} ...\n")
        found.append(audit(case, asked.canaries, asked.seed))
    head = ["mechanism", "claimed epsilon", "at least", "at least, with half the noise"]
    rows = [
        [
            one.name,
            f"{one.claimed:.2f}",
            f"{one.found:.2f}",
            f"{one.found_with_half_the_noise:.2f}{', caught' if one.is_caught else ''}",
        ]
        for one in found
    ]
    print(markdown(head, rows))
    program.print_result("dp_audit", audits=[asdict(one) for one in found])


if __name__ == "__main__":
    main()
