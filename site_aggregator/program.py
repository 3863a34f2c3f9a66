"""A site's two halves on one loop: the agent, and the coordinator that the centre's offers ask for.

The agent is there for as long as the program. The coordinator begins with the first offer that is
taken up, or with the one that an earlier life took up; for other settings of the centre's another
one takes its place, which goes on in the same folder.
"""

import logging
from collections.abc import Callable
from contextlib import closing

from coordinator import command as coordinator_command
from coordinator.intake.trust import Trust
from coordinator.masking import masked_measures, privacy_checks
from coordinator.persistence import ledgers
from coordinator.persistence.run_place import Place
from coordinator.service import Service
from edge_client import session
from edge_client.agent import Agent
from edge_client.trainer_pool import TrainerPool
from edge_client.training_job import Done
from fedmqtt.credentials import Credentials
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.revocations import Revocations
from fedmqtt.settings import SettingsError
from site_aggregator.config import SiteConfig
from site_aggregator.upward import Upward, Wanted

_log = logging.getLogger("site")


class Program:
    """One site, until its loop is stopped.

    Raises SettingsError, BrokerUrlError; and as `Service` does where its own federation cannot go
    on."""

    def __init__(
        self,
        loop: EventLoop,
        config: SiteConfig,
        centre: BrokerUrl,
        account: Credentials | None,
        on_denied: Callable[[str], None],
    ) -> None:
        """`centre`: the way to it, with the account there; `on_denied` hears why the centre's
        broker will never let the site in."""
        self._loop = loop
        self._config = config
        self._revocations: Revocations | None = coordinator_command.revocations_of(config.devices)
        self._broker: BrokerUrl
        self._trust: Trust | None
        self._broker, self._trust = coordinator_command.broker_of(config.devices, self._revocations)
        privacy_checks.check_trust(config.devices, self._trust)
        self._pool = TrainerPool(loop, 1, config.centre.trainer.keep_warm_s)
        self._is_started = False
        """The agent is."""
        self._is_ending = False
        key = "" if account is None else account.signing_key
        self.upward = Upward(
            loop, config, self._pool, loop.stop, self._stands_for, self._found, key
        )
        self.agent = Agent(
            loop,
            centre,
            config.centre,
            self.upward,
            watch=self._watch,
            on_denied=on_denied,
            account=account,
            is_site=True,
        )

    @property
    def devices_broker(self) -> BrokerUrl:
        """Of the site's own federation."""
        return self._broker

    def run(self) -> None:
        """Until the loop is stopped, or the site's own run is ended by its operator."""
        try:
            while self._loop.stop_signal is None and not self._is_ending:
                wanted = self.upward.wanted
                if wanted is None:
                    # Until the first offer is taken up.
                    self._start()
                    self._loop.run()
                    continue
                try:
                    self._coordinate(wanted)
                except SettingsError as bad:
                    if not self._is_started:
                        raise
                    self.upward.cannot(str(bad))
                    continue
                if self.upward.wanted is wanted:
                    # Nobody asked for another one.
                    break
        finally:
            self.upward.end()
            if self._is_started:
                self.agent.stop()
            self._pool.close()

    def end(self) -> None:
        self._is_ending = True
        self._loop.stop()

    def _start(self) -> None:
        if self._is_started:
            return
        self.upward.hand_over_what_was_ready()
        self.agent.start(self.upward.goes_on)
        self._is_started = True

    def _coordinate(self, wanted: Wanted) -> None:
        """Run the site's own federation until another coordinator is wanted, or the end."""
        config = masked_measures.settle(wanted.settings)
        wanted.folder.mkdir(parents=True, exist_ok=True)
        with closing(ledgers.of(config, self._loop.is_stopping)) as among:
            if ledgers.is_finished(wanted.folder, among):
                raise SettingsError(
                    f"the run in {wanted.folder} was ended by an order: a site's rounds end with"
                    " the centre's. Move that folder away to begin it anew"
                )
            goes_on = ledgers.is_unfinished(wanted.folder, among)
            place: Place = among.take(wanted.folder)
            try:
                service = Service(
                    self._loop,
                    config,
                    None if goes_on else (wanted.asked.layout, wanted.asked.base),
                    wanted.folder,
                    storage=place.storage,
                    broker=self._broker,
                    trust=self._trust,
                    revocations=self._revocations,
                    on_begin=lambda: self._loop.post(self.upward.may_lead),
                    above=self.upward,
                )
                self.upward.serve(service, wanted)
                # It is known now what the ledger holds.
                self._start()
                self._loop.post(self.upward.may_lead)
                service.run()
            finally:
                self.upward.served()
                place.release()

    def _stands_for(self, devices: int) -> None:
        self.agent.stands_for(devices)

    def _found(self, done: Done) -> None:
        self.agent.found(done)

    def _watch(self, event: session.Event) -> None:
        match event:
            case session.Connected():
                self.upward.centre_came()
            case session.Disconnected():
                self.upward.centre_left()
            case _:
                pass
