"""Masks above a site, and below it: each level by itself."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
from tests.faults.proxy import proxy_to
from tests.masked_federation import TASK, MaskedFederation, masked_federation
from tests.own_broker import free_port, mosquitto_at
from tests.planted_task import planted
from tests.programs import Program, running
from tests.site_aggregator.two_levels import model_of

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
            stack.enter_context(_device(federation, own, name))
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


FEW_BITS = (
    'aggregation = "keyholders"\nfloor = 3\nkeyholder_timeout_s = 1\nvalue_bits = 6\n'
    f"rotate = true\nshare = 0.5\nweight_max = {WEIGHT_MAX}\nsamples_max = {SAMPLES_MAX}\n"
)
"""Rounded at random, and rotated: by chance that each device, and each round, has for itself."""
SITES = "[sites]\nclients_max = 2\n"


@contextmanager
def _open(
    folder: Path, names: Sequence[str], federation: str = FEDERATION
) -> Iterator[MaskedFederation]:
    """Keyholders are there, and the clients of these names that are no site."""
    with masked_federation(folder, KEYHOLDERS, names, federation) as made, ExitStack() as stack:
        for name in KEYHOLDERS:
            stack.enter_context(made.keyholder(name))
        for name in names:
            if name != "north":
                stack.enter_context(made.client(name))
        yield made


def _of_one_level(folder: Path, names: Sequence[str], privacy: str) -> MaskedFederation:
    """A run of two rounds, that is over."""
    with _open(folder, names) as flat:
        flat.open_gates(1, *names)
        flat.open_gates(2, *names)
        with flat.coordinating(_rounds(2, len(names)), privacy) as centre:
            assert centre.wait() == 0, centre.log
    return flat


def _is_as_of_one_level(two: MaskedFederation, flat: MaskedFederation) -> None:
    assert [record.answered for record in two.records] == [["ann", "bob", "north"]] * 2
    assert model_of(two.run) == model_of(flat.run)
    # What was measured, and clipped, adds up too.
    told = [(record.figures, record.clipped) for record in flat.records]
    assert [(record.figures, record.clipped) for record in two.records] == told
    assert all(figures is not None for figures, _ in told)


@pytest.mark.parametrize("ranges", ["fixed", "adaptive"])
def test_two_levels_make_the_model_of_one_also_when_the_site_is_killed(
    ranges: str, tmp_path: Path
) -> None:
    privacy = f'{FEW_BITS}ranges = "{ranges}"\n'
    names = ("ann", "bob", "cat", "dan")
    flat = _of_one_level(tmp_path / "flat", names, privacy)
    with ExitStack() as stack:
        two = stack.enter_context(_open(tmp_path / "two", ("ann", "bob", "north")))
        port = free_port()
        own = f"mqtt://127.0.0.1:{port}"
        stack.enter_context(mosquitto_at(port))
        two.open_gates(1, "ann", "bob", "cat")
        two.open_gates(2, *names)
        cat, _ = (stack.enter_context(_device(two, own, name)) for name in ("cat", "dan"))
        credentials = two.broker.folder / "accounts" / "north.toml"
        words = ("fedmqtt", "site", str(write_site(two.folder, credentials, own)), "--insecure")
        centre = stack.enter_context(two.coordinating(_rounds(2, 3), privacy + SITES))
        with running(two.folder, *words) as site:
            cat.wait_for("receipt: round 1 accepted")
            site.process.kill()
            site.wait()
        with running(two.folder, *words) as site:
            site.wait_for("going on with round 1: 1 of 2 answered")
            two.open_gates(1, "dan")
            assert centre.wait() == 0, centre.log + site.log
    _is_as_of_one_level(two, flat)


def test_masks_at_both_levels_make_the_model_of_none_between(tmp_path: Path) -> None:
    names = ("ann", "bob", "cat", "dan", "eve")
    flat = _of_one_level(tmp_path / "flat", names, f'{FEW_BITS}ranges = "fixed"\n')
    with ExitStack() as stack:
        two = stack.enter_context(_open(tmp_path / "two", (*names[:2], "north")))
        own = stack.enter_context(_open(tmp_path / "own", names[2:], "ward"))
        for number in (1, 2):
            two.open_gates(number, *names[:2])
            own.open_gates(number, *names[2:])
        config = tmp_path / "site.toml"
        config.write_text(
            f'task = "{TASK}"\ncredentials = "{two.broker.folder}/accounts/north.toml"\n'
            f'[centre]\nstate = "{tmp_path / "north"}"\n[centre.link]\nresend_s = 1\n'
            '[devices]\nname = "ward"\n[devices.tuning]\nenabled = false\n'
            f'[devices.broker]\ncredentials = "{own.broker.folder}/accounts/coordinator.toml"\n'
            f"[devices.rounds]\n{_rounds(0, 3).removeprefix('count = 0')}\n"
            "over_selection = 1.0\ndeadline_s = 1000\n"
            # How numbers are masked follows from the centre, whatever is said here.
            '[devices.privacy]\naggregation = "keyholders"\nfloor = 3\nvalue_bits = 20\n'
            "keyholder_timeout_s = 1\n"
        )
        site = stack.enter_context(running(tmp_path, "fedmqtt", "site", str(config)))
        three = "[sites]\nclients_max = 3\n"
        privacy = f'{FEW_BITS}ranges = "fixed"\n{three}'
        with two.coordinating(_rounds(2, 3), privacy) as centre:
            assert centre.wait() == 0, centre.log + site.log
    _is_as_of_one_level(two, flat)


def _rounds(count: int, cohort: int) -> str:
    return f"count = {count}\ncohort = {cohort}\nquorum = {cohort}\nclients_min = {cohort}"


def _device(federation: MaskedFederation, own: str, name: str) -> AbstractContextManager[Program]:
    """Of the site."""
    return running(
        federation.folder,
        *("fedmqtt", "client", "--broker", own, "--federation", "own", "--id", name),
        *("--task", TASK, "--data", str(federation.gates)),
        *("--state", str(federation.folder / name)),
        *("--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5"),
    )


NAMES = ("ann", "bob", "cat")
"""Of a site whose devices mask their answers, while the centre reads them."""


def _masked_below(folder: Path, own: MaskedFederation, centre_url: str, name: str) -> Path:
    """The settings of such a site."""
    config = folder / "site.toml"
    config.write_text(
        f'task = "{TASK}"\n[centre]\nbroker = "{centre_url}"\n'
        f'federation = "{name}"\nid = "north"\nstate = "{folder / "north"}"\n'
        f'[devices]\nname = "{FEDERATION}"\n[devices.tuning]\nenabled = false\n'
        f'[devices.broker]\ncredentials = "{own.broker.folder}/accounts/coordinator.toml"\n'
        "[devices.rounds]\ncohort = 3\nquorum = 3\nclients_min = 3\nover_selection = 1.0\n"
        f"deadline_s = 1000\n[devices.privacy]\n{PRIVACY}\n"
    )
    return config


@contextmanager
def _open_above(folder: Path, own: MaskedFederation, url: str, name: str) -> Iterator[Program]:
    """A centre of one round, and dan, who is no site."""
    folder.mkdir()
    (folder / "federation.toml").write_text(
        f'name = "{name}"\ntask = "{TASK}"\nseed = 3\n'
        "[tuning]\nenabled = false\n[evaluation]\nevery = 0\n[sites]\nclients_max = 3\n"
        f"[limits]\nsamples_max = {SAMPLES_MAX}\n"
        "[rounds]\nover_selection = 1.0\ndeadline_s = 1000\naway_grace_s = 1000\n"
        "count = 1\ncohort = 2\nquorum = 2\nclients_min = 2\n"
    )
    dan = ("--federation", name, "--id", "dan", "--state", str(folder / "dan"))
    its = ("--task", TASK, "--data", str(own.gates))
    words = ("fedmqtt", "coordinator", str(folder / "federation.toml"), "--broker", url)
    with (
        running(folder, "fedmqtt", "client", "--broker", url, *dan, *its),
        running(folder, *words, "--run", str(folder / "run")) as centre,
    ):
        yield centre


def _is_of_north_and_dan(run: Path) -> None:
    (record,) = history.read(run / "history.jsonl")
    assert record.answered == ["dan", "north"]
    # What a masked site knows of its devices' data is how much they count for.
    weights = [weight_of(planted(name).samples) for name in NAMES]
    site_mean = sum(planted(one).change * its for one, its in zip(NAMES, weights, strict=True))
    dans = planted("dan")
    heavy = dans.samples + len(NAMES)
    mean = (site_mean / sum(weights) * len(NAMES) + dans.change * float(dans.samples)) / heavy
    model = load_file(run / "model.safetensors")["w"]
    assert np.allclose(model, mean, atol=1e-4)


def test_a_site_sees_the_sum_of_its_devices_alone(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, above = mosquitto_broker.url, tmp_path / "above"
    with ExitStack() as stack:
        own = stack.enter_context(masked_federation(tmp_path, KEYHOLDERS, NAMES))
        own.open_gates(1, *NAMES, "dan")
        for name in KEYHOLDERS:
            stack.enter_context(own.keyholder(name))
        for name in NAMES:
            stack.enter_context(own.client(name))
        config = _masked_below(tmp_path, own, url, federation_name)
        site = stack.enter_context(running(tmp_path, "fedmqtt", "site", str(config), "--verbose"))
        centre = stack.enter_context(_open_above(above, own, url, federation_name))
        assert centre.wait() == 0, centre.log + site.log
    _is_of_north_and_dan(above / "run")


def test_a_site_killed_while_its_keyholders_open_a_sum_asks_its_devices_once(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    above = tmp_path / "above"
    with ExitStack() as stack, ExitStack() as keyholders:
        own = stack.enter_context(masked_federation(tmp_path, KEYHOLDERS, NAMES))
        line = stack.enter_context(proxy_to(mosquitto_broker.url))
        own.open_gates(1, "ann", "bob")
        for name in KEYHOLDERS:
            keyholders.enter_context(own.keyholder(name))
        devices = [stack.enter_context(own.client(name)) for name in NAMES]
        config = _masked_below(tmp_path, own, line.url, federation_name)
        words = ("fedmqtt", "site", str(config), "--verbose")
        centre = stack.enter_context(_open_above(above, own, mosquitto_broker.url, federation_name))
        with running(tmp_path, *words) as site:
            for device in devices[:2]:
                device.wait_for("receipt: round 1 accepted")
            keyholders.close()
            own.open_gates(1, "cat")
            devices[2].wait_for("receipt: round 1 accepted")
            site.wait_for("the sum of round 1 waits for keyholders")
            site.process.kill()
            site.wait()
        line.refuse()
        with running(tmp_path, *words) as site:
            site.wait_for("the sum of round 1 waits for keyholders")
            line.let_in()
            # The centre asks for it again.
            site.wait_for("round 1: train")
            for name in KEYHOLDERS:
                keyholders.enter_context(own.keyholder(name))
            own.open_gates(1, "dan")
            assert centre.wait() == 0, centre.log + site.log
        for device in devices:
            assert device.log.count(": train") == 1, device.log
    _is_of_north_and_dan(above / "run")


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
