"""The client for asyncio; `_client` holds the one for threads."""

import asyncio
import math
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio

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

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class AsyncClient:
    """A client of one server, over one connection, for one event loop; `Client` is for threads.

    Create a client inside the event loop that uses it. Close a client after use, or use it in an
    `async with` statement. The connection is opened by the first call. Calls are retried as
    those of `Client` are.

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
        self._channel = grpc.aio.insecure_channel(address, options=_channel.options(address))
        self._stub = ClassifierServiceStub(self._channel)
        self._watch = self._channel.unary_stream(
            _channel.WATCH_METHOD, _channel.WATCH_REQUEST, _channel.WATCH_RESPONSE
        )
        self._described: dict[tuple[str, str], Model] = {}

    async def classify(
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

        Arguments, result and errors are those of `Client.classify`.
        """
        question = Question(model, version, top_k, threshold, return_probabilities)
        schedule = self._schedule(timeout)
        kept = self._described.get((model, version))
        described = kept or await self._describe(model, version, schedule)
        try:
            return await self._ask(question, described, inputs, schedule)
        except SigmaxError as error:
            if kept is None or not _codec.may_be_outdated(error):
                raise
            described = await self._describe(model, version, schedule)
            if described.inputs == kept.inputs:
                raise
        return await self._ask(question, described, inputs, schedule)

    async def classify_stream(
        self,
        model: str,
        items: Iterable[tuple[Key, Inputs]] | AsyncIterable[tuple[Key, Inputs]],
        *,
        version: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float = math.inf,
    ) -> AsyncIterator[tuple[Key, Result | SigmaxError]]:
        """Classify many rows or batches over one stream; answers may overtake each other.

        Arguments, results and errors are those of `Client.classify_stream`. `items` may also be an
        asynchronous iterable. A caller that may leave the loop early uses `contextlib.aclosing`,
        so that the stream ends at once.
        """
        question = Question(model, version, top_k, threshold, return_probabilities)
        schedule = Schedule(timeout, self._retries)
        exchange: Exchange[Key] = Exchange(question, await self._describe(model, version, schedule))

        async def requests() -> AsyncIterator[pb.ClassifyStreamRequest]:
            try:
                async for key, inputs in _each(items):
                    for request in exchange.ask(key, inputs):
                        yield request
            except Exception as error:
                exchange.broken = error

        call = self._stub.ClassifyStream(requests(), timeout=schedule.remaining())
        try:
            async for reply in call:
                for answer in exchange.answers(reply):
                    yield answer
        except grpc.RpcError as failure:
            raise from_rpc_error(failure) from failure
        finally:
            call.cancel()  # for a caller that stops early; otherwise the call has ended already
        for refusal in exchange.refused():
            yield refusal
        if exchange.broken is not None:
            raise exchange.broken

    async def models(self, *, timeout: float | None = None) -> list[ModelSummary]:
        """List all models of the server, in the order of their names.

        Arguments and errors are those of `Client.models`.
        """
        reply = await self._call(
            self._stub.ListModels, pb.ListModelsRequest(), self._schedule(timeout)
        )
        return [_codec.decode_summary(model) for model in reply.models]

    async def model(self, name: str, *, version: str = "", timeout: float | None = None) -> Model:
        """Fetch the description of one version of a model.

        Arguments and errors are those of `Client.model`.
        """
        return await self._describe(name, version, self._schedule(timeout))

    async def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Wait until the server, or one of its models, is ready. The server need not run yet.

        Arguments and errors are those of `Client.wait_until_ready`.
        """
        schedule = Schedule(timeout, sys.maxsize)
        seen = "no answer"
        while True:
            call = self._watch(
                _channel.watch_request(model), timeout=schedule.remaining(), wait_for_ready=True
            )
            try:
                async for status in call:
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
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close the connection, and cancel the calls under way."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _schedule(self, timeout: float | None) -> Schedule:
        return Schedule(self._timeout if timeout is None else timeout, self._retries)

    async def _ask(
        self, question: Question, described: Model, inputs: Inputs, schedule: Schedule
    ) -> Result:
        request, single = _codec.encode(question, described, inputs)
        reply = await self._call(self._stub.Classify, request, schedule)
        return _codec.decode(reply, described, single)

    async def _describe(self, name: str, version: str, schedule: Schedule) -> Model:
        request = pb.GetModelRequest(model_name=name, model_version=version)
        reply = await self._call(self._stub.GetModel, request, schedule)
        model = _codec.decode_model(reply.model)
        self._described[name, version] = model
        return model

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Reply]",
        request: _Request,
        schedule: Schedule,
    ) -> _Reply:
        while True:
            try:
                return await method(request, timeout=schedule.remaining())
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
                pause = schedule.pause_after(error)
                if pause is None:
                    raise error from failure
            await asyncio.sleep(pause)


async def _each(items: Iterable[_Item] | AsyncIterable[_Item]) -> AsyncIterator[_Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
