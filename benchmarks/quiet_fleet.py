"""Rounds of a quiet fleet, simulated: how many are drawn, begin and answer, and what is inferred.

    python benchmarks/quiet_fleet.py --clients 1000000 --there 0.05

The rounds are those of the coordinator's machine. Times are virtual; who is not drawn does nothing,
so that a million clients take half a second a round.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fedmqtt.topics import ClientId, RoundId
from fleet_sim import quiet_fleet
from fleet_sim.quiet_fleet import Fleet

_COLUMNS = (
    f"{'round':>5} {'drawn':>8} {'able':>7} {'begun':>7} {'answered':>8} {'outcome':>9}"
    f" {'seconds':>8} {'offer':>6}  would answer, as believed"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--declared", type=int, help="unless given, as many as there are")
    parser.add_argument("--there", type=float, default=0.05, help="share of them that can answer")
    parser.add_argument(
        "--night",
        type=float,
        help="so many in rounds 11 to 20, 31 to 40, ...; unless given, as many",
    )
    parser.add_argument("--cohort", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    night = told.there if told.night is None else told.night

    def there(number: RoundId) -> float:
        return night if (number - 1) // 10 % 2 else float(told.there)

    clients = [ClientId(f"device-{number:07}") for number in range(told.clients)]
    rules = quiet_fleet.rules(told.declared or told.clients, told.cohort, told.rounds)
    print(_COLUMNS)
    for seen in quiet_fleet.simulate(Fleet(clients=clients, there=there), rules, told.seed):
        size = seen.expected
        print(
            f"{seen.round:5} {seen.drawn:8,} {seen.able:7,} {seen.begun:7,} {seen.answered:8,}"
            f" {seen.outcome:>9} {seen.duration_s:8.0f} {seen.offer_bytes:5} B"
            f"  {size.size:,} ({size.low:,} to {size.high:,})"
        )


if __name__ == "__main__":
    main()
