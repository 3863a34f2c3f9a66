"""A fleet's data described in virtual time: what `fedmqtt statistics` would find."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from coordinator.statistics import findings, job, table
from coordinator.statistics.findings import Findings
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab


def settle(fleet: Fleet) -> Fleet:
    """Its federation describes data and trains nobody. Raises SettingsError."""
    return replace(fleet, federation=job.settle(fleet.federation))


def found_in(lab: Lab, fleet: Fleet, run: str) -> Findings | None:
    """What the clients' sums came to; None where no round had enough clients."""
    assert lab.tensors is not None
    federation = fleet.federation
    return findings.findings(
        federation=federation.name,
        task=federation.task,
        run=run,
        layout=lab.tensors.layout,
        memory=lab.tensors.answers.memory,
        records=lab.records,
        categories=job.features(federation.task),
        settings=federation.statistics,
    )


def conclude(lab: Lab, fleet: Fleet, folder: Path, console: Console) -> None:
    """The findings: a file in the run's folder, and a table for people."""
    found = found_in(lab, fleet, folder.name)
    if found is None:
        needed = fleet.federation.statistics.clients_min
        console.print(
            f"in no round {needed} clients answered: nothing is told of fewer"
            " (federation.statistics.clients_min)",
            markup=False,
        )
        return
    path = folder / findings.FILE_NAME
    path.write_bytes(found.to_json() + b"\n")
    for line in table.lines(found, ascii_only=console.encoding != "utf-8"):
        # A terminal breaks a row where it must.
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"findings: {path}", markup=False, soft_wrap=True)
