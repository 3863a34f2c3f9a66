"""A run's folder: everything of it that outlives the coordinator.

<run>/ledger.db, answers/    what is decided, and what is owed to it (`ledger.py`)
<run>/models/<n>.safetensors the model after n averaged rounds: the newest alone, so that a ledger
                             which is older than it names a file that is not there
<run>/kept/<n>.safetensors   those before it that one can go back to. Of two of so many rounds, on
                             both sides of a rollback, the later is <n>-<r>, with its round r
<run>/clients                what each client gave, where the strategy needs it (`client_store.py`)
<run>/memory/<n>.safetensors what the strategy remembers, where it does (`strategy_memory.py`)
<run>/published/             what clients were given, where that is not the model itself
<run>/bases/<n>.safetensors  the model that round n started from, where the strategy needs it
<run>/model.safetensors      the same file, under a name that does not change
<run>/history.jsonl          the rounds, for people; made from the ledger
<run>/federation.toml        the settings the run began with
<run>/uploads/               answers on their way in
<run>/noise.key              of differential privacy, where there is any: never shown to anybody
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from msgspec import structs

from coordinator.aggregation import Memory
from coordinator.known import Learned
from coordinator.models import checkpoint, published_files
from coordinator.models.object_store import ObjectStore
from coordinator.models.published_model import PublishedModel
from coordinator.orders import Control
from coordinator.persistence import history, recovery
from coordinator.persistence.durable import force, write_whole
from coordinator.persistence.history import Record
from coordinator.persistence.ledger import (
    Beginning,
    Carried,
    Checkpoint,
    KeptModel,
    Ledger,
    OpenRound,
)
from coordinator.persistence.recovery import Recovered
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError
from coordinator.persistence.shared_files import NOISE_KEY, SharedFiles
from coordinator.persistence.storage import Storage
from coordinator.rounds import SETTLED_ROUNDS, Named
from coordinator.sums import strategy_memory
from fedmqtt.privacy import chance
from fedmqtt.status_pages import Privacy
from fedmqtt.topics import ClientId, RoundId, RunId
from fedmqtt.weights import Array, Layout

_FIRST = RoundId(0)
_NOT_IN_RUNS = re.compile(r"[^A-Za-z0-9._-]")


class RunFolder:
    """Raises LedgerError, CheckpointError and OSError."""

    def __init__(
        self,
        folder: Path,
        post: Callable[[Callable[[], None]], None],
        on_failure: Callable[[LedgerError], None],
        *,
        durable: bool = True,
        remembers: int = SETTLED_ROUNDS,
        keeps_models: int = 0,
        storage: Storage | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        """`post` takes the ledger's news into the event loop; `remembers` is the ledger's. So many
        models are kept beside the newest (`keeps_models`), to go back to. `storage`: see Ledger.
        `objects` has the models too."""
        self.path = folder
        self._keeps_models = keeps_models
        self.uploads = folder / "uploads"
        self._models = folder / "models"
        # Before the ledger, which forces the folder's names to the disk.
        self._models.mkdir(exist_ok=True)
        self._kept = folder / "kept"
        self._kept.mkdir(exist_ok=True)
        self._memory = folder / "memory"
        self._memory.mkdir(exist_ok=True)
        self._remembered: Memory | None = None
        """What was written last by this program."""
        self._published = published_files.folder(folder)
        self._published.mkdir(exist_ok=True)
        self._bases = folder / "bases"
        self._is_bases_forced = False
        """Whether it has been by this program, under its name."""
        self.ledger = Ledger(
            folder, post, on_failure, durable=durable, remembers=remembers, storage=storage
        )
        self._shared = SharedFiles(self.ledger, folder, objects)

    def recover(self) -> Recovered | None:
        """Where the run was; None when it has not begun."""
        if self.ledger.beginning() is not None:
            self._shared.fetch_all(self.path / self.ledger.checkpoint().file)
        recovered = recovery.read(self.ledger, self.path)
        if recovered is not None:
            # Made anew: a crash may have come between the ledger and this, or within a line.
            history.write(self.path / "history.jsonl", recovered.records)
            self._show(self.ledger.checkpoint())
        return recovered

    def recover_again(self) -> Recovered:
        """After something was settled in a run that has begun."""
        recovered = self.recover()
        assert recovered is not None
        return recovered

    def noise_key(self, *, is_new: bool) -> bytes:
        """From which all noise of this run comes, to be read by nobody else: who has it can take
        the noise out of every model that was published."""
        path = self.path / NOISE_KEY
        if is_new:
            write_whole(path, key := secrets.token_bytes(chance.KEY_BYTES), mode=0o600)
            self._shared.put_secret(path)
            return key
        self._shared.fetch_secret(path)
        try:
            key = path.read_bytes()
        except OSError as bad:
            raise LedgerDamaged(f"{path}: {bad.strerror}; the run's noise comes from it") from bad
        if len(key) != chance.KEY_BYTES:
            raise LedgerDamaged(f"{path} has {len(key)} bytes, not {chance.KEY_BYTES}")
        return key

    def name_run(self, task: str, layout: Layout, asked: str = "", promised: str = "") -> Beginning:
        """What a new run in this folder will be known by. Nothing is written."""
        return Beginning(
            run=_run_id(self.path.name),
            task=task,
            tensors=[(name, list(shape)) for name, shape in layout.tensors],
            asked=asked,
            differential_privacy=promised,
        )

    def begin(self, beginning: Beginning, model: PublishedModel, carried: Carried) -> None:
        """A new run starts from this model. From now on it can be gone on with."""
        self._shared.begin(beginning.run)
        newest = self._save(model, beginning.task)
        self.ledger.begin(beginning, carried, newest, self._with_model([], RoundId(0), newest))
        self._show(newest)

    def close_round(
        self,
        record: Record,
        held: Sequence[Named],
        carried: Carried,
        model: PublishedModel,
        beginning: Beginning,
        learned: Learned = MappingProxyType({}),
        strategy: str = "",
        memory: Memory | None = None,
        participations: Mapping[ClientId, int] = MappingProxyType({}),
        *,
        remembers_clients: bool = False,
    ) -> None:
        """`model` is what the next round starts from, new or not. What the `strategy` remembers is
        written with a new one, and where it has changed without. It is kept with a model to go back
        to unless it `remembers_clients` by it."""
        newest = self.ledger.checkpoint()
        models = None
        if newest.digest != model.digest or newest.trained_rounds != model.trained_rounds:
            newest = self._save(model, beginning.task, record.privacy, record.round)
            if memory:
                name = Path(newest.file).stem
                newest = self._with_memory(newest, name, strategy, memory)
            kept = structs.replace(newest, memory=None) if remembers_clients else newest
            models = self._with_model(self.ledger.models(), record.round, kept)
        elif memory and memory is not self._remembered:
            # A name of its own: the one before must be there until the ledger names this.
            name = f"{model.trained_rounds}-{record.round}"
            newest = self._with_memory(newest, name, strategy, memory)
        self.ledger.close_round(record, held, carried, newest, learned, participations, models)
        history.append(self.path / "history.jsonl", record)
        self._show(newest)

    def read_model(self, number: RoundId, layout: Layout) -> tuple[KeptModel, Array, Memory]:
        """The model that this round made: its flat vector, and what was remembered beside it.

        Raises KeyError where it is not kept, CheckpointError or LedgerDamaged where it is damaged.
        """
        kept = {one.round: one for one in self.ledger.models()}[number]
        if (older := self._kept / Path(kept.checkpoint.file).name).exists():
            lies = structs.replace(kept.checkpoint, file=str(older.relative_to(self.path)))
            kept = structs.replace(kept, checkpoint=lies)
        named = kept.checkpoint
        flat = recovery.read_model(self.path, named, layout)
        memory = strategy_memory.load(self.path, named.memory) if named.memory else {}
        return kept, flat, memory

    def go_back(self, kept: KeptModel, control: Control, *, remembers_clients: bool) -> None:
        """The newest model is this one from now on, by the orders that `control` tells of."""
        newest = kept.checkpoint
        if remembers_clients:
            newest = structs.replace(newest, memory=self.ledger.checkpoint().memory)
        self.ledger.go_back(newest, control)
        self._show(newest)

    def take_model(self, model: PublishedModel, task: str) -> None:
        """The newest model is this one from now on, which none of the run's rounds has made."""
        newest = self._save(model, task)
        self.ledger.go_back(newest, self.ledger.control())
        self._show(newest)

    def keep_base(self, number: RoundId, oldest: RoundId) -> None:
        """The newest model is what round `number` starts from. Those of rounds before the `oldest`
        are not needed any more."""
        self._bases.mkdir(exist_ok=True)
        if not self._is_bases_forced:
            force(self.path)
            self._is_bases_forced = True
        checkpoint.show(self._base(number), self.path / self.ledger.checkpoint().file)
        # Where there are no links it is a copy.
        force(self._base(number))
        self._shared.put(self._base(number))
        older = [path for path in self._bases.glob("*.safetensors") if int(path.stem) < oldest]
        for other in older:
            other.unlink()
        self._shared.drop(older)
        force(self._bases)

    def has_base(self, number: RoundId) -> bool:
        return self._base(number).exists()

    def base_of(self, number: RoundId, layout: Layout) -> Array:
        """The model that round `number` started from. Raises CheckpointError."""
        return checkpoint.load_as(self._base(number), layout)

    def _base(self, number: RoundId) -> Path:
        return self._bases / f"{number}.safetensors"

    def give_up(
        self,
        open_round: OpenRound,
        recovered: Recovered,
        model: PublishedModel,
        reason: str,
        participations: Mapping[ClientId, int] = MappingProxyType({}),
        privacy: Privacy | None = None,
    ) -> None:
        """Close a round that cannot be gone on with. Its model stays. `participations`: as they are
        from now on, of those that took part in it all the same, and `privacy` with those."""
        opening, refusals = open_round.opening, open_round.refusals
        record = Record(
            round=open_round.number,
            closed=datetime.now(UTC).isoformat(timespec="milliseconds"),
            outcome="kept",
            reason=reason,
            base=opening.model.digest,
            invited=opening.train,
            answered=[],
            dropped=opening.train,
            declined=refusals.declined,
            rejected=refusals.rejected,
            evaluated=[],
            late_updates=0,
            duration_s=round(opening.deadline_s - open_round.closes_in_s, 4),
            samples=0,
            train_metrics={},
            figures=None,
            bytes_received=0,
            bytes_published=0,
            privacy=privacy,
        )
        # Its answers are used up with it: they were made under settings that hold no more.
        given_up = [named for named in recovered.unused if named.round == open_round.number]
        self.close_round(
            record,
            given_up,
            recovered.carried,
            model,
            recovered.beginning,
            participations=participations,
        )

    def _with_memory(
        self, newest: Checkpoint, name: str, strategy: str, memory: Memory
    ) -> Checkpoint:
        self._remembered = memory
        saved = strategy_memory.save(self.path, name, strategy, memory)
        self._shared.put(self.path / saved.file)
        return structs.replace(newest, memory=saved)

    def _with_model(
        self, models: Sequence[KeptModel], number: RoundId, newest: Checkpoint
    ) -> list[KeptModel]:
        """Those that one can go back to, once that round has made this one."""
        # Somebody was told that it will be there.
        wanted = self.ledger.control().rollback
        if not self._keeps_models and wanted is None:
            return []
        stripped = structs.replace(newest, published=None)
        kept = [*models, KeptModel(round=number, checkpoint=stripped)]
        last = kept[-1 - self._keeps_models :] if self._keeps_models else []
        return [one for one in kept if one.round == wanted and one not in last] + last

    def _save(
        self,
        model: PublishedModel,
        task: str,
        privacy: Privacy | None = None,
        number: RoundId = _FIRST,
    ) -> Checkpoint:
        path = self._models / f"{model.trained_rounds}.safetensors"
        if any(Path(one.checkpoint.file).name == path.name for one in self.ledger.models()):
            # After one went back, there may be a model of so many rounds already.
            path = self._models / f"{model.trained_rounds}-{number}.safetensors"
        about = {"task": task, "run": self.path.name, "trained_rounds": str(model.trained_rounds)}
        if privacy is not None:
            about |= {"epsilon": repr(privacy.epsilon), "delta": repr(privacy.delta)}
        checkpoint.save(path, model.layout, model.flat, about)
        self._shared.put(path)
        published = None
        if model.is_off or model.deltas:
            given = (model.ref.digest, model.file, model.deltas)
            published = published_files.save(self.path, *given)
            for file in sorted(published_files.paths(self.path, published)):
                self._shared.put(file)
        return Checkpoint(
            file=str(path.relative_to(self.path)),
            digest=model.digest,
            trained_rounds=model.trained_rounds,
            published=published,
        )

    def _show(self, newest: Checkpoint) -> None:
        """Once the ledger names it: before, a crash must find the one before it."""
        path = self.path / newest.file
        checkpoint.show(self.path / "model.safetensors", path)
        memory = self.path / newest.memory.file if newest.memory else None
        named = {path, memory, *published_files.paths(self.path, newest.published)}
        for kept in (one.checkpoint for one in self.ledger.models()):
            made = self.path / kept.file
            if made != path and made.exists():
                made.replace(self._kept / made.name)
            named.add(self._kept / made.name)
            named.add(self.path / kept.memory.file if kept.memory else None)
        for folder in (self._models, self._memory, self._published, self._kept):
            for other in folder.iterdir():
                if other not in named:
                    other.unlink()
        self._shared.keep_only(path for path in named if path is not None)


def _run_id(folder: str) -> RunId:
    # The folder's name alone may come again, and clients answer each round of a run once.
    name = _NOT_IN_RUNS.sub("_", folder)[:100].lstrip("._-") or "run"
    return RunId(f"{name}.{secrets.token_hex(4)}")
