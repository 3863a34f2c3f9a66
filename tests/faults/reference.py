"""What a run's models must be, bit for bit, given whose answers counted in each round.

    who answered ──▶ each client's training, done again here ──▶ exact average ──▶ next model

Training goes through the trainer's own `work`, the average through the same exact sum, both in this
process and from nothing but the run's settings. So equality proves that nothing that was accepted
got lost, was added twice, or was changed on its way, by whatever happened meanwhile.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from coordinator.aggregation import Round, fedavg
from coordinator.config import FederationConfig
from coordinator.models import checkpoint
from coordinator.rounds import Named
from edge_client import trainer
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance, messages, weights
from fedmqtt.fixed_point import fraction_bits
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array
from learning_tasks.initial_model import write_initial_model

_Key = tuple[str, int, str, int, Digest]

_done: dict[_Key, Update] = {}
_one_at_a_time = threading.Lock()
"""Scenarios run side by side, and share what has been trained."""


class Reference:
    """The models that a run with these settings would make, one round after the other."""

    def __init__(self, config: FederationConfig) -> None:
        self._config = config
        with TemporaryDirectory(prefix="fedmqtt-reference-") as folder:
            # Through a file, as the coordinator has it: the file's order of tensors is the model's.
            path = Path(folder) / "initial.safetensors"
            write_initial_model(config.task, config.seed, path)
            self.layout, self.initial = checkpoint.load(path)

    def digest(self, model: Array) -> Digest:
        """Of the file in which clients would fetch it."""
        return weights.digest(weights.write(self.layout, model))

    def next(self, base: Array, number: int, answered: Sequence[str], invited: int) -> Array:
        """The model after a round; a client that is listed twice is counted twice."""
        config = self._config
        bits = fraction_bits(config.limits.change_max, config.limits.samples_max, invited)
        average = fedavg.build(fedavg.Settings(), Round(size=base.size, bits=bits))
        codec = codec_chain.read(config.codec)
        for client in answered:
            update = self._answer(base, client, number)
            named = Named(ClientId(client), RoundId(number))
            chances = codec_chance.of_answer(config.seed, named.round, named.client)
            change = codec.decode(update.payload, base.size, chances, self.layout.shapes)
            average.fold(change, update.sample_count, named)
        return average.finish(base)

    def _answer(self, base: Array, client: str, number: int) -> Update:
        digest = self.digest(base)
        key = (self._config.task, self._config.seed, client, number, digest)
        with _one_at_a_time:
            if key not in _done:
                _done[key] = self._train(base, client, number, digest)
            return _done[key]

    def _train(self, base: Array, client: str, number: int, digest: Digest) -> Update:
        with TemporaryDirectory(prefix="fedmqtt-reference-") as folder:
            model = Path(folder) / "base.model"
            model.write_bytes(weights.write(self.layout, base))
            outbox = Outbox(Path(folder) / "outbox")
            job = Job(
                client=ClientId(client),
                purpose="train",
                task=self._config.task,
                # Nothing there sets a pace or holds the training.
                data_dir=folder,
                model_path=str(model),
                outbox=str(outbox.folder),
                memory=str(Path(folder) / "memory"),
                run=RunId("reference"),
                round=RoundId(number),
                base=digest,
                measure_base=False,
                fingerprint=self.layout.fingerprint,
                training=self._config.training,
                codec=self._config.codec,
                seed=self._config.seed,
            )
            answer = trainer.work(job, lambda fraction: None)
            update = messages.read_from_client(outbox.read(answer))
        assert isinstance(update, Update)
        return update
