"""The checks, one after the other, each only where those that it needs went well."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from types import ModuleType

from broker_config.doctor import checks
from broker_config.doctor.case import Case, WitnessKeptOut
from broker_config.doctor.checks import names
from broker_config.doctor.finding import Finding, failed, not_checked
from fedmqtt import dotted_names, parts
from fedmqtt.mqtt_probe import ProbeEnded, ProbeRefused

_KINDS_WITHOUT_DOTS = ("", "rabbitmq", "nats")
"""Those that do not take dots in names, in some version; and where the kind is not known."""


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
    found = _found(module, case)
    if found.status == "failed" and case.dotted_name and getattr(module, "SHOWS_DOTS", False):
        return _with_dot(found, case)
    return found


def _with_dot(found: Finding, case: Case) -> Finding:
    """Where names have dots, those may be why: `names`, which would tell, is not come to."""
    if case.kind not in _KINDS_WITHOUT_DOTS:
        return found
    # A dot is a slash there, whatever its settings.
    others = {kind: line for kind, line in found.remedies.items() if kind not in ("rabbitmq", "")}
    says = found.says + dotted_names.may_be_why(case.dotted_name)
    return replace(found, says=says, remedies={**others, **names.WITHOUT_DOTS})


def _found(module: ModuleType, case: Case) -> Finding:
    try:
        found: Finding = module.check(case)
    except WitnessKeptOut as kept_out:
        # Once is enough: the checks that follow do without.
        case.witness = None
        return failed(
            f"the witness {case.witness_file} is of no use: {kept_out}",
            "Its password or certificate is wrong, it was revoked, or it is of another kit. Without"
            " --witness the account is looked at alone.",
            {"": "--witness with the coordinator's credentials of the kit that this broker has"},
            denied=True,
        )
    except ProbeEnded as ended:
        if case.session_is_the_devices:
            return not_checked(
                f"cut short: {ended}. {case.id} has this session, too, and each cuts the other off"
                " when it comes",
                f"stop {case.id}, and look again",
            )
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
