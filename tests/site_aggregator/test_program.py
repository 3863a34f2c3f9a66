"""A site's two halves in one program, with nobody to talk to."""

from pathlib import Path

from edge_client.training_job import Failed, FromTrainer
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.settings import SettingsError
from site_aggregator import config as site_config
from site_aggregator.kept_job import Asked, KeptJob
from site_aggregator.program import Program
from tests.own_broker import free_port
from tests.site_aggregator.test_upward import BASE, LAYOUT, job


def test_what_cannot_be_after_a_restart_is_told_to_the_centre_and_the_program_goes_on(
    tmp_path: Path,
) -> None:
    nowhere, said = f"mqtt://127.0.0.1:{free_port()}", list[FromTrainer]()
    path, asked = tmp_path / "site.toml", job(tmp_path, 4, BASE)
    path.write_text(
        f'task = "t"\n[centre]\nbroker = "{nowhere}"\nfederation = "all"\nid = "north"\n'
        f'state = "{tmp_path / "state"}"\n[devices]\nname = "own"\n'
        f'[devices.broker]\nurl = "{nowhere}"\n[devices.rounds]\ncohort = 2\n'
    )
    config = site_config.read(path, [], {})
    # By an earlier life.
    KeptJob(config.state / "asked").keep(Asked(asked, LAYOUT, BASE))
    loop = EventLoop()
    program = Program(loop, config, parse_broker_url(nowhere), None, lambda why: None)

    def fail() -> None:
        # As when a round opens whose sum would need more room than the centre leaves.
        raise SettingsError("lower rounds.cohort")

    def ask() -> None:
        program.upward.submit(asked, said.append)
        loop.post(fail)
        loop.post(lambda: loop.post(program.end))

    loop.post(ask)
    program.run()
    loop.close()
    assert said == [Failed(reason="lower rounds.cohort")]
    # It waits for another offer.
    assert program.upward.wanted is None
