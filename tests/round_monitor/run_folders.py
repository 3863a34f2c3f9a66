"""Run folders as coordinators and the lab leave them, made up: known numbers, any size."""

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def line(number: int, closed_s: float = 0.0, **changes: object) -> dict[str, Any]:
    """One line of a history: four invited, two answered, one dropped, one rejected."""
    return {
        "round": number,
        "closed": (_MONDAY + timedelta(seconds=closed_s)).isoformat(timespec="milliseconds"),
        "outcome": "averaged",
        "reason": "cohort complete",
        "base": "00ff",
        "invited": ["ann", "bob", "cat", "dan"],
        "answered": ["ann", "bob"],
        "dropped": ["dan"],
        "surplus": [],
        "declined": {},
        "rejected": {"cat": "stale"},
        "evaluated": ["eve"],
        "late_updates": 0,
        "late_counted": [],
        "duration_s": 10.0,
        "samples": 20,
        "train_metrics": {"loss": 1 / number},
        "figures": {"clients": 1, "samples": 10, "metrics": {"accuracy": 1 - 0.8 / number}},
        "bytes_received": 1000 * number,
        "bytes_published": 100 * number,
    } | changes


def write_run(
    folder: Path,
    lines: Sequence[Mapping[str, object]],
    lab: Mapping[str, object] | None = None,
    **settings: str,
) -> Path:
    """`settings`: the text of `<name>.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "history.jsonl").write_text(text, encoding="utf-8")
    if lab is not None:
        (folder / "lab.json").write_text(json.dumps(lab), encoding="utf-8")
    for name, toml in settings.items():
        (folder / f"{name}.toml").write_text(toml, encoding="utf-8")
    return folder


def simulated(
    folder: Path, *, clients: int, rounds: int, cohort: int, seed: int, follows_data: float = 0.0
) -> Path:
    """A run of the lab with the shapes of a real one: a curve that levels off, people who are
    seldom online and hold other data, dropouts, rejects, late answers."""
    chance = random.Random(seed)
    people = [_person(number, clients, follows_data, chance) for number in range(clients)]
    names = [one["client"] for one in people]
    online = [one["online_share"] for one in people]
    lines, marks = [], []
    closed_s, up, down = 0.0, 0, 0
    for number in range(1, rounds + 1):
        there = sorted(set(chance.choices(names, online, k=cohort)))
        cut = len(there) * 7 // 10
        lost = min(len(there), cut + chance.randrange(1 + len(there) // 6))
        duration_s = 60 + chance.expovariate(1 / 60)
        closed_s += duration_s + 30
        up, down = up + 4000 * cut, down + 5000 * len(there)
        accuracy = (0.97 - 0.04 * follows_data) * (1 - 0.9 / (1 + number * 20 / rounds))
        accuracy += chance.gauss(0, 0.005)
        rejected = there[lost : lost + number % 7 // 6]
        lines.append(
            line(
                number,
                closed_s,
                reason="deadline" if number % 3 else "cohort complete",
                invited=there,
                answered=there[:cut],
                dropped=there[cut:lost],
                rejected={one: f"a norm of {number}.5 is above 10" for one in rejected},
                declined={one: "on battery" for one in there[cut : cut + 1]},
                surplus=there[lost + len(rejected) :],
                late_updates=number % 4,
                duration_s=duration_s,
                train_metrics={"loss": 2.3 * (1 - accuracy)},
                figures={
                    "clients": 1,
                    "samples": 10_000,
                    "metrics": {
                        "accuracy": accuracy,
                        "macro_f1": accuracy - 0.03,
                        "loss": 2.3 * (1 - accuracy),
                    },
                },
            )
        )
        marks.append({"round": number, "closed_s": closed_s, "bytes_up": up, "bytes_down": down})
    lab = {
        "mode": "virtual",
        "seed": seed,
        "title": "",
        "clients": people,
        "rounds": marks,
        "trace": "5d41402abc4b2a76b9719d911017c592",
        "weather": {
            "connectivity.kind": "diurnal",
            "connectivity.follows_data": follows_data,
            "federation.broker.url": "mqtts://ann:hunter2@broker.example:8883",
        },
        "repeat": f"fedmqtt simulate fleet.toml --seed {seed} --broker mqtt://ann:hunter2@broker",
    }
    fleet = f"seed = {seed}\nclients = {clients}\n\n[connectivity]\nkind = 'diurnal'\n"
    fleet += f"follows_data = {follows_data}\n"
    broker = '[broker]\nurl = "mqtts://ann:hunter2@broker.example:8883"\n'
    return write_run(folder, lines, lab, fleet=fleet, federation=broker)


def _person(
    number: int, clients: int, follows_data: float, chance: random.Random
) -> dict[str, Any]:
    label = number * 10 // clients
    counts = [chance.randrange(3) for _ in range(10)]
    counts[label] += 20 + chance.randrange(30)
    seldom = follows_data * label / 9 + (1 - follows_data) * chance.random()
    return {
        "client": f"client-{number:05}",
        "samples": sum(counts),
        "label_counts": counts,
        "online_share": round(0.95 - 0.85 * seldom, 4),
        "rank": number / clients,
        "dominant_label": label,
    }
