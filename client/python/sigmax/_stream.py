"""The state of one stream: which answer belongs to which request. Both clients share it.

Nothing in this module sends or waits.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from sigmax import _codec
from sigmax._codec import Asked, Question
from sigmax._errors import ServerFault, SigmaxError
from sigmax._inputs import Inputs
from sigmax._model import Model
from sigmax._result import Result
from sigmax._status import from_stream_error
from sigmax.v1 import classifier_pb2 as pb

Key = TypeVar("Key")

_MOST_NAMED = 8  # keys in the message about answers that are missing


class Exchange(Generic[Key]):
    """The requests of one stream that have no answer yet.

    Requests are numbered on the wire, so that a caller's keys may be of any type and repeat.

    Attributes:
        broken: The exception that the caller's iterable raised, to be raised again after the last
            answer; None where it raised none.
        read_all: Whether the caller's iterable has ended, so that no request follows.
    """

    def __init__(self, question: Question, model: Model) -> None:
        self._question = question
        self._model = model
        self._sent = 0
        self._pending: dict[str, tuple[Key, Asked]] = {}
        self._refused: list[tuple[Key, SigmaxError]] = []
        self.broken: Exception | None = None
        self.read_all = False

    def ask(self, key: Key, inputs: Inputs) -> Iterator[pb.ClassifyStreamRequest]:
        """Yield the request to send; nothing where the inputs are refused before sending."""
        try:
            request, asked = _codec.encode(self._question, self._model, inputs)
        except SigmaxError as error:
            self._refused.append((key, error))
            return
        self._sent += 1
        number = str(self._sent)
        self._pending[number] = (key, asked)
        yield pb.ClassifyStreamRequest(id=number, request=request)

    def answers(
        self, reply: pb.ClassifyStreamResponse
    ) -> Iterator[tuple[Key, Result | SigmaxError]]:
        """Yield the key and the result of `reply`, after the inputs refused in the meantime.

        Raises:
            ServerFault: No request without an answer has the reply's id.
        """
        yield from self.refused()
        if reply.id not in self._pending:
            raise ServerFault.malformed(f"no request without an answer has the id '{reply.id}'")
        key, asked = self._pending.pop(reply.id)
        if reply.WhichOneof("result") == "error":
            yield key, from_stream_error(reply.error.code, reply.error.message, reply.error.reason)
            return
        try:
            result: Result | SigmaxError = _codec.decode(reply.response, asked)
        except ServerFault as error:
            result = error
        yield key, result

    def refused(self) -> Iterator[tuple[Key, SigmaxError]]:
        """Yield the keys whose inputs were refused before sending, each once, with the error."""
        while self._refused:
            yield self._refused.pop(0)

    def end(self) -> Iterator[tuple[Key, SigmaxError]]:
        """Yield what is left to say after a stream that the server has ended without an error.

        Raises:
            ServerFault: A request has no answer, or the server ended the stream before the last.
            Exception: The exception that the caller's iterable raised.
        """
        yield from self.refused()
        if self._pending:
            keys = [repr(key) for key, _ in self._pending.values()]
            more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
            raise ServerFault.malformed(
                f"the stream has ended without answers to {', '.join(keys[:_MOST_NAMED])}{more}"
            ) from self.broken
        if self.broken is not None:
            raise self.broken
        if not self.read_all:
            raise ServerFault.malformed("the stream has ended before all items were sent")
