"""What a federation of the benchmark stands on: one Mosquitto and a file, or what large ones have.

with running(Arrangement(cluster="nats", workers=2, standby=True, postgresql=True)) as ground:
    ground.cluster.kill(1)
    with ground.ledger() as url: ...
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from broker_config.child import BrokerError
from tests import own_postgresql
from tests.clusters import CLUSTERS, Cluster
from tests.own_postgresql import NoServer, Server

LANES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """Unless said otherwise, as a federation begins on a laptop."""

    cluster: str = ""
    """Of which brokers; empty: a Mosquitto of each federation's own."""
    workers: int = 0
    standby: bool = False
    postgresql: bool = False
    """Whether ledgers are on a server."""


ON_A_LAPTOP = Arrangement()


@dataclass(frozen=True, slots=True)
class Ground:
    """What federations share, where their arrangement has it."""

    arrangement: Arrangement
    cluster: Cluster | None = None
    server: Server | None = None

    @contextmanager
    def ledger(self, arrangement: Arrangement) -> Iterator[str]:
        """As in the settings: of a federation of this arrangement."""
        if not arrangement.postgresql:
            yield "sqlite"
            return
        assert self.server is not None
        with self.server.database() as url:
            yield url


NOTHING_SHARED = Ground(ON_A_LAPTOP)


@contextmanager
def running(arrangement: Arrangement) -> Iterator[Ground]:
    """Cluster and server, until the end of the block. Raises BrokerError where one is not here."""
    with ExitStack() as stack:
        server = cluster = None
        if arrangement.postgresql:
            # Where libpq looks for it, in all that we start.
            os.environ["PGPASSWORD"] = own_postgresql.PASSWORD
            try:
                server = stack.enter_context(own_postgresql.running())
            except NoServer as lacking:
                raise BrokerError(str(lacking)) from lacking
        if arrangement.cluster:
            cluster = stack.enter_context(CLUSTERS[arrangement.cluster]())
        yield Ground(arrangement, cluster, server)
