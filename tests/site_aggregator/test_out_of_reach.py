"""The line to the centre is cut, and sites are killed: nothing is lost, nothing counts twice."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from tests.faults.proxy import Proxy, proxy_to
from tests.own_broker import free_port, mosquitto_at
from tests.programs import Program, wait_until
from tests.site_aggregator.two_levels import Federation, model_of

pytestmark = pytest.mark.broker

DEVICES = ("ann", "bob", "eve")
CENTRE = "[sites]\nclients_max = 2\n"


def flat_model(url: str, name: str, folder: Path, rounds: int) -> dict[str, bytes]:
    """What one coordinator makes of the same devices."""
    flat = Federation(folder, f"{name}-flat", rounds)
    flat.open_gates(*DEVICES)
    with flat.coordinating(url, 3) as alone, flat.devices(url, flat.name, *DEVICES):
        assert alone.wait() == 0, alone.log
    return dict(model_of(flat.run))


@dataclass
class World:
    """A centre, a site north of ann and bob behind a line that can be cut, and eve."""

    two: Federation
    centre: Program
    line: Proxy
    own: str
    ann: Program

    @contextmanager
    def north(self, more: str = "rounds_alone = 0") -> Iterator[Program]:
        with self.two.site("north", self.line.url, self.own, more) as site:
            yield site


@contextmanager
def world(
    url: str, name: str, folder: Path, rounds: int, more: str = CENTRE, *words: str
) -> Iterator[World]:
    two = Federation(folder / "two", name, rounds)
    port = free_port()
    own = f"mqtt://127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.enter_context(mosquitto_at(port))
        line = stack.enter_context(proxy_to(url))
        centre = stack.enter_context(two.coordinating(url, 2, more, *words))
        ann, _ = stack.enter_context(two.devices(own, two.own_name("north"), "ann", "bob"))
        stack.enter_context(two.devices(url, two.name, "eve"))
        yield World(two, centre, line, own, ann)


def test_a_site_that_is_killed_again_and_again_counts_once_and_exactly(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    wanted = flat_model(url, federation_name, tmp_path / "flat", rounds=2)
    with world(url, federation_name, tmp_path, rounds=2) as at:
        at.two.open_gates("ann", "eve")
        with at.north() as site:
            at.ann.wait_for("receipt: round 1 accepted")
            # In the middle of its round, and then without its centre.
            site.process.kill()
            site.wait()
        at.line.refuse()
        with at.north() as site:
            site.wait_for("going on with round 1: 1 of 2 answered")
            at.two.open_gates("bob", rounds=range(1, 2))
            wait_until(lambda: at.two.rounds_at("north") == 1)
            # What it came to was handed to nobody yet.
            site.process.kill()
            site.wait()
        with at.north() as site:
            at.line.let_in()
            wait_until(lambda: len(at.two.records()) == 1)
            at.two.open_gates("bob")
            state = at.two.folder / "site-north" / "state"
            # As it writes what the second came to, or a moment after.
            wait_until(
                lambda: (
                    bool([*state.glob("ready/*"), *state.glob("outbox/*-2-*")])
                    or len(at.two.records()) > 1
                )
            )
            site.process.kill()
            site.wait()
        with at.north() as site:
            assert at.centre.wait() == 0, at.centre.log
    *rounds, _ = at.two.records()
    assert [record.answered for record in rounds] == [["eve", "north"]] * 2
    assert model_of(at.two.run) == wanted


def test_a_site_whose_line_is_cut_goes_on_and_hands_up_how_far_it_came(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with world(mosquitto_broker.url, federation_name, tmp_path, rounds=1) as at:
        at.two.open_gates("ann")
        with at.north("rounds_alone = 2\nalone_after_s = 0") as site:
            at.ann.wait_for("receipt: round 1 accepted")
            at.line.refuse()
            at.two.open_gates("bob")
            # The centre's round, and two of its own: each makes the model one older.
            wait_until(lambda: at.two.rounds_at("north") == 3)
            assert "round 2 of 2 of the site's own" in site.log
            at.line.let_in()
            at.two.open_gates("eve")
            assert at.centre.wait() == 0, at.centre.log
    first, _ = at.two.records()
    assert first.answered == ["eve", "north"]
    north, eve = 20 + ord("a") + ord("b"), 10 + ord("e")
    assert first.samples == north + eve
    (age,) = load_file(at.two.run / "model.safetensors")["age"]
    assert age == pytest.approx((3 * north + eve) / (north + eve))


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_comes_late_counts_as_the_centre_lets_late_answers_count(
    is_killed: bool, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    more = f'{CENTRE}[late]\npolicy = "weigh"\n'
    words = ("--set", "rounds.quorum=1", "--set", "rounds.away_grace_s=0.1")
    with world(mosquitto_broker.url, federation_name, tmp_path, 2, more, *words) as at:
        at.two.open_gates("ann")
        at.two.open_gates("eve", rounds=range(1, 2))
        with ExitStack() as stack:
            site = stack.enter_context(at.north("alone_after_s = 1000"))
            at.ann.wait_for("receipt: round 1 accepted")
            at.line.refuse()
            # Whoever is away has its will spoken, and the centre goes on without.
            wait_until(lambda: len(at.two.records()) == 1)
            if is_killed:
                site.process.kill()
                site.wait()
                site = stack.enter_context(at.north("alone_after_s = 1000"))
                site.wait_for("going on with round 1: 1 of 2 answered")
            at.two.open_gates("bob")
            wait_until(lambda: at.two.rounds_at("north") == 1)
            at.line.let_in()
            at.two.open_gates("eve")
            assert at.centre.wait() == 0, at.centre.log
    first, second, _ = at.two.records()
    assert (first.answered, second.answered) == (["eve"], ["eve", "north"])
    assert second.late_counted == [("north", 1)]
    # Half of its samples, by the root of two, and then all of them, from the centre's new model.
    north, eve = 20 + ord("a") + ord("b"), 10 + ord("e")
    assert second.samples == round(north / 2**0.5) + north + eve
