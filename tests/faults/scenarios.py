"""Every fault of the benchmark, in the order of the table.

Most strike in the middle of round 2, when three of four clients have their receipts and dan is at
work: whoever is hit then has something to lose. Each says what is required of it beyond what holds
for all (`stage.py`): who may be missing, what a person must be told.
"""

from tests.faults.scenario import Scenario
from tests.faults.scenes import (
    arranged,
    broker,
    clients,
    clocks,
    coordinator,
    deliveries,
    disks,
    doubles,
    links,
    nonsense,
)

SCENARIOS: tuple[Scenario, ...] = (
    broker.broker_restarted,
    broker.broker_killed,
    broker.broker_killed_with_persistence,
    links.link_cut,
    links.link_cut_and_not_waited_for,
    links.link_cut_within_an_update,
    links.link_cut_within_a_model,
    links.link_half_open,
    links.links_slow,
    clients.half_killed,
    clients.all_killed,
    clients.last_outstanding_killed,
    clients.client_frozen,
    coordinator.coordinator_killed,
    coordinator.coordinator_killed_among_chunks,
    coordinator.coordinator_frozen,
    deliveries.deliveries_disturbed,
    deliveries.chunk_deliveries_disturbed,
    clocks.client_clock_jumps,
    clocks.coordinator_clock_jumps,
    disks.client_disk_full,
    disks.coordinator_disk_full,
    nonsense.nonsense,
    clients.silent,
    doubles.two_clients,
    doubles.two_coordinators,
    doubles.standby,
    doubles.successor,
    arranged.undisturbed,
    arranged.undisturbed_chunks,
    arranged.coordinators_node_killed,
    arranged.clients_node_killed,
    arranged.each_node_killed,
    arranged.worker_killed,
    arranged.workers_killed,
    arranged.workers_killed_among_chunks,
    arranged.leader_killed,
    arranged.leaders_killed,
    arranged.server_killed,
    arranged.server_restarted,
    arranged.cut_off,
    arranged.all_cut_off,
    arranged.all_at_once,
)
