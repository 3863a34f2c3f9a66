"""Masks above a site, and below it: each level by itself."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import UNSET
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt import messages
from fedmqtt.messages import Update
from fedmqtt.topics import UpdatePart
from tests.broker_config.kit_broker import FEDERATION
from tests.masked_federation import TASK, masked_federation
from tests.own_broker import free_port, mosquitto_at
from tests.planted_task import planted
from tests.programs import running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
WEIGHT_MAX, SAMPLES_MAX = 100, 2**28
PRIVACY = (
    f'aggregation = "keyholders"\nfloor = 3\nweight_max = {WEIGHT_MAX}\n'
    f"samples_max = {SAMPLES_MAX}\nkeyholder_timeout_s = 1"
)
ROUNDS = "count = 1\ncohort = 3\nquorum = 3\nclients_min = 3"


def write_site(folder: Path, credentials: Path, own: str) -> Path:
    config = folder / "site.toml"
    config.write_text(
        f'task = "{TASK}"\ncredentials = "{credentials}"\n'
        f'[centre]\nstate = "{folder / "north"}"\n[centre.link]\nresend_s = 1\n'
        f'[devices]\nname = "own"\n[devices.broker]\nurl = "{own}"\n'
        "[devices.tuning]\nenabled = false\n"
        "[devices.rounds]\ncohort = 2\nquorum = 2\nover_selection = 1.0\ndeadline_s = 1000\n"
        f"[devices.limits]\nsamples_max = {SAMPLES_MAX}\n"
    )
    return config


def test_the_centre_sees_the_sum_with_others_alone(tmp_path: Path) -> None:
    port = free_port()
    own = f"mqtt://127.0.0.1:{port}"
    with ExitStack() as stack:
        federation = stack.enter_context(
            masked_federation(tmp_path, KEYHOLDERS, ("ann", "bob", "north"))
        )
        stack.enter_context(mosquitto_at(port))
        federation.open_gates(1, "ann", "bob", "cat", "dan")
        for name in KEYHOLDERS:
            stack.enter_context(federation.keyholder(name))
        for name in ("ann", "bob"):
            stack.enter_context(federation.client(name))
        credentials = federation.broker.folder / "accounts" / "north.toml"
        config = write_site(tmp_path, credentials, own)
        words = ("fedmqtt", "site", str(config), "--verbose", "--insecure")
        site = stack.enter_context(running(tmp_path, *words))
        for name in ("cat", "dan"):
            stack.enter_context(
                running(
                    tmp_path,
                    *("fedmqtt", "client", "--broker", own, "--federation", "own", "--id", name),
                    *("--task", TASK, "--data", str(federation.gates)),
                    *("--state", str(tmp_path / name)),
                )
            )
        centre = stack.enter_context(federation.coordinating(ROUNDS, PRIVACY))
        assert centre.wait() == 0, centre.log + site.log
        came = federation.crossed()
    (record,) = federation.records
    assert record.answered == ["ann", "bob", "north"]
    model = load_file(federation.run / "model.safetensors")["w"]
    assert np.allclose(model, wanted(), atol=1e-4)
    answers = [answer for to, data in came if (answer := answer_of_site(to, data)) is not None]
    assert answers
    for answer in answers:
        assert answer.masked is not None and answer.sum_of is UNSET
        assert answer.metrics == {} and answer.measures is None and answer.sample_count == 1


def test_a_site_sees_the_sum_of_its_devices_alone(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    centre_url, names = mosquitto_broker.url, ("ann", "bob", "cat")
    with ExitStack() as stack:
        own = stack.enter_context(masked_federation(tmp_path, KEYHOLDERS, names))
        own.open_gates(1, *names, "dan")
        for name in KEYHOLDERS:
            stack.enter_context(own.keyholder(name))
        for name in names:
            stack.enter_context(own.client(name))
        config = tmp_path / "site.toml"
        config.write_text(
            f'task = "{TASK}"\n[centre]\nbroker = "{centre_url}"\n'
            f'federation = "{federation_name}"\nid = "north"\nstate = "{tmp_path / "north"}"\n'
            f'[devices]\nname = "{FEDERATION}"\n[devices.tuning]\nenabled = false\n'
            f'[devices.broker]\ncredentials = "{own.broker.folder}/accounts/coordinator.toml"\n'
            "[devices.rounds]\ncohort = 3\nquorum = 3\nclients_min = 3\nover_selection = 1.0\n"
            f"deadline_s = 1000\n[devices.privacy]\n{PRIVACY}\n"
        )
        site = stack.enter_context(running(tmp_path, "fedmqtt", "site", str(config), "--verbose"))
        dan = ("--federation", federation_name, "--id", "dan", "--state", str(tmp_path / "dan"))
        stack.enter_context(
            running(
                tmp_path,
                *("fedmqtt", "client", "--broker", centre_url, *dan),
                *("--task", TASK, "--data", str(own.gates)),
            )
        )
        above = tmp_path / "above"
        above.mkdir()
        (above / "federation.toml").write_text(
            f'name = "{federation_name}"\ntask = "{TASK}"\nseed = 3\n'
            "[tuning]\nenabled = false\n[evaluation]\nevery = 0\n[sites]\nclients_max = 3\n"
            f"[limits]\nsamples_max = {SAMPLES_MAX}\n"
            "[rounds]\nover_selection = 1.0\ndeadline_s = 1000\n"
            "count = 1\ncohort = 2\nquorum = 2\nclients_min = 2\n"
        )
        words = ("fedmqtt", "coordinator", str(above / "federation.toml"), "--broker", centre_url)
        centre = stack.enter_context(running(above, *words, "--run", str(above / "run")))
        assert centre.wait() == 0, centre.log + site.log
    (record,) = history.read(above / "run" / "history.jsonl")
    assert record.answered == ["dan", "north"]
    # What a masked site knows of its devices' data is how much they count for.
    weights = [weight_of(planted(name).samples) for name in names]
    site_mean = sum(planted(one).change * its for one, its in zip(names, weights, strict=True))
    dans = planted("dan")
    heavy = dans.samples + len(names)
    mean = (site_mean / sum(weights) * len(names) + dans.change * float(dans.samples)) / heavy
    model = load_file(above / "run" / "model.safetensors")["w"]
    assert np.allclose(model, mean, atol=1e-4), site.log


def weight_of(samples: int) -> int:
    return max(1, round(WEIGHT_MAX * min(samples, SAMPLES_MAX) / SAMPLES_MAX))


def answer_of_site(to: object, data: bytes) -> Update | None:
    if not isinstance(to, UpdatePart) or to.client != "north":
        return None
    # Behind the envelope that it is signed in.
    found = messages.read_from_client(data[data.index(b"\xa4kind") - 3 :])
    return found if isinstance(found, Update) else None


def wanted() -> Any:
    """The mean, with the site's devices as one client."""
    cat, dan = planted("cat"), planted("dan")
    samples = cat.samples + dan.samples
    site = (cat.samples * cat.change.astype(float) + dan.samples * dan.change) / samples
    terms = [(planted(name).change.astype(float), planted(name).samples) for name in ("ann", "bob")]
    terms.append((site, samples))
    weighed = [(change, weight_of(count)) for change, count in terms]
    total = sum(weight for _, weight in weighed)
    return np.sum([change * weight for change, weight in weighed], axis=0) / total
