"""The state of one stream: which answer belongs to which request. Both clients share it.

Nothing in this module sends or waits.
"""

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
    """The requests of one stream that have no answer yet.

    Requests are numbered on the wire, so that a caller's keys may be of any type and repeat.

    Attributes:
        broken: The exception that the caller's iterable raised, to be raised again after the last
            answer; None where it raised none.
    """

    def __init__(self, question: Question, model: Model) -> None:
        self._question = question
        self._model = model
        self._sent = 0
        self._pending: dict[str, tuple[Key, bool]] = {}
        self._refused: list[tuple[Key, SigmaxError]] = []
        self.broken: Exception | None = None

    def ask(self, key: Key, inputs: Inputs) -> Iterator[pb.ClassifyStreamRequest]:
        """Yield the request to send; nothing where the inputs are refused before sending."""
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
        """Yield the key and the result of `reply`, after the inputs refused in the meantime."""
        yield from self.refused()
        key, single = self._pending.pop(reply.id)
        if reply.WhichOneof("result") == "error":
            yield key, from_stream_error(reply.error.code, reply.error.message, reply.error.reason)
        else:
            yield key, _codec.decode(reply.response, self._model, single)

    def refused(self) -> Iterator[tuple[Key, SigmaxError]]:
        """Yield the keys whose inputs were refused before sending, each once, with the error."""
        while self._refused:
            yield self._refused.pop(0)
