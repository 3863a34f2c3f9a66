"""Clients that do no training, for `round_overhead.py`: real agents, links and outboxes.

Their trainer does its work within this process, so that what is measured is the system and not
the start of a process. Ends when stdin does, and prints what its links carried as JSON.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import signed
from edge_client import trainer
from edge_client.agent import Agent
from edge_client.config import ClientConfig
from edge_client.privacy import Privacy
from edge_client.rebuild import rebuild
from edge_client.trainer_pool import Report, Ticket
from edge_client.training_job import Done, Job, Rebuild, Rebuilt
from fedmqtt import credentials
from fedmqtt.event_loop import EventLoop


class InProcessTrainer:
    """Does a job at once, in this process."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket:
        ticket = Ticket(job, report)
        self._loop.post(lambda: self._work(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        ticket.report = None

    def _work(self, ticket: Ticket) -> None:
        if ticket.report is None:
            return
        if isinstance(ticket.job, Rebuild):
            rebuild(ticket.job)
            ticket.report(Rebuilt())
            return
        answer = trainer.work(ticket.job, lambda fraction: None)
        done = Done(
            run=answer.run, round=answer.round, digest=answer.digest, size_bytes=answer.size_bytes
        )
        ticket.report(done)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--broker")
    where.add_argument("--accounts", type=Path, help="a kit's: by the credentials of each")
    parser.add_argument("--federation", default="")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("ids", nargs="+")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    loop = EventLoop()
    trainers = InProcessTrainer(loop)
    agents = [_agent(loop, trainers, arguments, client) for client in arguments.ids]
    for agent in agents:
        agent.start()
    loop.watch(sys.stdin.fileno(), lambda _readable, _writable: loop.stop())
    loop.run()
    for agent in agents:
        agent.stop()
    carried = {
        "bytes_sent": sum(agent.link.bytes_sent for agent in agents),
        "bytes_received": sum(agent.link.bytes_received for agent in agents),
    }
    sys.stdout.write(json.dumps(carried) + "\n")
    return 0


def _agent(
    loop: EventLoop, trainers: InProcessTrainer, arguments: argparse.Namespace, client: str
) -> Agent:
    account = None
    if arguments.accounts is not None:
        path = arguments.accounts / f"{client}.toml"
        account, broker = credentials.broker_of(path, ("device",))
    else:
        broker = signed.of_client(arguments.broker, arguments.federation, client)
    config = ClientConfig(
        # Those of a kit with keyholders would decline what they are to be compared with.
        privacy=Privacy(at_least="plain"),
        broker=str(broker),
        federation=account.federation if account is not None else arguments.federation,
        id=client,
        task="benchmarks.echo_task",
        state=str(arguments.state / client),
        purposes=("train",),
    )
    return Agent(loop, broker, config, trainers, account=account)


if __name__ == "__main__":
    sys.exit(main())
