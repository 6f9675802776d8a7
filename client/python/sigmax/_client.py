"""The client for threads; `_aio` holds the one for asyncio."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from sigmax import _channel, _codec
from sigmax._codec import Inputs, Question
from sigmax._errors import SigmaxError
from sigmax._model import Model, ModelSummary
from sigmax._result import Result
from sigmax._retry import Schedule
from sigmax._status import from_rpc_error
from sigmax._stream import Exchange, Key
from sigmax.v1 import classifier_pb2 as pb
from sigmax.v1.classifier_pb2_grpc import ClassifierServiceStub

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class Client:
    """A client of one server, over one connection. Threads may share a client.

    Close a client after use, or use it in a `with` statement. The connection is opened by the
    first call.

    Every call has a deadline, unless its timeout is `math.inf`. A call is retried until then, at
    most `retries` times, after errors that may pass: `Unavailable`, and `Overloaded` where the
    server names a time after which to retry.

    Args:
        address: Host and port, such as "localhost:8001", or "unix:PATH" for a Unix domain socket.
        timeout: Default time limit of a call in seconds, all its retries together; `math.inf` for
            none.
        retries: Most retries of one call; 0 for none.
    """

    def __init__(
        self, address: str = "localhost:8001", *, timeout: float = 10.0, retries: int = 4
    ) -> None:
        self._timeout = timeout
        self._retries = retries
        self._channel = grpc.insecure_channel(address, options=_channel.options(address))
        self._stub = ClassifierServiceStub(self._channel)
        self._watch = self._channel.unary_stream(
            _channel.WATCH_METHOD, _channel.WATCH_REQUEST, _channel.WATCH_RESPONSE
        )
        self._described: dict[tuple[str, str], Model] = {}

    def classify(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float | None = None,
    ) -> Result:
        """Classify one row or a batch of rows.

        The model's description is fetched by the first call and kept. The description names the
        dtype that values are converted to. It also tells a batch from one row: a batch has as many
        axes as the model's input, one row has one axis fewer. Where the values do not fit a kept
        description, or the server refuses them, the description is fetched again; the call is
        repeated once where the inputs have changed.

        Args:
            model: Name of the model.
            inputs: Values of the model's input: lists, a NumPy array or any object with
                `__array__`, such as a PyTorch tensor. Shape [rows, ...] for a batch, without the
                first axis for one row. A model with several inputs takes a dict of them by name.
            version: Version as a decimal number; empty for the newest that is ready.
            top_k: Most classes to return for each row, the most probable first; 0 for all.
            threshold: Threshold in [0, 1], instead of the model's own, for every class; None for
                the model's own. Multi-class models take none.
            return_probabilities: Whether to return the array of all probabilities as well.
            timeout: Time limit of this call in seconds, all its retries together; None for the
                client's own, `math.inf` for none.

        Returns:
            The answer: a sequence of one `Classification` for each row, in the order of the
            request.

        Raises:
            InvalidInput: The values do not fit the model, or a conversion would change them: 0.5
                or 300 for UINT8, 16,777,217 for FP32. Floats that go to a floating-point dtype are
                rounded to the nearest value of it, and not refused for that.
            ModelNotFound: The server has no such model, or no such version of it.
            NotSupported: The model declares no task, so its output is not known to be
                probabilities.
            Overloaded: The server has too much work, after all retries.
            DeadlineExceeded: The call took longer than `timeout`.
            Unavailable: The server cannot be reached, or the model is not loaded, after all
                retries.
            SigmaxError: The call failed for any other reason; see the subclasses.
        """
        question = Question(model, version, top_k, threshold, return_probabilities)
        schedule = self._schedule(timeout)
        kept = self._described.get((model, version))
        described = kept or self._describe(model, version, schedule)
        try:
            return self._ask(question, described, inputs, schedule)
        except SigmaxError as error:
            if kept is None or not _codec.may_be_outdated(error):
                raise
            described = self._describe(model, version, schedule)
            if described.inputs == kept.inputs:
                raise
        return self._ask(question, described, inputs, schedule)

    def classify_stream(
        self,
        model: str,
        items: Iterable[tuple[Key, Inputs]],
        *,
        version: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float = math.inf,
    ) -> Iterator[tuple[Key, Result | SigmaxError]]:
        """Classify many rows or batches over one stream; answers may overtake each other.

        The stream begins when the first answer is asked for, and ends when the iterator is closed.

        Args:
            model: Name of the model.
            items: Pairs of a key and values. The key is the caller's own, of any type, and may
                repeat; the values are as for `classify`. Another thread reads the pairs, as fast as
                the connection takes them. An exception that the iterable raises is raised here
                after the answers to all pairs before it.
            version: Version, as for `classify`.
            top_k: Most classes to return for each row, as for `classify`.
            threshold: Threshold in [0, 1], as for `classify`.
            return_probabilities: Whether to return all probabilities, as for `classify`.
            timeout: Time limit of the whole stream in seconds; `math.inf` for none.

        Yields:
            The key of each item with its result, or with the error of that item alone.

        Raises:
            SigmaxError: The stream failed as a whole. A stream is not retried.
        """
        question = Question(model, version, top_k, threshold, return_probabilities)
        schedule = Schedule(timeout, self._retries)
        exchange: Exchange[Key] = Exchange(question, self._describe(model, version, schedule))

        def requests() -> Iterator[pb.ClassifyStreamRequest]:
            try:
                for key, inputs in items:
                    yield from exchange.ask(key, inputs)
            except Exception as error:
                exchange.broken = error

        call = self._stub.ClassifyStream(requests(), timeout=schedule.remaining())
        try:
            for reply in call:
                yield from exchange.answers(reply)
        except grpc.RpcError as failure:
            raise from_rpc_error(failure) from failure
        finally:
            call.cancel()  # for a caller that stops early; otherwise the call has ended already
        yield from exchange.refused()
        if exchange.broken is not None:
            raise exchange.broken

    def models(self, *, timeout: float | None = None) -> list[ModelSummary]:
        """List all models of the server, in the order of their names.

        Args:
            timeout: Time limit of this call in seconds; None for the client's own.

        Raises:
            SigmaxError: The call failed; see the subclasses.
        """
        reply = self._call(self._stub.ListModels, pb.ListModelsRequest(), self._schedule(timeout))
        return [_codec.decode_summary(model) for model in reply.models]

    def model(self, name: str, *, version: str = "", timeout: float | None = None) -> Model:
        """Fetch the description of one version of a model.

        Args:
            name: Name of the model.
            version: Version as a decimal number; empty for the newest that is ready.
            timeout: Time limit of this call in seconds; None for the client's own.

        Raises:
            ModelNotFound: The server has no such model, or no such version of it.
            SigmaxError: The call failed for any other reason; see the subclasses.
        """
        return self._describe(name, version, self._schedule(timeout))

    def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Wait until the server, or one of its models, is ready. The server need not run yet.

        Args:
            timeout: Time limit in seconds; `math.inf` for none.
            model: Name of the model to wait for; empty for the whole server.

        Raises:
            DeadlineExceeded: The server or the model was not ready within `timeout`.
            SigmaxError: The wait failed for any other reason, such as a server without the
                service grpc.health.v1.
        """
        schedule = Schedule(timeout, sys.maxsize)
        seen = "no answer"
        while True:
            call = self._watch(
                _channel.watch_request(model), timeout=schedule.remaining(), wait_for_ready=True
            )
            try:
                for status in call:
                    if status.value == _channel.SERVING:
                        return
                    seen = _channel.status_name(status.value)
                error: SigmaxError = _channel.watch_ended()
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            finally:
                call.cancel()
            pause = schedule.pause_after(error)
            if pause is None:
                raise _channel.not_ready(model, timeout, seen, error)
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection, and cancel the calls under way."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _schedule(self, timeout: float | None) -> Schedule:
        return Schedule(self._timeout if timeout is None else timeout, self._retries)

    def _ask(
        self, question: Question, described: Model, inputs: Inputs, schedule: Schedule
    ) -> Result:
        request, single = _codec.encode(question, described, inputs)
        return _codec.decode(self._call(self._stub.Classify, request, schedule), described, single)

    def _describe(self, name: str, version: str, schedule: Schedule) -> Model:
        request = pb.GetModelRequest(model_name=name, model_version=version)
        model = _codec.decode_model(self._call(self._stub.GetModel, request, schedule).model)
        self._described[name, version] = model
        return model

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Reply]",
        request: _Request,
        schedule: Schedule,
    ) -> _Reply:
        while True:
            try:
                return method(request, timeout=schedule.remaining())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
                pause = schedule.pause_after(error)
                if pause is None:
                    raise error from failure
            time.sleep(pause)
