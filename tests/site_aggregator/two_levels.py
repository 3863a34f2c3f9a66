"""A federation of two levels: real programs, real brokers, whose trainings end when a test says so.

ann, bob ──▶ north ─┐
cat, dan ──▶ south ─┼──▶ centre
eve ────────────────┘
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.persistence import history
from coordinator.persistence.history import Record
from tests.gated import BEFORE_TRAINING
from tests.programs import Program, running

TASK = """
CLASS_NAMES = ("no", "yes")

def initial_weights(seed):
    return {"age": np.zeros(1, np.float32), "w": np.linspace(-1, 1, 300, dtype=np.float32)}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    wait_for_gate(data_dir, client, round(float(weights["age"][0])) + 1, progress)
    noise = np.random.default_rng(seed).normal(0, 0.1, 300).astype(np.float32)
    after = weights["w"] * np.float32(0.9) + noise
    return Trained({"age": weights["age"] + 1, "w": after}, 10 + ord(client[0]), {"loss": 0.5})
"""
"""What it makes of a model depends on the seed of its round: chance is the same, or it shows."""

MEASURES = """
from learning_tasks.seam import Evaluated

def evaluate(weights, data):
    return Evaluated(10, {"loss": float(np.abs(weights["w"]).mean())}, [[3, 2], [1, 4]])
"""

SITES = {"north": ("ann", "bob"), "south": ("cat", "dan")}
DEVICES = ("ann", "bob", "cat", "dan", "eve")
PATIENT = "link.resend_s=1"


@dataclass(frozen=True, slots=True)
class Federation:
    """In one folder, with one task for all."""

    folder: Path
    name: str
    rounds: int
    codec: str = "int8"

    def __post_init__(self) -> None:
        self.gates.mkdir(parents=True)
        self.task.write_text(BEFORE_TRAINING + TASK + MEASURES)

    @property
    def gates(self) -> Path:
        return self.folder / "gates"

    @property
    def task(self) -> Path:
        return self.folder / "gated.py"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def open_gates(self, *names: str, rounds: range | None = None) -> None:
        for name in names:
            for number in rounds or range(1, 100):
                (self.gates / f"{name}-{number}").touch()

    def records(self) -> list[Record]:
        """Of rounds that have closed."""
        path = self.run / "history.jsonl"
        return history.read(path) if path.exists() else []

    @contextmanager
    def coordinating(self, url: str, cohort: int, more: str = "", *words: str) -> Iterator[Program]:
        """The only one, or the centre. `more`: what else is in its file."""
        config = self.folder / "federation.toml"
        config.write_text(
            f'name = "{self.name}"\ntask = "{self.task}"\nseed = 3\ncodec = "{self.codec}"\n'
            f"[tuning]\nenabled = false\n{_rounds(self.rounds, cohort)}\n"
            f"[evaluation]\nfinal_deadline_s = 1000\nclients = 0\n{more}"
        )
        command = ("fedmqtt", "coordinator", str(config), "--broker", url)
        with running(self.folder, *command, "--run", str(self.run), "--verbose", *words) as program:
            yield program

    @contextmanager
    def devices(self, url: str, federation: str, *names: str) -> Iterator[list[Program]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    running(
                        self.folder,
                        *("fedmqtt", "client", "--broker", url, "--federation", federation),
                        *("--id", name, "--task", str(self.task), "--data", str(self.gates)),
                        *("--state", str(self.folder / name)),
                        *("--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5"),
                    )
                )
                for name in names
            ]

    @contextmanager
    def site(
        self,
        name: str,
        centre: str,
        own: str,
        more: str = "",
        devices: str = "",
        is_quiet: bool = False,
    ) -> Iterator[Program]:
        """`centre`, `own`: the brokers' addresses. `more`, `devices`: what else is in its file."""
        config = self.write_site(name, centre, own, more, devices, is_quiet)
        with running(config.parent, "fedmqtt", "site", str(config), "--verbose") as program:
            yield program

    def write_site(
        self,
        name: str,
        centre: str,
        own: str,
        more: str = "",
        devices: str = "",
        is_quiet: bool = False,
    ) -> Path:
        folder = self.folder / f"site-{name}"
        quiet = 'selection = "sortition"\nselection_settings = { fleet = 2 }\n' if is_quiet else ""
        folder.mkdir(exist_ok=True)
        config = folder / "site.toml"
        config.write_text(
            f'task = "{self.task}"\n{more}\n'
            f'[centre]\nbroker = "{centre}"\nfederation = "{self.name}"\nid = "{name}"\n'
            f'state = "{folder / "state"}"\n[centre.link]\nresend_s = 1\nretry_max_s = 0.5\n'
            f'[devices]\nname = "{self.own_name(name)}"\n{quiet}[devices.broker]\nurl = "{own}"\n'
            f"[devices.tuning]\nenabled = false\n[devices{_rounds(0, 2)[1:]}\n{devices}"
        )
        return config

    def own_name(self, site: str) -> str:
        return f"{self.name}-{site}"

    def site_records(self, name: str) -> list[Record]:
        """Of its run, whose folder is named after the centre's."""
        (run,) = (self.folder / f"site-{name}" / "state" / "runs").iterdir()
        return history.read(run / "history.jsonl")

    def rounds_at(self, site: str) -> int:
        """That have closed there."""
        runs = self.folder / f"site-{site}" / "state" / "runs"
        return len(self.site_records(site)) if [*runs.glob("*/history.jsonl")] else 0


def _rounds(count: int, cohort: int) -> str:
    table = "[rounds]" if count else "[.rounds]"
    counted = f"count = {count}\n" if count else ""
    return (
        f"{table}\n{counted}cohort = {cohort}\nquorum = {cohort}\nclients_min = {cohort}\n"
        "over_selection = 1.0\ndeadline_s = 1000\naway_grace_s = 1000\nretry_s = 0.2"
    )


def model_of(run: Path) -> Mapping[str, bytes]:
    from safetensors.numpy import load_file

    return {name: each.tobytes() for name, each in load_file(run / "model.safetensors").items()}
