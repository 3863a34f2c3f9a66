"""`fedmqtt doctor`, with each account, while a federation is at work on the same broker."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from tests.broker_config.doctors_patient import examined
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.programs import running, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_LINEAR = "learning_tasks.linear"
_DISTURBED = ("unreadable", "lost", "refuses", "cannot", "WARNING", "ERROR")


def test_no_program_of_the_federation_takes_notice(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = kit.create(folder, plan(folder))
    for name in ("ann", "bob", "pi-3"):
        made.enroll(name)
    config = tmp_path / "federation.toml"
    config.write_text(
        f'name = "{FEDERATION}"\ntask = "{_LINEAR}"\n'
        "[rounds]\ncount = 100000\ncohort = 2\nquorum = 2\nclients_min = 2\nover_selection = 1.0\n"
        "deadline_s = 100\n"
    )

    def file(name: str) -> str:
        return str(folder / "accounts" / f"{name}.toml")

    run = tmp_path / "run"
    with ExitStack() as stack:
        broker = stack.enter_context(running_kit(made, folder))
        clients = [
            stack.enter_context(
                running(
                    tmp_path,
                    *("fedmqtt", "client", "--credentials", file(name), "--task", _LINEAR),
                    *("--state", str(tmp_path / f"state-{name}")),
                )
            )
            for name in ("ann", "bob")
        ]
        coordinator = stack.enter_context(
            running(
                tmp_path,
                *("fedmqtt", "coordinator", str(config), "--credentials", file("coordinator")),
                *("--run", str(run)),
            )
        )
        coordinator.wait_for("round 2")
        # Not on the devices' port, where this would be ann.
        servers = f"mqtts://localhost:{broker.servers_port}"
        reports = {
            name: examined("--credentials", file(name), *more)
            for name, more in {
                "coordinator": (),
                "monitor": (),
                "pi-3": (),
                "ann": ("--broker", servers),
            }.items()
        }
        before = len(history.read(run / "history.jsonl"))
        wait_until(lambda: len(history.read(run / "history.jsonl")) > before)
        logs = [program.log for program in (coordinator, *clients)]
    for name, report in reports.items():
        assert report.exit_code == 0, (name, report)
    assert "the federation is at work" in reports["coordinator"].says("acl_allows")
    assert "ann is at work" in reports["ann"].says("retained")
    assert "model of " in reports["pi-3"].says("room")
    closed = [line for line in logs[0].splitlines() if " answered, " in line]
    assert closed
    assert all(" 0 dropped, 0 rejected" in line for line in closed)
    for log in logs:
        assert not [line for line in log.splitlines() if any(one in line for one in _DISTURBED)]
