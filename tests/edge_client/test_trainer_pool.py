"""Trainers are processes: whatever a task does to its own, the agent hears of it and goes on."""

import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_client import trainer, training_job
from edge_client.outbox import Outbox
from edge_client.session import Answer
from edge_client.trainer_pool import Ticket, TrainerPool
from edge_client.training_job import Done, Failed, FromTrainer, Job, Progress
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Training, Update, read_from_client
from fedmqtt.topics import RoundId
from tests.edge_client.jobs import job, task_file
from tests.fedmqtt.peer import until
from tests.patience import WITHIN_S
from tests.programs import wait_until

SAY_PID = '(here / "pid").write_text(str(os.getpid()))'


class Person:
    """Somebody who hands in jobs and hears how they go."""

    def __init__(self, loop: EventLoop, pool: TrainerPool) -> None:
        self._loop = loop
        self._pool = pool
        self.heard: list[FromTrainer] = []

    def submit(self, job: Job) -> Ticket:
        return self._pool.submit(job, self.heard.append)

    def outcome(self, job: Job) -> FromTrainer:
        """Of this job, when it is done."""
        self.heard.clear()
        self.submit(job)
        return self.wait()

    def wait(self) -> FromTrainer:
        until(self._loop, lambda: bool(self.outcomes()), "an outcome")
        return self.outcomes()[-1]

    def outcomes(self) -> list[FromTrainer]:
        return [said for said in self.heard if not isinstance(said, Progress)]


Make = Callable[..., tuple[TrainerPool, Person]]


@pytest.fixture
def make(loop: EventLoop) -> Iterator[Make]:
    pools: list[TrainerPool] = []

    def make(**options: float) -> tuple[TrainerPool, Person]:
        pool = TrainerPool(loop, **options)  # type: ignore[arg-type]
        pools.append(pool)
        return pool, Person(loop, pool)

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def ann(make: Make) -> Person:
    return make()[1]


def _answers(folder: Path) -> tuple[Answer, ...]:
    return Outbox(folder / "outbox").answers()[0]


def _pid(folder: Path) -> int:
    return int((folder / "pid").read_text())


def _wait_for_end(pid: int) -> None:
    """Of a process that need not be our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], WITHIN_S)[0], f"process {pid} lives on"
    os.close(descriptor)


def _gate(folder: Path) -> Path:
    """What a task reads from waits there until the test opens it."""
    gate = folder / "gate"
    os.mkfifo(gate)
    return gate


# A job that goes well


def test_a_job_leaves_its_answer_in_the_outbox(ann: Person, tmp_path: Path) -> None:
    wanted = job(tmp_path, training=Training(epochs=20, batch_size=1))
    outcome = ann.outcome(wanted)
    (answer,) = _answers(tmp_path)
    assert outcome == Done(
        run=wanted.run, round=RoundId(1), digest=answer.digest, size_bytes=answer.size_bytes
    )
    assert isinstance(read_from_client(Outbox(tmp_path / "outbox").read(answer)), Update)
    fractions = [said.fraction for said in ann.heard if isinstance(said, Progress)]
    assert fractions == sorted(fractions)
    # Each is a wake-up of the device: one in twenty of the 1,200 steps is told.
    assert 15 <= len(fractions) <= 20


def test_an_idle_trainer_ends_at_once(ann: Person, loop: EventLoop, tmp_path: Path) -> None:
    assert isinstance(ann.outcome(job(tmp_path, task=task_file(tmp_path, "says", SAY_PID))), Done)
    _wait_until_reaped(loop, _pid(tmp_path))


def test_a_warm_trainer_does_the_next_job_too(make: Make, loop: EventLoop, tmp_path: Path) -> None:
    pool, ann = make(keep_warm_s=3600.0)
    says = task_file(tmp_path, "says", SAY_PID)
    pids = set()
    for number in (1, 2):
        assert isinstance(ann.outcome(job(tmp_path, task=says, round=RoundId(number))), Done)
        pids.add(_pid(tmp_path))
    assert len(pids) == 1
    pool.close()
    _wait_until_reaped(loop, pids.pop())


def test_a_warm_trainer_ends_when_it_has_been_idle_for_long_enough(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    _, ann = make(keep_warm_s=0.05)
    assert isinstance(ann.outcome(job(tmp_path, task=task_file(tmp_path, "says", SAY_PID))), Done)
    _wait_until_reaped(loop, _pid(tmp_path))


def test_trainers_give_way_to_others(make: Make, tmp_path: Path) -> None:
    _, ann = make(nice=7)
    lines = '(here / "nice").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))'
    assert isinstance(ann.outcome(job(tmp_path, task=task_file(tmp_path, "says", lines))), Done)
    assert (tmp_path / "nice").read_text() == "7"


def test_a_few_jobs_at_a_time_and_all_in_the_end(make: Make, tmp_path: Path) -> None:
    _, ann = make(size=2, keep_warm_s=3600.0)
    for number in range(6):
        ann.submit(job(tmp_path, round=RoundId(number)))
    until(ann._loop, lambda: len(ann.outcomes()) == 6)
    assert [answer.round for answer in _answers(tmp_path)] == [0, 1, 2, 3, 4, 5]


def test_evaluations_come_before_trainings_that_wait(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    pool, _ = make(keep_warm_s=3600.0)
    gate = _gate(tmp_path)
    waits = task_file(tmp_path, "waits", '(here / "gate").read_text()')
    done: list[int] = []

    def report(said: FromTrainer) -> None:
        if isinstance(said, Done):
            done.append(said.round)

    jobs = [
        job(tmp_path, task=waits, round=RoundId(1)),
        job(tmp_path, round=RoundId(2)),
        job(tmp_path, round=RoundId(3)),
        job(tmp_path, round=RoundId(4), purpose="evaluate"),
    ]
    for each in jobs:
        pool.submit(each, report)
    gate.write_text("")
    until(loop, lambda: len(done) == 4)
    assert done[:2] == [1, 4]


# A job that does not


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('raise TaskError("no heartbeat in the data")', "no heartbeat in the data"),
        ('raise ValueError("bad day")', "the task failed: ValueError: bad day"),
        ("raise MemoryError", "the device has not enough memory for this"),
        ("os._exit(3)", "the trainer ended with exit code 3; its log says why"),
        ("sys.exit(4)", "the trainer ended with exit code 4; its log says why"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "the trainer was killed by SIGKILL, perhaps for lack of memory",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the trainer was killed by SIGSEGV"),
        (
            "resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))",
            "the answer cannot be kept in {folder}/outbox: File too large",
        ),
    ],
)
def test_what_went_wrong_is_told_and_the_next_job_is_done(
    make: Make, tmp_path: Path, lines: str, reason: str
) -> None:
    _, ann = make(keep_warm_s=0.0)
    bad = job(tmp_path, task=task_file(tmp_path, "bad", lines))
    assert ann.outcome(bad) == Failed(reason=reason.format(folder=tmp_path))
    assert _answers(tmp_path) == ()
    assert list((tmp_path / "outbox").iterdir()) == []
    assert isinstance(ann.outcome(job(tmp_path)), Done)


def test_a_training_that_diverges_says_what_to_do(ann: Person, tmp_path: Path) -> None:
    wild = Training(epochs=50, learning_rate=1e6, weight_decay=1e3)
    assert ann.outcome(job(tmp_path, training=wild)) == Failed(
        reason="the loss became nan: lower the learning rate or correct the data"
    )


def test_a_task_that_is_not_there_says_where_it_was_looked_for(ann: Person, tmp_path: Path) -> None:
    outcome = ann.outcome(job(tmp_path, task=str(tmp_path / "none.py")))
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith(f"there is no task file {tmp_path}/none.py")


def test_what_a_task_prints_goes_to_the_log_and_not_into_the_pipe(
    ann: Person, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = 'print("hello"); os.write(1, b"raw\\n"); subprocess.run(["echo", "child"])'
    assert isinstance(ann.outcome(job(tmp_path, task=task_file(tmp_path, "talks", lines))), Done)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["hello", "raw", "child"]


def test_an_exception_of_the_task_is_in_the_log_with_its_place(
    ann: Person, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ann.outcome(job(tmp_path, task=task_file(tmp_path, "bad", 'raise ValueError("bad day")')))
    err = capfd.readouterr().err
    assert "bad.py" in err
    assert "ValueError: bad day" in err


def test_a_trainer_that_cannot_be_started_is_a_failure_of_the_job(
    ann: Person, loop: EventLoop, tmp_path: Path
) -> None:
    wanted = job(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        ann.submit(wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ann.heard == []
    assert ann.wait() == Failed(reason="the trainer cannot be started: Too many open files")
    assert isinstance(ann.outcome(wanted), Done)


# A job that is no longer wanted


def test_a_job_that_is_stopped_is_not_heard_of_again(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    pool, ann = make(keep_warm_s=3600.0)
    endless = job(tmp_path, training=Training(epochs=10_000, batch_size=1))
    ticket = ann.submit(endless)
    until(loop, lambda: bool(ann.heard), "progress")
    pool.cancel(ticket)
    heard = len(ann.heard)
    # The next job is done, and by the same process: it gave up the first by itself.
    assert isinstance(Person(loop, pool).outcome(job(tmp_path, round=RoundId(2))), Done)
    assert len(ann.heard) == heard
    assert [answer.round for answer in _answers(tmp_path)] == [2]


@pytest.mark.parametrize("sleep", ["time.sleep(1000)", "while True: pass"])
def test_a_task_that_does_not_listen_is_killed(
    make: Make, loop: EventLoop, tmp_path: Path, sleep: str
) -> None:
    pool, ann = make(stop_grace_s=0.05)
    gate = _gate(tmp_path)
    deaf = task_file(tmp_path, "deaf", f'{SAY_PID}\n(here / "gate").read_text()\n{sleep}')
    ticket = ann.submit(job(tmp_path, task=deaf))
    gate.write_text("")
    pool.cancel(ticket)
    assert isinstance(Person(loop, pool).outcome(job(tmp_path)), Done)
    _wait_until_reaped(loop, _pid(tmp_path))
    assert ann.heard == []


def test_a_job_that_waits_is_cancelled_without_having_begun(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    pool, ann = make(keep_warm_s=3600.0)
    gate = _gate(tmp_path)
    waits = task_file(tmp_path, "waits", '(here / "gate").read_text()')
    ann.submit(job(tmp_path, task=waits, round=RoundId(1)))
    pool.cancel(ann.submit(job(tmp_path, round=RoundId(2))))
    ann.submit(job(tmp_path, round=RoundId(3)))
    gate.write_text("")
    until(loop, lambda: len(ann.outcomes()) == 2)
    assert [answer.round for answer in _answers(tmp_path)] == [1, 3]


def test_a_job_that_is_finished_in_the_moment_it_is_cancelled_leaves_nothing(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    pool, bob = make(keep_warm_s=3600.0)
    heard: list[FromTrainer] = []

    def cancel_at_the_end(said: FromTrainer) -> None:
        heard.append(said)
        if isinstance(said, Progress) and said.fraction == 1.0:
            pool.cancel(ticket)

    ticket = pool.submit(job(tmp_path, training=Training(batch_size=30)), cancel_at_the_end)
    until(loop, lambda: ticket.report is None, "the last progress")
    assert isinstance(bob.outcome(job(tmp_path, round=RoundId(2))), Done)
    assert [answer.round for answer in _answers(tmp_path)] == [2]
    assert not any(isinstance(said, Done | Failed) for said in heard)


def test_an_answer_nobody_wants_that_cannot_be_removed_is_told_and_no_more(
    make: Make, loop: EventLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool, bob = make(keep_warm_s=3600.0)
    outbox = tmp_path / "outbox"

    def cancel_and_hold_on_to_it(said: FromTrainer) -> None:
        if isinstance(said, Progress) and said.fraction == 1.0:
            pool.cancel(ticket)
            wait_until(lambda: bool(list(outbox.glob("*.answer"))))
            (path,) = outbox.glob("*.answer")
            path.unlink()
            path.mkdir()

    ticket = pool.submit(job(tmp_path, training=Training(batch_size=30)), cancel_and_hold_on_to_it)
    until(loop, lambda: ticket.report is None, "the last progress")
    assert isinstance(bob.outcome(job(tmp_path, round=RoundId(2))), Done)
    (told,) = [record for record in caplog.records if "Is a directory" in record.message]
    assert (told.name, told.levelname) == ("client.ann", "ERROR")
    assert told.message.startswith("outbox: ")


def test_closing_ends_all_at_once_and_says_nothing(
    make: Make, loop: EventLoop, tmp_path: Path
) -> None:
    pool, ann = make()
    gate = _gate(tmp_path)
    deaf = task_file(tmp_path, "deaf", f'{SAY_PID}\n(here / "gate").read_text()\ntime.sleep(1000)')
    ann.submit(job(tmp_path, task=deaf))
    ann.submit(job(tmp_path, round=RoundId(2)))
    gate.write_text("")
    pool.close()
    _wait_until_reaped(loop, _pid(tmp_path))
    assert ann.heard == []


# A trainer without its agent

_AGENT = """
import sys
from pathlib import Path
from edge_client.trainer_pool import TrainerPool
from fedmqtt.event_loop import EventLoop
from tests.edge_client.jobs import job
loop = EventLoop()
TrainerPool(loop).submit(job(Path({folder!r}), task={task!r}), print)
loop.run()
"""


_HOLDS_THE_INTERPRETER = "import ctypes; ctypes.PyDLL(None).sleep(1000)"


@pytest.mark.parametrize(
    "then",
    [
        "time.sleep(1000)",
        "while True: pass",
        "while True: progress(0)",
        pytest.param(
            _HOLDS_THE_INTERPRETER,
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="only Linux ends a process with its parent"
            ),
        ),
    ],
)
def test_a_trainer_ends_with_its_agent_even_if_that_is_killed(tmp_path: Path, then: str) -> None:
    gate = _gate(tmp_path)
    task = task_file(tmp_path, "endless", f'{SAY_PID}\n(here / "gate").read_text()\n{then}')
    code = _AGENT.format(folder=str(tmp_path), task=task)
    with subprocess.Popen([sys.executable, "-c", code]) as agent:
        gate.write_text("")
        agent.send_signal(signal.SIGKILL)
    _wait_for_end(_pid(tmp_path))


def test_a_job_of_an_agent_that_was_killed_meanwhile_is_not_begun(tmp_path: Path) -> None:
    """As while the trainer was starting: it hears of both at once, and would train for nobody."""
    incoming, from_agent = os.pipe()
    os.write(from_agent, training_job.pack(job(tmp_path)))
    os.close(from_agent)
    before = threading.active_count()
    agent = trainer._Agent(incoming, os.open(os.devnull, os.O_WRONLY))
    wait_until(lambda: threading.active_count() == before)
    assert agent.next_job() is None


def _wait_until_reaped(loop: EventLoop, pid: int) -> None:
    """Until the process has ended and its pool has noticed."""

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(loop, is_gone, f"the end of process {pid}")


# A task that writes where it should not


def test_a_task_that_writes_into_its_trainer_s_pipe_fails_and_nobody_else(
    ann: Person, tmp_path: Path
) -> None:
    into_every_pipe = """
import stat
for file in range(3, 64):
    try:
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            os.write(file, b"epoch 1: loss 0.5\\n")
    except OSError:
        pass"""
    writes = task_file(tmp_path, "writes", into_every_pipe)
    failed = ann.outcome(job(tmp_path, task=writes))
    assert isinstance(failed, Failed) and "pipe was written to by somebody else" in failed.reason
    assert isinstance(ann.outcome(job(tmp_path, round=RoundId(2))), Done)


def test_a_trainer_ends_when_what_it_hears_is_no_order() -> None:
    trainer = subprocess.Popen(
        [sys.executable, "-m", "edge_client.trainer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    # Its stdin stays open: it ends by what it hears, and not for having nobody to hear.
    assert trainer.stdin is not None and trainer.stdout is not None
    trainer.stdin.write(b"train!\n")
    trainer.stdin.flush()
    assert trainer.wait(WITHIN_S) == 0
    assert trainer.stdout.read() == b""
    trainer.stdin.close()
    trainer.stdout.close()
