"""A coordinator that shows lists to keyholders as it likes, and what is known then.

Honest keyholders are their machine, with real keys, seals and sums; the disk is left out, and what
it must do (`tests/keyholder/test_book.py`) done by hand.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from msgspec import structs

from fedmqtt import signing
from fedmqtt.masking import commitments, packing, sealing, seeds
from fedmqtt.masking.masks import add_mask
from fedmqtt.messages import Answered, Entry, Keyholder, Masking, Open, RoundKey
from fedmqtt.topics import ClientId, Digest
from keyholder import rules, sums
from keyholder import taken as taken_by
from keyholder.rules import Rules, State
from keyholder.sums import Keeper, Unfit
from tests.keyholder.masked_clients import BASE, ROUND, TAIL, Answers
from tests.keyholder.open_combinations import Row, fewest

FEDERATION, PRIVATE = "demo", signing.new_key()
FLOOR, CLIENTS, SIZE = 3, 7, 2
NUMBERS = (1, 2)
"""Of the keys that each keyholder has."""

DEAD = Digest("d" * 64)
"""A model at which nothing is to be learned: who answers it tells nothing."""

Shape = tuple[int, int]
Step = Callable[[State, rules.Event, Rules], tuple[State, list[rules.Effect]]]


class Honest:
    """One keyholder that does as its machine says."""

    def __init__(self, place: int, folder: Path, step: Step) -> None:
        self.name, self.place = ClientId(f"kh-{place}"), place
        self.pairs = {number: sealing.new_round_key() for number in NUMBERS}
        self._folder, self._step = folder / self.name, step
        self._folder.mkdir()
        self._state = State(keys={number: pair[1] for number, pair in self.pairs.items()})
        self._rules = Rules(name=self.name, serves=("keyholders", "trusted"), mixed_rounds=True)
        self._shares: list[sums.Share] = []
        self.said: rules.Effect | None = None
        """To the coordinator, last."""
        self.answered: list[tuple[Open, dict[int, bytes]]] = []
        """Lists, and of each seed that it holds the sum: all that it could be asked for."""

    def key(self, number: int) -> RoundKey:
        return RoundKey(number, self.pairs[number][1], bytes(64))

    def ask(self, asked: Open) -> None:
        self._happen(rules.Asked(asked))

    def _happen(self, event: rules.Event) -> None:
        self._state, effects = self._step(self._state, event, self._rules)
        for effect in effects:
            self._perform(effect)

    @property
    def _keeper(self) -> Keeper:
        return Keeper(
            federation=FEDERATION,
            federation_key=signing.public_key(PRIVATE),
            name=self.name,
        )

    def _perform(self, effect: rules.Effect) -> None:
        match effect:
            case rules.Check(asked, number):
                keeper = self._keeper
                try:
                    self._shares = sums.shares(asked, keeper, self.pairs[number][0])
                except Unfit as bad:
                    self._happen(rules.Checked(asked.digest, str(bad), bad.clients))
                else:
                    self._happen(rules.Checked(asked.digest))
            case rules.AddUp(asked, number):
                path = self._folder / asked.digest.hex()
                digests = sums.add_up(asked, self._keeper, self._shares, path)
                held = rules.held(asked.masking, self.name)
                data, each = path.read_bytes(), path.stat().st_size // len(held)
                told = {seed: data[at * each : (at + 1) * each] for at, seed in enumerate(held)}
                self.answered.append((asked, told))
                self._happen(rules.AddedUp(asked.digest, digests))
            case rules.Finish(listed):
                gone = listed.number - listed.opens_more
                left = {n: one for n, one in self._state.keys.items() if n > gone}
                self._happen(rules.KeysChanged(left))
                self._happen(rules.Finished(listed))
            case rules.Fit() | rules.Refuse() | rules.Answer():
                self.said = effect
            case _:
                pass


class Adversary:
    """A coordinator that does what it likes, some keyholders that give their keys away, and what
    all of them know together."""

    def __init__(
        self,
        shape: Shape,
        leaking: int,
        folder: Path,
        step: Step = rules.step,
        clients: int = CLIENTS,
    ) -> None:
        """`clients`: that answer each offer."""
        self._clients = range(clients)
        self.places, self.tolerated = shape
        self.honest = [Honest(place, folder, step) for place in range(self.places)]
        self.leaking = range(leaking)
        """Places."""
        self._answers: list[tuple[str, Masking]] = []
        self._entries: dict[str, Entry] = {}
        self._made: list[Answers] = []
        self._own: set[str] = set()
        """Clients that work with it."""
        self._of_dead: set[str] = set()
        """Clients that were given the dead model."""

    @property
    def offers(self) -> int:
        return len(self._made)

    def offer(
        self, named: Sequence[tuple[int, int]], lists_max: int = 1, times_max: int = 1
    ) -> int:
        """To clients that answer nobody else: by these keyholders, each with a key. Its number."""
        how = Masking(
            mode="keyholders" if self.tolerated else "trusted",
            keyholders=tuple(
                Keyholder(self.honest[place].name, place, self.honest[place].key(number))
                for place, number in named
            ),
            places=self.places,
            tolerated=self.tolerated,
            floor=FLOOR,
            bits=20,
            value_bits=12,
            change_max=1.0,
            lists_max=lists_max,
            times_max=times_max,
        )
        made = Answers(FEDERATION, PRIVATE, how, SIZE)
        for number in self._clients:
            name = f"c{len(self._made)}-{number}"
            self._entries[name] = made.of(name)
            self._answers.append((name, how))
        self._made.append(made)
        return len(self._made) - 1

    def ask(
        self,
        place: int,
        offer: int,
        clients: Set[int],
        times: Mapping[int, int] | None = None,
        *,
        looks: bool = False,
    ) -> None:
        """`times`: of clients that are in the sum more often than once."""
        made, times = self._made[offer], times or {}
        entries = [
            structs.replace(self._entries[f"c{offer}-{number}"], times=times.get(number, 1))
            for number in sorted(clients)
        ]
        asked = made.list(entries, (), looks=looks, answered=self._answered(entries))
        if any(one.name == self.honest[place].name for one in made.how.keyholders):
            held = rules.held(made.how, self.honest[place].name)
            asked = structs.replace(asked, seeds=held)
        self.honest[place].ask(asked)

    def spoil(self, offer: int, client: int, places: Set[int]) -> None:
        """What this client sealed to these keyholders does not open."""
        made, name = self._made[offer], f"c{offer}-{client}"
        self._own.add(name)
        self._entries[name] = made.of(name, spoiled_for=[f"kh-{place}" for place in places])

    def give_dead_model(self, offer: int, clients: Set[int]) -> None:
        made = self._made[offer]
        for number in clients:
            name = f"c{offer}-{number}"
            self._of_dead.add(name)
            self._entries[name] = made.of(name, base=DEAD)

    def _answered(self, entries: Sequence[Entry]) -> tuple[Answered, ...]:
        """As it has to be said for them to be found in order; none where all are of `BASE`."""
        bases = [DEAD if one.client in self._of_dead else BASE for one in entries]
        if DEAD not in bases:
            return ()
        return tuple(Answered(ROUND, base, len([*some])) for base, some in groupby(bases))

    def named_by(self, place: int) -> set[int]:
        """Whom this keyholder called unfit when it said something last."""
        said = self.honest[place].said
        return {number_of(one) for one in said.unfit} if isinstance(said, rules.Refuse) else set()

    def fewest(self) -> int | None:
        """Of how few answers to a model of which there is something to learn, not all of which are
        its own, it knows a combination; None where of none."""
        columns = [name for name, _ in self._answers]
        of_seeds = [self._rows(seed, columns) for seed in range(self._seeds)]
        own = [at for at, name in enumerate(columns) if name in self._own]
        of_dead = [at for at, name in enumerate(columns) if name in self._of_dead]
        return fewest(of_seeds, len(columns), own, of_dead)

    def _rows(self, seed: int, columns: Sequence[str]) -> list[Row]:
        """Of each sum of this seed's masks that it knows, who is in it how often."""
        rows: list[Row] = []
        for keyholder in self.honest:
            for asked, told in keyholder.answered:
                if seed in told:
                    times = {entry.client: entry.times for entry in asked.entries}
                    rows.append(tuple(times.get(ClientId(name), 0) for name in columns))
        for at, (_, how) in enumerate(self._answers):
            given_away = (one.place for one in how.keyholders if one.place in self.leaking)
            if any(seed in self._held(place) for place in given_away):
                rows.append(tuple(int(at == other) for other in range(len(columns))))
        return rows

    def check_sums(self) -> None:
        """What was told is what the rows say: else they would prove nothing."""
        for keyholder in self.honest:
            for asked, told in keyholder.answered:
                for seed, packed in told.items():
                    words = np.zeros(SIZE + TAIL, np.uint32)
                    for entry in asked.entries:
                        add_mask(words, self._key(keyholder, asked, entry, seed), entry.times)
                    assert packing.to_payload(words, SIZE, asked.masking.bits) == packed

    def _key(self, keyholder: Honest, asked: Open, entry: Entry, seed: int) -> bytes:
        names = [one.name for one in asked.masking.keyholders]
        at = names.index(keyholder.name)
        number = asked.masking.keyholders[at].key.number
        base = DEAD if entry.client in self._of_dead else BASE
        told = (FEDERATION, asked.run, asked.round, entry.client, base)
        what = sealing.context(*told, keyholder.name, number)
        masked = entry.masked
        private = keyholder.pairs[number][0]
        share = sealing.open_sealed(private, masked.exchange, what, masked.sealed[at])
        what_for = commitments.context(*told, masked.exchange)
        keys = commitments.keys(asked.masking, keyholder.place, what_for, share, masked.commitments)
        return keys[self._held(keyholder.place).index(seed)]

    def _held(self, place: int) -> tuple[int, ...]:
        return seeds.held_by(self.places, self.tolerated)[place]

    @property
    def _seeds(self) -> int:
        return seeds.count(self.places, self.tolerated)


def number_of(client: ClientId) -> int:
    return int(client.partition("-")[2])


def but_for(
    reason: str, state: State, event: rules.Event, of: Rules
) -> tuple[State, list[rules.Effect]]:
    """As the rules have it, but for what is refused for this reason."""
    following, effects = rules.step(state, event, of)
    if not (isinstance(event, rules.Asked) and isinstance(effects[0], rules.Refuse)):
        return following, effects
    asked = event.open
    number = next(one.key.number for one in asked.masking.keyholders if one.name == of.name)
    taken = state.taken.get(number)
    is_free = taken is None or not taken_by.why_not(asked, number, taken)
    if reason in effects[0].reason and is_free and number in state.keys:
        return replace(state, work=rules.Work(asked, number)), [rules.Check(asked, number)]
    return following, effects
