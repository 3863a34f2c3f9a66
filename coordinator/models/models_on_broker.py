"""Our models as they lie on the broker: published, known to be there, and cleared when nobody wants
them any more.

    publish ──▶ retained ──▶ wanted by nobody ──▶ being cleared ──▶ gone

What is wanted is the newest model and those of the rounds that late answers may still be to. What a
coordinator of before left there is `OldModels`' part.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from coordinator.models import published_model
from coordinator.models.old_models import OldModels, as_it_lies
from coordinator.models.published_model import PublishedModel
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import MqttLink, Part
from fedmqtt.topics import Digest, ModelChunk, Topics

Went = Callable[[PublishedModel, ModelChunk, int], None]
"""A chunk of so many bytes goes out, of this model in one of its forms."""


class ModelsOnBroker:
    def __init__(
        self,
        loop: EventLoop,
        link: MqttLink,
        topics: Topics,
        *,
        newest: Callable[[], PublishedModel],
        older: Callable[[], Iterable[ModelRef]],
        may_act: Callable[[], bool],
        went: Went,
    ) -> None:
        """Somebody may be fetching the `newest` model and those `older` ones. Nothing is published
        or cleared any more as soon as we no longer `may_act`."""
        self._link = link
        self._newest, self._older = newest, older
        self._may_act = may_act
        self._went = went
        self._retained: dict[Digest, ModelRef] = {}
        """Models of ours that lie on the broker, in the most chunks that may be there."""
        self._lying: set[Digest] = set()
        """Deltas of ours that were published whole on this connection."""
        self._being_cleared: set[Digest] = set()
        """Those of them that are on their way from it, on this connection."""
        self._streams = 0
        """How many times a model was published: only the newest stream goes on."""
        self._old_models = OldModels(loop, link, topics, may_act)

    def left(self, models: Iterable[ModelRef]) -> None:
        """These lie there still, unless the broker has lost them."""
        for model in models:
            self._retained |= {ref.digest: ref for ref in published_model.refs(model)}

    def connected(self, settled: Iterable[ModelRef]) -> None:
        """To a broker that may have lost everything it kept: all is said and cleared again.

        `settled` are the models of rounds that are over, which may lie there."""
        # Before we publish: our own first chunk would hide in how many chunks the model lies there.
        self._old_models.look(chain.from_iterable(published_model.refs(one) for one in settled))
        self._lying.clear()
        self.publish()
        self._being_cleared.clear()
        self.clear_unwanted()

    def publish(self) -> None:
        """The newest: its chunks, and the deltas that lead to it."""
        model = self._newest()
        for ref in model.refs():
            lying = self._retained.get(ref.digest, ref)
            self._retained[ref.digest] = published_model.in_more_chunks(lying, ref.chunk_bytes)
        self._streams = number = self._streams + 1
        parts = published_model.parts(
            model, lambda: self._goes_on(number, model), self._lying, self._lying.add
        )
        self._link.stream(self._told(parts, model))

    def publish_to(self, node: str) -> None:
        """The newest once more, to one node of several that was away."""
        model, number = self._newest(), self._streams
        parts = published_model.parts(model, lambda: self._goes_on(number, model))
        self._link.stream_to(node, parts)

    def _told(self, parts: Iterator[Part], model: PublishedModel) -> Iterator[Part]:
        for part in parts:
            if isinstance(part.address, ModelChunk):
                self._went(model, part.address, len(part.payload))
            yield part

    def _goes_on(self, stream: int, model: PublishedModel) -> bool:
        digest = model.ref.digest
        is_older = digest != self._newest().ref.digest and digest in self._wanted()
        return (stream == self._streams or is_older) and self._may_act()

    def found(self, digest: Digest, first: bytes) -> None:
        """This first chunk lies on the broker."""
        if (ours := self._retained.get(digest)) is not None:
            self._retained[digest] = as_it_lies(ours, first)
        else:
            self._old_models.clear(digest, first)

    def _wanted(self) -> set[Digest]:
        """The models that somebody may be fetching."""
        older = (published_model.refs(model) for model in self._older())
        return {ref.digest for ref in chain(*older, self._newest().refs())}

    def clear_unwanted(self) -> None:
        wanted = self._wanted() | self._being_cleared
        for digest, ref in list(self._retained.items()):
            if digest not in wanted:
                self._being_cleared.add(digest)
                self._link.stream(self._clearing(ref), behind=True)

    def _clearing(self, ref: ModelRef) -> Iterator[Part]:
        self._lying.discard(ref.digest)
        for part in published_model.cleared(ref):
            if not self._may_act() or ref.digest in self._wanted():
                # It may be the model that a successor offers, or ours again.
                self._being_cleared.discard(ref.digest)
                return
            yield part
        # Only now: when the link breaks in between, the rest is cleared at the end.
        self._retained.pop(ref.digest, None)
        self._being_cleared.discard(ref.digest)

    def all_cleared(self) -> list[Publish]:
        """What takes them all away, for who ends."""
        parts = chain.from_iterable(map(published_model.cleared, self._retained.values()))
        return [Publish(part.address, None) for part in parts]
