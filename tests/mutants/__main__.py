"""Which small mistakes in the machines would no test notice?

python -m tests.mutants                            all of them; fails if 95% are not noticed
python -m tests.mutants edge_client/session.py     of one file
python -m tests.mutants --list coordinator/rounds/closing.py
python -m tests.mutants --only 17 coordinator/rounds/closing.py   one mutant, and what pytest says
python -m tests.mutants some/file.py --tests tests/some     judged by other tests

Runs in the folder whose files are meant, that is the root of the repository.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants import equivalents
from tests.mutants.judge import Case, Unusable, Verdict, judge, prepare
from tests.mutants.mutate import Mutant, mutants

ENOUGH = 0.95

STORMS = (
    "tests/fleet_sim/test_storms.py"
    "::test_promises_hold_in_any_weather_and_the_run_ends_when_it_calms"
)
STORM_COUNT = 40

SESSION = (
    "tests/edge_client/test_session_scripts.py",
    "tests/edge_client/test_session.py",
    "tests/fedmqtt/test_own_presence.py",
    "tests/edge_client/test_session_properties.py",
    STORMS,
)

ROUND_PARTS = (
    *("state", "effects", "opening", "answers", "closing", "reminding", "replies", "step"),
)

ROUNDS = (
    "tests/coordinator/test_round_scripts.py",
    "tests/coordinator/test_rounds.py",
    "tests/coordinator/test_round_properties.py",
    STORMS,
)

TESTS: dict[str, Sequence[str]] = {
    **{f"coordinator/rounds/{part}.py": ROUNDS for part in ROUND_PARTS},
    "coordinator/roster.py": (
        "tests/coordinator/test_roster.py",
        "tests/coordinator/test_round_scripts.py",
        "tests/coordinator/test_round_properties.py",
        STORMS,
    ),
    "coordinator/leadership.py": (
        "tests/coordinator/test_leadership.py",
        "tests/coordinator/test_leadership_limits.py",
        "tests/coordinator/test_leadership_properties.py",
    ),
    "coordinator/sums/late.py": ("tests/coordinator/sums/test_late.py",),
    "coordinator/workers/lanes.py": (
        "tests/coordinator/workers/test_lanes.py",
        "tests/coordinator/workers/test_workers_properties.py",
    ),
    "coordinator/workers/intake.py": (
        "tests/coordinator/workers/test_intake.py",
        "tests/coordinator/workers/test_workers_properties.py",
    ),
    "coordinator/workers/namesake.py": ("tests/coordinator/workers/test_namesake.py",),
    "coordinator/fleet_size.py": ("tests/coordinator/test_fleet_size.py",),
    "fedmqtt/sortition.py": ("tests/fedmqtt/test_sortition.py",),
    "edge_client/session.py": SESSION,
    "fedmqtt/own_presence.py": SESSION,
}
"""What decides, and who should notice when it decides otherwise: the cheapest first, where most
mutants end."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parse(arguments)
    cases = [Case(Path.cwd(), file, given.tests or TESTS[file]) for file in given.files or TESTS]
    try:
        if given.list:
            return _list(cases)
        if given.only:
            return _only(cases[0], given.only)
        return 0 if all([_check(case, given.jobs) for case in cases]) else 1
    except Unusable as unusable:
        print(unusable, file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--list", action="store_true", help="say what would be tried")
    parser.add_argument("--only", type=int, metavar="N", help="the N-th of the list alone")
    parser.add_argument("--tests", nargs="+", help="the tests that judge, instead of the usual")
    given = parser.parse_args(arguments)
    unknown = [file for file in given.files if file not in TESTS]
    if unknown and not given.tests:
        parser.error(f"which --tests judge {unknown[0]}?")
    if given.only and len(given.files) != 1:
        parser.error("--only needs one file, whose mutants --list numbers")
    return given


def _list(cases: Sequence[Case]) -> int:
    for case in cases:
        for number, mutant in enumerate(mutants(case.root, case.path), start=1):
            print(f"{number}. {_told(mutant)}")
    return 0


def _only(case: Case, number: int) -> int:
    mutant = mutants(case.root, case.path)[number - 1]
    [(_, verdict)] = judge([mutant.source], case, prepare(case), jobs=1)
    print(f"{verdict.output}\n{_told(mutant)}\n{verdict.outcome} {verdict.test}".rstrip())
    return 0 if verdict.outcome != "survived" else 1


def _check(case: Case, jobs: int) -> bool:
    """Tries all mutants of the file. Whether enough of them were noticed."""
    found = mutants(case.root, case.path)
    same = {text for text in equivalents.read() if text.startswith(f"{case.path} ")}
    limit_s = prepare(case)
    progress = _Progress(case.path, len(found))
    verdicts: dict[int, Verdict] = {}
    for index, verdict in judge((one.source for one in found), case, limit_s, jobs):
        verdicts[index] = verdict
        progress.one_more(verdict)
    return report(case.path, [(one, verdicts[index]) for index, one in enumerate(found)], same)


def report(path: str, judged: Sequence[tuple[Mutant, Verdict]], same: set[str]) -> bool:
    """Tells what came of them. True if enough were noticed and `same` is right about the others."""
    noticed = [one for one in judged if one[1].outcome != "survived"]
    survivors = [mutant for mutant, verdict in judged if verdict.outcome == "survived"]
    missed = [mutant for mutant in survivors if mutant.text not in same]
    wrong = [mutant for mutant, _ in noticed if mutant.text in same]
    stale = same - {mutant.text for mutant, _ in judged}
    for mutant in missed:
        print(f"\n# Nobody noticed.\n{_told(mutant)}")
    for mutant in wrong:
        print(f"\n# Noticed, though equivalents.txt says that nobody can.\n{_told(mutant)}")
    for text in sorted(stale):
        print(f"\n# In equivalents.txt, and no mutant any more.\n{text}")
    outcomes = Counter(verdict.outcome for _, verdict in judged)
    by = Counter(Path(verdict.test.partition("::")[0]).name for _, verdict in noticed)
    counted = len(noticed) + len(missed)
    share = len(noticed) / counted
    print(
        f"\n{path}: {len(noticed)} of {counted} noticed, {share:.1%};"
        f" killed {outcomes['killed']}, hung {outcomes['hung']}, survived {len(missed)},"
        f" equivalent {len(survivors) - len(missed)}"
    )
    print("noticed by", ", ".join(f"{test} {count}" for test, count in by.most_common()) or "none")
    return share >= ENOUGH and not wrong and not stale


def _told(mutant: Mutant) -> str:
    place = f"{mutant.path}:{mutant.line} {mutant.place}".rstrip()
    return f"{place}, {mutant.operator}\n- {mutant.before}\n+ {mutant.after}"


class _Progress:
    def __init__(self, path: str, count: int) -> None:
        self._path = path
        self._count = count
        self._done = self._survived = 0
        self._began = time.monotonic()

    def one_more(self, verdict: Verdict) -> None:
        self._done += 1
        self._survived += verdict.outcome == "survived"
        on_screen = sys.stdout.isatty()
        if on_screen or self._done % 100 == 0 or self._done == self._count:
            spent_s = time.monotonic() - self._began
            left_s = spent_s / self._done * (self._count - self._done)
            sys.stdout.write(
                f"{self._path}: {self._done} of {self._count} mutants, {self._survived} survived,"
                f" {left_s:.0f} s left   " + ("\r" if on_screen else "\n")
            )
            sys.stdout.flush()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set decides which example shows a mistake: it must be the same each time.
        chance = {"PYTHONHASHSEED": "0", "FEDMQTT_STORM_SEEDS": str(STORM_COUNT)}
        command = [sys.executable, "-m", "tests.mutants", *sys.argv[1:]]
        os.execve(sys.executable, command, chance | os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main())
