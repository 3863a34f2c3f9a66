"""`make fuzz`: hostile bytes for each decoder for a while, guided by which lines they reach.

    decoder               executions     findings
    offer                    412,345            0
    ...

Exit code 1 where anything was found. The bytes are kept in runs/fuzz, and a line says how to try
them again.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.table import DECODERS

KEPT = Path("runs") / "fuzz"

_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_MEMORY_MB = 2048
_LONGEST_S = 30
"""For one input. A decoder that takes longer is a finding too."""
_GRACE_S = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    executions: int
    found: tuple[Path, ...]
    trouble: str = ""
    """Why it did not run as it should."""


def run(name: str, seconds: int, kept: Path) -> Outcome:
    """Try one decoder. What is found is kept in that folder."""
    kept = kept / name
    kept.mkdir(parents=True, exist_ok=True)
    before = set(kept.iterdir())
    with tempfile.TemporaryDirectory() as grown:
        # Formats grow: what was committed may lack a field that messages have today.
        corpus.write(DECODERS[name], Path(grown))
        flags = [
            grown,
            *(
                str(folder / name)
                for folder in (corpus.CORPUS, corpus.FOUND)
                if (folder / name).is_dir()
            ),
            f"-max_total_time={seconds}",
            f"-timeout={_LONGEST_S}",
            f"-rss_limit_mb={_MEMORY_MB}",
            f"-artifact_prefix={kept}/",
            "-print_final_stats=1",
            "-max_len=65536",
        ]
        ran = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.target", name, *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds + _LONGEST_S + _GRACE_S,
        )
    found = tuple(sorted(set(kept.iterdir()) - before))
    kept.with_suffix(".log").write_text(ran.stderr)
    return outcome(name, ran.returncode, ran.stderr, found)


def outcome(name: str, code: int, said: str, found: tuple[Path, ...]) -> Outcome:
    """From how libFuzzer ended, and what it said."""
    executed = _EXECUTED.search(said)
    trouble = ""
    if executed is None or (code and not found):
        told = [line for line in said.splitlines() if line.strip()]
        trouble = f"it ended with {code}: {told[-1] if told else 'without a word'}"
    return Outcome(name, int(executed[1]) if executed else 0, found, trouble)


def repeat(name: str, path: Path) -> int:
    """1 with the traceback where it is a finding still."""
    taken = DECODERS[name].takes(path.read_bytes())
    sys.stdout.write(f"{name}: {'taken' if taken else 'refused, as it should be'}\n")
    return 0


def report(found: Outcome) -> str:
    lines = [f"{found.name:22} {found.executions:>12,} {len(found.found):>12}"]
    if found.trouble:
        lines.append(f"  did not run: {found.trouble}")
    lines += [
        f"  {path}; again: python -m tests.fuzz --repeat {found.name} {path}"
        for path in found.found
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(DECODERS)}; none: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where findings are kept")
    parser.add_argument("--repeat", nargs=2, metavar=("NAME", "FILE"), help="try a file once")
    parser.add_argument("--write-corpus", action="store_true", help="make tests/fuzz/corpus anew")
    asked = parser.parse_args(words)
    if unknown := sorted({*asked.names, *(asked.repeat or ())[:1]} - DECODERS.keys()):
        parser.error(f"there is no {unknown[0]}; choose from: {', '.join(DECODERS)}")
    names = asked.names or list(DECODERS)
    if asked.repeat:
        return repeat(asked.repeat[0], Path(asked.repeat[1]))
    if asked.write_corpus:
        for name in names:
            count = corpus.write(DECODERS[name], corpus.CORPUS / name)
            sys.stdout.write(f"{name}: {count} seeds\n")
        return 0
    sys.stdout.write(f"{'decoder':22} {'executions':>12} {'findings':>12}\n")
    outcomes = []
    for name in names:
        outcomes.append(run(name, asked.seconds, asked.kept))
        sys.stdout.write(report(outcomes[-1]) + "\n")
        sys.stdout.flush()
    count = sum(len(one.found) for one in outcomes)
    executions = sum(one.executions for one in outcomes)
    sys.stdout.write(f"{'in all':22} {executions:>12,} {count:>12}\n")
    return 1 if any(one.found or one.trouble for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
