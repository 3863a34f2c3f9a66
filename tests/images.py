"""What the services of docker-compose.yml run, without Docker: each in a sandbox like a container.

A sandbox (bubblewrap) has the service's user, command, environment, volumes, temporary folders and
root file system, which is read-only where the compose file says so, and in it a venv with what the
image's list of requirements names and fedmqtt's own wheel, built from what .dockerignore leaves.
What is not looked at: the base images, pip's part of the build, Docker's own network, and how a
volume gets its owner. Sandboxes share this machine's loopback, so ports are moved to free ones.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from tests.programs import Program, wait_until

ROOT = Path(__file__).parent.parent
_VENV = "/opt/fedmqtt"
_NO_ACCOUNT = "nobody in particular"


KEYHOLDERS = ("docker-compose.yml", "docker-compose.keyholders.yml")


def compose(files: Sequence[str] = KEYHOLDERS[:1]) -> dict[str, Any]:
    """The compose files, one over the other as Docker lays them, with the variables of their
    environment at their defaults."""
    found: dict[str, Any] = {"services": {}, "volumes": {}}
    for name in files:
        text = (ROOT / name).read_text(encoding="utf-8")
        laid = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
        for service, said in laid["services"].items():
            found["services"][service] = _over(found["services"].get(service, {}), said)
        found["volumes"] |= laid["volumes"]
    return found


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A service of two files: of volumes, one at each place; all else is taken from the last."""
    mounts = [*below.get("volumes", ()), *above.get("volumes", ())]
    by_place = {mount.split(":")[1]: mount for mount in mounts}
    both = {**below, **above}
    return both | {"volumes": list(by_place.values())} if mounts else both


# ------------------------------------------------------------------------------- the Dockerfile


@dataclass(slots=True)
class Stage:
    """What a stage of the Dockerfile says, and what it has from those that it is made from."""

    user: str = ""
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    copied_from: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """By name. Raises ValueError on a line that is not understood."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    now = Stage()
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            now = found[name] = _made_from(found.get(base, Stage()))
        else:
            _take(now, word, rest.strip())
    return found


def _made_from(base: Stage) -> Stage:
    return Stage(
        user=base.user,
        workdir=base.workdir,
        entrypoint=list(base.entrypoint),
        command=list(base.command),
        environment=dict(base.environment),
        runs=list(base.runs),
        copied_from=list(base.copied_from),
    )


def _take(stage: Stage, word: str, rest: str) -> None:
    match word:
        case "USER":
            stage.user = rest
        case "WORKDIR":
            stage.workdir = rest
        case "ENTRYPOINT":
            stage.entrypoint, stage.command = json.loads(rest), []
        case "CMD":
            stage.command = json.loads(rest)
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in rest.split())
        case "RUN":
            stage.runs.append(rest)
        case "COPY":
            if found := re.match(r"--from=(\S+)", rest):
                stage.copied_from.append(found[1])
        case "ARG":
            pass
        case _:
            raise ValueError(f"Dockerfile: {word} {rest}: not understood here")


def requirements_of(target: str) -> list[str]:
    """The lists that the image installs, like `coordinator.txt`, those of its parents too."""
    known = stages()
    return [
        name
        for source in known[target].copied_from
        for run in known[source].runs
        for name in re.findall(r"-r requirements/(\S+)", run)
        if name != "build.txt"
    ]


# ---------------------------------------------------------------------------- what is installed


def build_context(folder: Path) -> Path:
    """A copy of what `docker build .` sends: what .dockerignore names, less what it excepts."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    caches = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pyo")
    for name in (line.removeprefix("!") for line in lines if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=caches)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    return folder


def wheel(context: Path, out: Path) -> Path:
    """As the stage `wheel` makes it."""
    words = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out), str(context)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *words], check=True)
    (made,) = out.glob("*.whl")
    return made


def venv(target: str, wheel_file: Path, folder: Path) -> Path:
    """With what the image `target` installs, and nothing else of this environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    for name in requirements_of(target):
        text = (ROOT / "requirements" / name).read_text()
        for package in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M):
            _link(package, site)
    shutil.unpack_archive(wheel_file, site, "zip")
    program = folder / "bin" / "fedmqtt"
    program.write_text(
        f"#!{_VENV}/bin/python\nimport sys\nfrom fedmqtt.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return folder


def _link(package: str, site: Path) -> None:
    distribution = metadata.distribution(package)
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        (site / top).symlink_to(Path(str(distribution.locate_file(top))))


# ---------------------------------------------------------------------------------- the sandbox


def why_no_sandbox() -> str:
    """Empty where sandboxes work."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed here (Debian: apt-get install bubblewrap)"
    tried = subprocess.run(
        [*_bare("10001", "10001"), "--ro-bind", "/usr", "/usr", "/usr/bin/true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if tried.returncode == 0 else f"bubblewrap does not work here: {tried.stderr.strip()}"


def _bare(user: str, group: str) -> list[str]:
    system = [("usr/lib", "/lib"), ("usr/lib64", "/lib64"), ("usr/bin", "/bin")]
    links = [word for target, name in system for word in ("--symlink", target, name)]
    who = ["--unshare-user", "--uid", user, "--gid", group]
    return ["bwrap", "--die-with-parent", *who, "--tmpfs", "/", *links]


@dataclass(frozen=True)
class Stack:
    """The services of the compose file, with volumes that are folders in `folder`."""

    folder: Path
    wheel_file: Path
    moved: Mapping[str, str]
    """Numbers, like those of ports, that are others in this world."""
    files: Sequence[str] = KEYHOLDERS[:1]

    @cached_property
    def _services(self) -> dict[str, Any]:
        services: dict[str, Any] = compose(self.files)["services"]
        return services

    def command(self, service: str, *instead: str) -> list[str]:
        """What runs it, or with `instead` what `docker compose run SERVICE INSTEAD` does."""
        said = self._services[service]
        stage = self._stage(service)
        words = self._moved(instead or said.get("command", stage.command))
        return [*self._sandbox(service), *stage.entrypoint, *words]

    def prepare(self, *more: str) -> subprocess.CompletedProcess[str]:
        """As the service `kit` does; the ports are those of this world."""
        said = self._services["kit"]["command"]
        ports = ["--port", self.moved["8883"], "--servers-port", self.moved["8884"]]
        return self.run("kit", *said, *ports, *more)

    def health(self, service: str) -> subprocess.CompletedProcess[str]:
        """Of one look at its health."""
        kind, *words = self._moved(self._services[service]["healthcheck"]["test"])
        # Compose writes a $ as two.
        words = [word.replace("$$", "$") for word in words]
        run = words if kind == "CMD" else ["/bin/sh", "-c", *words]
        return subprocess.run(
            [*self._sandbox(service), *run],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def run(self, service: str, *instead: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self.command(service, *instead),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    @contextmanager
    def up(self, service: str, *instead: str) -> Iterator[Program]:
        """Running, until TERM ends it with the block."""
        out, log = self.folder / f"{service}.out", self.folder / f"{service}.log"
        with (
            out.open("ab") as stdout,
            log.open("ab") as stderr,
            subprocess.Popen(
                self.command(service, *instead), stdout=stdout, stderr=stderr
            ) as process,
        ):
            try:
                yield Program(process, out, log)
            finally:
                self.tell(process, signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()

    def tell(self, process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
        """The program in the sandbox, as Docker's init passes signals on."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                os.kill(int(child), number)

    def volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    def until_healthy(self, service: str) -> None:
        wait_until(lambda: self.health(service).returncode == 0)

    def _stage(self, service: str) -> Stage:
        build = self._services[service].get("build")
        if build is not None:
            return stages()[build["target"]]
        # Mosquitto's image: its programs are in the PATH.
        return Stage(environment={"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/bin"})

    def _moved(self, words: Sequence[str]) -> list[str]:
        return [self._elsewhere(word) for word in words]

    def _elsewhere(self, text: str) -> str:
        for number, other in self.moved.items():
            text = re.sub(rf"\b{number}\b", other, text)
        return text

    def _sandbox(self, service: str) -> list[str]:
        said, stage = self._services[service], self._stage(service)
        user, _, group = str(said.get("user", stage.user)).partition(":")
        assert user.isdigit() and group.isdigit(), f"{service} runs as {_NO_ACCOUNT}"
        words = _bare(user, group)
        # First, as what is bound below may lie there on this machine.
        for place in said.get("tmpfs", ()):
            words += ["--tmpfs", place]
        for place in dict.fromkeys(["/usr", sys.base_prefix, sysconfig.get_path("purelib")]):
            words += ["--ro-bind", place, place]
        words += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", str(self._hosts()), "/etc/hosts"]
        if (build := said.get("build")) is not None:
            words += ["--ro-bind", str(self._venv(build["target"])), _VENV]
        words += ["--dir", stage.workdir]
        for mount in said.get("volumes", ()):
            words += self._bind(*mount.split(":"))
        if said.get("read_only"):
            words += ["--remount-ro", "/"]
        if said.get("network_mode") == "none":
            words += ["--unshare-net"]
        words += ["--chdir", stage.workdir, "--clearenv"]
        for name, value in (stage.environment | said.get("environment", {})).items():
            words += ["--setenv", name, value.replace("$PATH", "/usr/bin:/bin")]
        return [*words, "--"]

    def _bind(self, source: str, place: str, mode: str = "rw") -> list[str]:
        if source.startswith("."):
            mounted = self.folder / Path(source).name
            text = (ROOT / source).read_text(encoding="utf-8")
            mounted.write_text(self._elsewhere(text), encoding="utf-8")
        else:
            mounted = self.volume(source)
            mounted.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ["--ro-bind" if mode == "ro" else "--bind", str(mounted), place]

    def _venv(self, target: str) -> Path:
        folder = self.folder / f"venv-{target}"
        return folder if folder.exists() else venv(target, self.wheel_file, folder)

    def _hosts(self) -> Path:
        path = self.folder / "hosts"
        path.write_text(f"127.0.0.1 localhost {' '.join(self._services)}\n")
        return path
