"""Whether tests notice a mutant: each is judged in a process of its own.

The parent imports what is slow and does not depend on the file; a child is a fork of it, and starts
in milliseconds. There the module *is* the mutant, whoever imports it: the working tree is not
touched. The first test that fails ends the child.

Limits are of processor time, so that a busy machine judges as an idle one does. Hypothesis draws
the same examples each time, so that a verdict can be repeated.
"""

import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader  # noqa: TID251
from importlib.util import spec_from_file_location  # noqa: TID251
from itertools import islice
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NoReturn

import hypothesis.stateful
import pytest

from fedmqtt.effects import Seconds

MEMORY_BYTES = 4 << 30

FIRST_LIMIT_S = 60.0
"""For a test of the file itself, which is known to end."""

Outcome = Literal["killed", "hung", "survived"]


@dataclass(frozen=True, slots=True)
class Case:
    """A file, and the tests that are to notice when something in it is wrong."""

    root: Path
    path: str
    """Of the file, seen from the root."""
    tests: Sequence[str]
    """As pytest takes them, the cheapest first."""

    @property
    def module(self) -> str:
        return ".".join(Path(self.path).with_suffix("").parts)


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    test: str
    """Which test noticed; empty if none did."""
    longest_s: Seconds
    """Processor time of the longest test that ended."""
    output: str
    """What pytest printed."""


class Unusable(Exception):
    """These tests cannot judge; says why."""


def prepare(case: Case) -> Seconds:
    """A limit for each test, once the tests are seen to pass on the file and to fail without it.

    Raises Unusable otherwise.
    """
    source = (case.root / case.path).read_text()
    verdicts = dict(judge([source, "raise AssertionError"], case, FIRST_LIMIT_S, jobs=1))
    right, wrong = verdicts[0], verdicts[1]
    if right.outcome != "survived":
        raise Unusable(f"{right.output}\n{case.path} does not pass as it is: {right.test}")
    if wrong.outcome != "killed":
        raise Unusable(f"{case.path} passes without a line in it: its tests do not import it")
    # A mutant may make a test longer. One that hangs has no end.
    return 3 * right.longest_s + 2


def judge(
    sources: Iterable[str], case: Case, limit_s: Seconds, jobs: int
) -> Iterator[tuple[int, Verdict]]:
    """The verdict on each source in the place of the file, and its index; as they come."""
    assert case.module not in sys.modules, f"{case.module} has been imported already"
    waiting = enumerate(sources)
    running: dict[int, tuple[int, _Papers]] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            while True:
                for index, source in islice(waiting, jobs - len(running)):
                    papers = _Papers(Path(folder, f"{index}.out"), Path(folder, f"{index}.json"))
                    running[_start(source, case, limit_s, papers)] = index, papers
                if not running:
                    return
                pid, status = os.wait()
                index, papers = running.pop(pid)
                yield index, papers.verdict(status)
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


@dataclass(frozen=True, slots=True)
class _Papers:
    """What a child leaves behind."""

    output: Path
    witness: Path

    def verdict(self, status: int) -> Verdict:
        output = self.output.read_text(errors="replace")
        testimony = json.loads(self.witness.read_text()) if self.witness.exists() else {}
        self.output.unlink()
        self.witness.unlink(missing_ok=True)
        test, longest_s = testimony.get("test", ""), testimony.get("longest_s", 0.0)
        match os.waitstatus_to_exitcode(status):
            case pytest.ExitCode.OK:
                return Verdict("survived", "", longest_s, output)
            case code if code > 0 and test:
                # Also where a mutant cannot be imported and no test of a file is found.
                return Verdict("killed", test, longest_s, output)
            case code if code == -signal.SIGXCPU:
                return Verdict("hung", testimony.get("running", ""), longest_s, output)
            case code if code < 0 and code != -signal.SIGINT:
                return Verdict("killed", testimony.get("running", ""), longest_s, output)
            case code:
                raise Unusable(f"{output}\npytest ended with {code}")


# In the child


def _start(source: str, case: Case, limit_s: Seconds, papers: _Papers) -> int:
    pid = os.fork()
    if pid == 0:
        _judge_one(source, case, limit_s, papers)
    return pid


def _judge_one(source: str, case: Case, limit_s: Seconds, papers: _Papers) -> NoReturn:
    code = 70
    try:
        output = os.open(papers.output, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(case.root)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        hypothesis.settings.register_profile("mutants", _THE_SAME_EXAMPLES)
        hypothesis.settings.load_profile("mutants")
        sys.meta_path.insert(0, _Impostor(case, source))
        witness = _Witness(papers.witness, limit_s)
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={case.root}"]
        # Of what was imported before pytest could rewrite its assertions, and has none to rewrite.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        for test in case.tests:
            # One after the other: most mutants end before the next is so much as imported.
            code = int(pytest.main([*options, test], plugins=[witness]))
            if code != pytest.ExitCode.OK:
                break
        sys.stdout.flush()
    finally:
        # Never back into the parent's code.
        os._exit(code)


_THE_SAME_EXAMPLES = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    # Whether it fails is the question, not the shortest way there.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(hypothesis.HealthCheck),
)


class _Impostor:
    """Finds the mutant where Python looks for the module."""

    def __init__(self, case: Case, source: str) -> None:
        self._module = case.module
        self._loader = _Loader(case.module, str(case.root / case.path))
        self._loader.source = source

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        return spec_from_file_location(name, self._loader.path, loader=self._loader)


class _Loader(SourceFileLoader):
    source: str

    def get_code(self, fullname: str) -> CodeType:
        # Not through the cache of compiled files: that holds the file itself.
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _Witness:
    """A plugin of pytest: gives each test its time, and writes down which one failed first."""

    def __init__(self, path: Path, limit_s: Seconds) -> None:
        self._path = path
        self._limit_s = limit_s
        self._testimony: dict[str, Any] = {"running": "", "test": "", "longest_s": 0.0}
        self._give_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        began_s = time.process_time()
        self._give_time()
        self._write(running=item.nodeid)
        result = yield
        longest_s = max(self._testimony["longest_s"], time.process_time() - began_s)
        self._write(running="", longest_s=longest_s)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self._testimony["test"]:
            self._write(test=report.nodeid)

    def _give_time(self) -> None:
        # The kernel counts whole seconds.
        until_s = math.ceil(time.process_time() + self._limit_s)
        resource.setrlimit(resource.RLIMIT_CPU, (until_s, resource.RLIM_INFINITY))

    def _write(self, **changes: Any) -> None:
        self._testimony |= changes
        self._path.write_text(json.dumps(self._testimony))
