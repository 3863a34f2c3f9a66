"""The checks, one after the other, each only where those that it needs went well."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from types import ModuleType

from broker_config.doctor import checks
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked
from fedmqtt import parts
from fedmqtt.mqtt_probe import ProbeEnded, ProbeRefused


@dataclass(frozen=True, slots=True)
class Result:
    check: str
    finding: Finding
    needed: tuple[str, ...] = ()
    """The checks that should have gone well before, and did not."""


def all_checks() -> dict[str, ModuleType]:
    """By name, each after those that it needs, and else in the order of the alphabet."""
    known = {name: parts.load(checks, name) for name in parts.names(checks)}
    sorter = TopologicalSorter(
        {name: [*module.NEEDS, *getattr(module, "AFTER", ())] for name, module in known.items()}
    )
    sorter.prepare()
    ordered: dict[str, ModuleType] = {}
    while ready := sorted(sorter.get_ready()):
        ordered.update({name: known[name] for name in ready})
        sorter.done(*ready)
    return ordered


def examine(case: Case, begins: Callable[[str], None]) -> Iterator[Result]:
    """What each check finds, as soon as it has; `begins` hears of each one's beginning."""
    went_well: set[str] = set()
    for name, module in all_checks().items():
        lacking = [need for need in module.NEEDS if need not in went_well]
        if lacking:
            yield Result(name, not_checked(_needs(lacking)), tuple(lacking))
            continue
        begins(name)
        finding = _finding(module, case)
        if finding.status in ("ok", "warning"):
            went_well.add(name)
        yield Result(name, finding)


def _needs(lacking: Sequence[str]) -> str:
    return f"needs {' and '.join(lacking).replace('_', ' ')}"


def _finding(module: ModuleType, case: Case) -> Finding:
    try:
        found: Finding = module.check(case)
    except ProbeEnded as ended:
        return failed(
            f"cut short: {ended}",
            "The broker was there before. Something ends connections, or it is overloaded: its log"
            " says more.",
        )
    except ProbeRefused as refused:
        return failed(
            f"not let in a second time: {refused}",
            "It was let in before. A limit of connections, or of attempts, would do that.",
        )
    return found
