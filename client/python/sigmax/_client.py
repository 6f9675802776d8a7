"""The client for threads; `_aio` holds its twin for asyncio."""

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
    """Asks a server over one connection. May be shared by threads; close it, or use `with`.

    Every call has a deadline, and what passes by itself is tried again within it: `Unavailable`,
    and `Overloaded` after the time the server names.

    Args:
        address: Host and port, such as "localhost:8001", or "unix:PATH". Nothing is sent before
            the first call.
        timeout: Seconds one call may take, all its tries together; `math.inf` for no deadline.
        retries: How many failures of a call are tried again.
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
        """Classify one row or a batch.

        The model's description is fetched once and kept. It says which dtype the values are
        converted to, and whether they are one row or a batch: a batch has as many axes as the
        model's input, one row has one fewer.

        Args:
            model: The model's name.
            inputs: Lists, a NumPy array or anything with `__array__`, such as a tensor of
                PyTorch; for a model with several inputs, a dict of them by name.
            version: A decimal number; empty: the newest that is ready.
            top_k: How many classes to return a row, the most probable first; 0: all.
            threshold: In [0, 1], replaces the model's own. Not for multi-class models.
            return_probabilities: Whether to return the whole array of probabilities, too.
            timeout: Seconds for this call; None: the client's own.

        Raises:
            InvalidInput: Values do not fit the model, or a conversion would change them: 0.5 or
                300 for UINT8, 16,777,217 for FP32. Floats are rounded to the nearest the model
                takes.
            ModelNotFound: There is no such model or version.
            NotSupported: The model declares no task.
            SigmaxError: Any other of its kinds.
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

        Nothing is sent before the first answer is asked for.

        Args:
            model: The model's name.
            items: Pairs of a key of your own and the values, as `classify` takes them. They are
                read by another thread, as fast as the connection takes them.
            version: As for `classify`.
            top_k: As for `classify`.
            threshold: As for `classify`.
            return_probabilities: As for `classify`.
            timeout: Seconds for the whole stream.

        Yields:
            The key of every item with its result, or with the error that hit it alone.

        Raises:
            SigmaxError: The stream as a whole failed. It is not tried again.
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
            call.cancel()  # where the caller stops early; else it has ended by itself
        yield from exchange.refused()
        if exchange.broken is not None:
            raise exchange.broken

    def models(self, *, timeout: float | None = None) -> list[ModelSummary]:
        """List every model the server knows, by name."""
        reply = self._call(self._stub.ListModels, pb.ListModelsRequest(), self._schedule(timeout))
        return [_codec.decode_summary(model) for model in reply.models]

    def model(self, name: str, *, version: str = "", timeout: float | None = None) -> Model:
        """Describe a model. Version "" is the newest that is ready.

        Raises:
            ModelNotFound: There is no such model or version.
            SigmaxError: Any other of its kinds.
        """
        return self._describe(name, version, self._schedule(timeout))

    def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Wait until the server, or one model of it, is ready; it need not be running yet.

        Raises:
            DeadlineExceeded: It was not ready in time.
            SigmaxError: Any other of its kinds, such as a server without health checks.
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
        """Close the connection; calls under way are cancelled."""
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
