"""The client for asyncio; `_client` holds the one for threads."""

import asyncio
import itertools
import math
import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue
from numpy.typing import NDArray

from sigmax import _channel, _codec, _environment, _health, _infer, _methods, _retry
from sigmax._address import Address
from sigmax._codec import Question
from sigmax._errors import SigmaxError
from sigmax._inputs import Inputs
from sigmax._many import Batch, Gatherer, Rows, is_of_rows
from sigmax._metadata import Metadata, Pair
from sigmax._method import Malformed, Method, Reply, Request, received
from sigmax._model import Model, ModelSummary
from sigmax._result import Classification, Result
from sigmax._retry import Schedule
from sigmax._status import from_rpc_error
from sigmax._stream import Exchange, Key
from sigmax._tls import File, Tls
from sigmax._token import AsyncTokenSource
from sigmax.v1 import classifier_pb2 as pb

_Answer = TypeVar("_Answer")
# By gRPC, the last two where the channel is closed: for a new call, and for one under way.
_RAISED = (grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError)
_Item = TypeVar("_Item")


class AsyncClient:
    """A client of one server or several, for one event loop; `Client` is for threads.

    Create a client inside the event loop that uses it. Close a client after use, or use it in an
    `async with` statement. The connection is opened by the first call. Calls are retried as
    those of `Client` are.

    Arguments and errors are those of `Client`. The callable that returns a token may also be
    asynchronous; another one runs in a thread.
    """

    def __init__(
        self,
        address: Address = "localhost:8001",
        *,
        tls: bool | File | Tls | None = None,
        token: AsyncTokenSource | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        health_checks: bool | None = None,
        timeout: float = 10.0,
        retries: int | None = None,
    ) -> None:
        _retry.check_timeout(timeout)
        _retry.check_retries(retries)
        self._connection = _channel.connection(
            address,
            tls=tls,
            token=token,
            metadata=metadata,
            credentials=credentials,
            health_checks=health_checks,
            is_async=True,
        )
        self._timeout = timeout
        self._retries = retries
        self._closed = False
        self._channel = _open_channel(self._connection)
        self._classify = self._unary(_methods.CLASSIFY)
        self._infer = self._unary(_methods.INFER)
        self._list_models = self._unary(_methods.LIST_MODELS)
        self._get_model = self._unary(_methods.GET_MODEL)
        stream = _methods.CLASSIFY_STREAM
        self._stream = self._channel.stream_stream(stream.path, stream.serialize, stream.parse)
        watch = _health.WATCH
        self._watch = self._channel.unary_stream(watch.path, watch.serialize, watch.parse)
        self._described: dict[tuple[str, str], Model] = {}

    @classmethod
    def from_environment(
        cls,
        *,
        metadata: Metadata | None = None,
        health_checks: bool | None = None,
        timeout: float = 10.0,
        retries: int | None = None,
    ) -> Self:
        """Make a client of the server that the environment's variables name.

        Arguments, variables and errors are those of `Client.from_environment`.
        """
        return cls(
            **_environment.arguments(os.environ),
            metadata=metadata,
            health_checks=health_checks,
            timeout=timeout,
            retries=retries,
        )

    async def classify(
        self,
        model: str,
        inputs: Inputs,
        *,
        version: str | int = "",
        head: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float | None = None,
    ) -> Result:
        """Classify one row or a batch of rows.

        Arguments, result and errors are those of `Client.classify`.
        """
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        schedule = self._schedule(timeout)

        async def ask(described: Model) -> Result:
            request, asked = _codec.encode(question, described, inputs)
            return _codec.decode(await self._call(self._classify, request, schedule), asked)

        return await self._ask(model, version, schedule, ask)

    async def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        version: str | int = "",
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a model, and return its outputs as they are: for models without a task.

        Arguments, result and errors are those of `Client.infer`.
        """
        version = str(version)
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        schedule = self._schedule(timeout)

        async def ask(described: Model) -> dict[str, NDArray[Any]]:
            request, single = _infer.encode(model, version, described, inputs, names)
            return _infer.decode(await self._call(self._infer, request, schedule), names, single)

        return await self._ask(model, version, schedule, ask)

    async def classify_stream(
        self,
        model: str,
        items: Iterable[tuple[Key, Inputs]] | AsyncIterable[tuple[Key, Inputs]],
        *,
        version: str | int = "",
        head: str = "",
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
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        schedule = Schedule(timeout, self._retries)
        described = await self._describe(
            model, version, self._schedule(min(timeout, self._timeout))
        )
        exchange: Exchange[Key] = Exchange(question, described)

        async def requests() -> AsyncIterator[pb.ClassifyStreamRequest]:
            try:
                async for key, inputs in _each(items):
                    for request in exchange.ask(key, inputs):
                        yield request
                exchange.read_all = True
            except Exception as error:
                exchange.broken = error

        metadata = await self._metadata()
        with self._failures():
            call = self._stream(requests(), timeout=schedule.remaining(), metadata=metadata)
            try:
                async for reply in call:
                    for answer in exchange.answers(received(reply)):
                        yield answer
            finally:
                call.cancel()  # for a caller that stops early; otherwise the call has ended already
        for ending in exchange.end():
            yield ending

    async def classify_many(
        self,
        model: str,
        rows: Rows | AsyncIterable[Inputs],
        *,
        batch_size: int | None = None,
        in_flight: int = 4,
        version: str | int = "",
        head: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[Classification | SigmaxError]:
        """Classify any number of rows, in batches of which several are under way.

        Arguments, results and errors are those of `Client.classify_many`, but that a retry does not
        wait until its answer is waited for. `rows` may also be an asynchronous iterable. A caller
        that may leave the loop early uses `contextlib.aclosing`, so that the calls end at once.
        """
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        described = await self._describe(model, version, self._schedule(timeout))
        gatherer = Gatherer(question, described, batch_size, in_flight)
        pending: deque[asyncio.Task[Iterator[Classification | SigmaxError]]] = deque()

        async def answers(batch: Batch) -> Iterator[Classification | SigmaxError]:
            return batch.in_order(await self._answers(gatherer, batch, timeout))

        try:
            async for batch in gatherer.batches_async(rows):
                pending.append(asyncio.create_task(answers(batch)))
                if len(pending) == in_flight:
                    for answer in await pending[0]:
                        yield answer
                    pending.popleft()
            while pending:
                for answer in await pending[0]:
                    yield answer
                pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def models(self, *, timeout: float | None = None) -> list[ModelSummary]:
        """List all models of the server, in the order of their names.

        Arguments and errors are those of `Client.models`.
        """
        reply = await self._call(self._list_models, pb.ListModelsRequest(), self._schedule(timeout))
        return [_codec.decode_summary(model) for model in reply.models]

    async def model(
        self, name: str, *, version: str | int = "", timeout: float | None = None
    ) -> Model:
        """Fetch the description of one version of a model.

        Arguments and errors are those of `Client.model`.
        """
        return await self._describe(name, str(version), self._schedule(timeout))

    async def wait_until_ready(self, timeout: float = 60.0, *, model: str = "") -> None:
        """Wait until the server, or one of its models, is ready. The server need not run yet.

        Arguments and errors are those of `Client.wait_until_ready`.
        """
        schedule = Schedule(timeout, None)
        seen = _health.UNSEEN
        while True:
            try:
                async with aclosing(self._watched(model, schedule)) as statuses:
                    async for status in statuses:
                        if status == _health.SERVING:
                            return
                        seen = _health.status_name(status)
                error: SigmaxError = _health.watch_ended()
            except SigmaxError as failure:
                error = failure
            pause = schedule.pause_after(error)
            if pause is None:
                raise _health.not_ready(model, timeout, seen, error)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close the connection, and cancel the calls under way. Further calls are `Cancelled`."""
        self._closed = True
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
        self,
        model: str,
        version: str,
        schedule: Schedule,
        ask: Callable[[Model], Awaitable[_Answer]],
    ) -> _Answer:
        """Call `ask` with the model's description, and again where a kept one was outdated."""
        kept = self._described.get((model, version))
        described = kept or await self._describe(model, version, schedule)
        try:
            return await ask(described)
        except SigmaxError as error:
            if kept is None or not _codec.may_be_outdated(error):
                raise
            described = await self._describe(model, version, schedule)
            if not _codec.has_changed(kept, described):
                raise
        return await ask(described)

    async def _answers(
        self, gatherer: Gatherer, batch: Batch, timeout: float | None
    ) -> Iterable[Classification | SigmaxError]:
        """Return the answers to a batch's rows that are sent, by halves where it is refused."""
        if not batch.sent:
            return ()
        request, asked = gatherer.request(batch)
        try:
            reply = await self._call(self._classify, request, self._schedule(timeout))
            return _codec.decode(reply, asked)
        except SigmaxError as error:
            if not is_of_rows(error):
                raise
            if batch.sent == 1:
                return (error,)
        halves = [await self._answers(gatherer, half, timeout) for half in batch.halves()]
        return itertools.chain(*halves)

    async def _describe(self, name: str, version: str, schedule: Schedule) -> Model:
        request = pb.GetModelRequest(model_name=name, model_version=version)
        model = _codec.decode_model((await self._call(self._get_model, request, schedule)).model)
        self._described[name, version] = model
        return model

    async def _watched(self, model: str, schedule: Schedule) -> AsyncGenerator[int]:
        """Yield each status of a model's health, or the server's where the name is empty."""
        metadata = await self._metadata()
        with self._failures():
            request = StringValue(value=model)
            call = self._watch(request, timeout=schedule.remaining(), metadata=metadata)
            try:
                async for status in call:
                    yield received(status).value
            finally:
                call.cancel()

    async def _metadata(self) -> tuple[Pair, ...]:
        return await self._connection.metadata.get_async()

    def _unary(
        self, method: Method[Request, Reply]
    ) -> "grpc.aio.UnaryUnaryMultiCallable[Request, Reply | Malformed]":
        return self._channel.unary_unary(method.path, method.serialize, method.parse)

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Reply | Malformed]",
        request: Request,
        schedule: Schedule,
    ) -> Reply:
        has_renewed = False
        while True:
            metadata = await self._metadata()
            try:
                timeout = schedule.remaining()
                return received(await method(request, timeout=timeout, metadata=metadata))
            except _RAISED as failure:
                error = self._error(failure)
                if error is None:
                    raise
                if not has_renewed and self._connection.metadata.renew(error, metadata):
                    has_renewed = True
                    continue
                pause = schedule.pause_after(error)
                if pause is None:
                    raise schedule.final(error) from failure
            await asyncio.sleep(pause)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn what gRPC raises into SigmaxError."""
        try:
            yield
        except _RAISED as failure:
            error = self._error(failure)
            if error is None:
                raise
            raise error from failure

    def _error(self, failure: BaseException) -> SigmaxError | None:
        """Return the error for what gRPC has raised; None where that is not a failed call."""
        if isinstance(failure, grpc.RpcError):
            return from_rpc_error(failure, self._connection)
        task = asyncio.current_task()
        is_cancelled = task is not None and task.cancelling() > 0
        return _channel.closed() if self._closed and not is_cancelled else None


def _open_channel(way: _channel.Connection) -> grpc.aio.Channel:
    if way.credentials is None:
        return grpc.aio.insecure_channel(way.target.name, way.options)
    return grpc.aio.secure_channel(way.target.name, way.credentials, way.options)


async def _each(items: Iterable[_Item] | AsyncIterable[_Item]) -> AsyncIterator[_Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
