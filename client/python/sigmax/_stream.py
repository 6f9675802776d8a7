"""The book-keeping of one stream: which answer belongs to which request. Pure, for both clients."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from sigmax import _codec
from sigmax._codec import Inputs, Question
from sigmax._errors import SigmaxError
from sigmax._model import Model
from sigmax._result import Result
from sigmax._status import from_stream_error
from sigmax.v1 import classifier_pb2 as pb

Key = TypeVar("Key")


class Exchange(Generic[Key]):
    """What has been asked over a stream and not been answered yet.

    On the wire requests are numbered, so that a caller's keys may be of any type and repeat.

    Attributes:
        broken: What the caller's own iterable raised; to be raised again once all is answered.
    """

    def __init__(self, question: Question, model: Model) -> None:
        self._question = question
        self._model = model
        self._sent = 0
        self._pending: dict[str, tuple[Key, bool]] = {}
        self._refused: list[tuple[Key, SigmaxError]] = []
        self.broken: Exception | None = None

    def ask(self, key: Key, inputs: Inputs) -> Iterator[pb.ClassifyStreamRequest]:
        """Give the request to send; none where the inputs are refused before sending."""
        try:
            request, single = _codec.encode(self._question, self._model, inputs)
        except SigmaxError as error:
            self._refused.append((key, error))
            return
        self._sent += 1
        number = str(self._sent)
        self._pending[number] = (key, single)
        yield pb.ClassifyStreamRequest(id=number, request=request)

    def answers(
        self, reply: pb.ClassifyStreamResponse
    ) -> Iterator[tuple[Key, Result | SigmaxError]]:
        """Give what `reply` answers, and what has been refused meanwhile."""
        yield from self.refused()
        key, single = self._pending.pop(reply.id)
        if reply.WhichOneof("result") == "error":
            yield key, from_stream_error(reply.error.code, reply.error.message, reply.error.reason)
        else:
            yield key, _codec.decode(reply.response, self._model, single)

    def refused(self) -> Iterator[tuple[Key, SigmaxError]]:
        """Give what has been refused before sending since the last time."""
        while self._refused:
            yield self._refused.pop(0)
