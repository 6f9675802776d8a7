"""The client for threads; `_aio` holds the one for asyncio."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
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
from sigmax._token import TokenSource
from sigmax.v1 import classifier_pb2 as pb

_Answer = TypeVar("_Answer")
_RAISED = (grpc.RpcError, ValueError)  # by gRPC; ValueError where the channel is closed


@dataclass(slots=True)
class _Begun:
    """A call that is under way."""

    metadata: tuple[Pair, ...]
    call: "grpc.Future[Any]"


class Client:
    """A client of one server, over one connection, or of several. Threads may share a client.

    Close a client after use, or use it in a `with` statement. The connection is opened by the
    first call.

    Every call has a deadline, unless its timeout is `math.inf`. A call is retried until then after
    errors that may pass: `Unavailable`, and `Overloaded` where the server names a time after which
    to retry. A call without a deadline is retried without an end.

    Several addresses, and all addresses of a name that is not of this machine, are asked in turn.
    A server that cannot be reached is left out until it can be.

    A proxy that the environment names (`grpc_proxy`, `https_proxy`, `http_proxy`) is not used for
    addresses of this machine.

    Args:
        address: "HOST" or "HOST:PORT", such as "localhost:8001"; the port is 8001 where none is
            given. "unix:PATH" for a Unix domain socket, or a target in gRPC's notation. Several
            servers are a sequence of IP addresses, or a text with commas between them.
        tls: True for TLS by the authorities that gRPC brings; the file of a CA, in PEM; or `Tls`
            for a certificate of the client's own. None for plaintext.
        token: Token that is sent with every call ("authorization: Bearer ..."), or a callable that
            returns it, such as `token_file(path)`. The callable is called when a call first needs
            a token, again some time before the `exp` of a JSON Web Token, and once for a call that
            is refused as UNAUTHENTICATED, which is then sent again. Threads call it one at a time;
            what it raises is raised by the call. Only over TLS, or to this machine.
        metadata: Pairs of a lower-case key and a text, or bytes for keys that end in "-bin", that
            are sent with every call.
        credentials: Credentials of gRPC, in place of `tls`, for everything that `Tls` cannot say.
        health_checks: Whether only servers are used that say by grpc.health.v1 that they are ready;
            None for where several addresses are given.
        timeout: Default time limit of a call in seconds, all its retries together; `math.inf` for
            none.
        retries: Most retries of one call, for fewer than the time limit allows; 0 for none.

    Raises:
        InvalidAddress: The address cannot be one.
        InvalidCredentials: A file of TLS or the token cannot be used, or the token would be sent
            in plaintext to another machine.
        InvalidInput: The metadata, the timeout or the retries are none.
    """

    _waits_for_server = True  # whether a call is tried again where no connection could be made

    def __init__(
        self,
        address: Address = "localhost:8001",
        *,
        tls: bool | File | Tls | None = None,
        token: TokenSource | None = None,
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
        )
        self._timeout = timeout
        self._retries = retries
        self._closed = False
        self._channel = _channel.open_channel(self._connection)
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

        SIGMAX_ADDRESS is the address. SIGMAX_CLIENT_TLS is true or false, and
        SIGMAX_CLIENT_TLS_CA, SIGMAX_CLIENT_TLS_CERTIFICATE, SIGMAX_CLIENT_TLS_KEY and
        SIGMAX_CLIENT_TLS_SERVER_NAME are the attributes of `Tls`. SIGMAX_CLIENT_TOKEN is the token,
        or SIGMAX_CLIENT_TOKEN_FILE its file. `Client()` itself reads none of them.

        Raises:
            SigmaxError: A variable has a value that it cannot have; otherwise as for `Client`.
        """
        return cls(
            **_environment.arguments(os.environ),
            metadata=metadata,
            health_checks=health_checks,
            timeout=timeout,
            retries=retries,
        )

    def classify(
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
                An input of UTF-8 bytes (`TensorSpec.encoding`) takes a text, or a list of texts
                for a batch.
            version: Number of the version; empty for the newest that is ready.
            head: Name of the model's head that classifies (`Model.heads`); empty for the first.
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
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        schedule = self._schedule(timeout)

        def ask(described: Model) -> Result:
            request, asked = _codec.encode(question, described, inputs)
            return _codec.decode(self._call(self._classify, request, schedule), asked)

        return self._ask(model, version, schedule, ask)

    def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        version: str | int = "",
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a model, and return its outputs as they are: for models without a task.

        The call is ModelInfer of the Open Inference Protocol, on the same port.

        Args:
            model: Name of the model.
            inputs: Values of the model's inputs, as for `classify`.
            outputs: Names of the outputs to return; empty for all.
            version: Number of the version; empty for the newest that is ready.
            timeout: Time limit of this call in seconds, all its retries together; None for the
                client's own, `math.inf` for none.

        Returns:
            An array for each output, by name, in the output's own dtype and shape; the first axis
            is the batch, and is left out where the inputs are one row. NumPy has no BF16: such an
            output is float32, which holds its values exactly. An output of BYTES is an array of
            bytes objects.

        Raises:
            SigmaxError: As for `classify`, but that no task is needed.
        """
        version = str(version)
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        schedule = self._schedule(timeout)

        def ask(described: Model) -> dict[str, NDArray[Any]]:
            request, single = _infer.encode(model, version, described, inputs, names)
            return _infer.decode(self._call(self._infer, request, schedule), names, single)

        return self._ask(model, version, schedule, ask)

    def classify_stream(
        self,
        model: str,
        items: Iterable[tuple[Key, Inputs]],
        *,
        version: str | int = "",
        head: str = "",
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
            head: Head, as for `classify`.
            top_k: Most classes to return for each row, as for `classify`.
            threshold: Threshold in [0, 1], as for `classify`.
            return_probabilities: Whether to return all probabilities, as for `classify`.
            timeout: Time limit of the whole stream in seconds; `math.inf` for none.

        Yields:
            The key of each item with its result, or with the error of that item alone.

        Raises:
            SigmaxError: The stream failed as a whole, or ended without an answer to each item. A
                stream is not retried; the model's description, fetched before, is, for as long as
                the client's own timeout.
        """
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        schedule = Schedule(timeout, self._retries)
        described = self._describe(model, version, self._schedule(min(timeout, self._timeout)))
        exchange: Exchange[Key] = Exchange(question, described)

        def requests() -> Iterator[pb.ClassifyStreamRequest]:
            try:
                for key, inputs in items:
                    yield from exchange.ask(key, inputs)
                exchange.read_all = True
            except Exception as error:
                exchange.broken = error

        metadata = self._metadata()
        with self._failures():
            call = self._stream(requests(), timeout=schedule.remaining(), metadata=metadata)
            try:
                for reply in call:
                    yield from exchange.answers(received(reply))
            finally:
                call.cancel()  # for a caller that stops early; otherwise the call has ended already
        yield from exchange.end()

    def classify_many(
        self,
        model: str,
        rows: Rows,
        *,
        batch_size: int | None = None,
        in_flight: int = 4,
        version: str | int = "",
        head: str = "",
        top_k: int = 0,
        threshold: float | None = None,
        return_probabilities: bool = True,
        timeout: float | None = None,
    ) -> Generator[Classification | SigmaxError]:
        """Classify any number of rows, in batches of which several are under way.

        The first batch is sent when the first answer is asked for. The calls under way are
        cancelled when the iterator is closed.

        Args:
            model: Name of the model.
            rows: Any iterable of rows, each as `classify` takes one; or an array with an axis of
                rows, or a dict of such arrays, which are cut into batches without a loop over their
                rows. At most `in_flight` batches of rows are read ahead. An exception that the
                iterable raises is raised here after the answers to all rows before it.
            batch_size: Most rows of a request. None for the model's `preferred_batch_size`, or as
                many rows as have 64 KiB where that is more; 1 for a model whose rows depend on each
                other. Rows of different shapes do not share a request.
            in_flight: Most requests under way.
            version: Version, as for `classify`.
            head: Head, as for `classify`.
            top_k: Most classes to return for each row, as for `classify`.
            threshold: Threshold in [0, 1], as for `classify`.
            return_probabilities: Whether to return all probabilities, as for `classify`.
            timeout: Time limit of each request in seconds, as for `classify`. The retries of a
                request begin when its answer is waited for, and have the same time again.

        Yields:
            The answer to each row, in the order of the rows; or the error of that row alone, where
            the row does not fit the model, or the server refuses it. The server's refusal of a
            batch is traced to its rows by sending halves of it.

        Raises:
            SigmaxError: A request failed, after its retries, for a reason that is not in its rows,
                as in `classify`. No further rows are read.
        """
        version = str(version)
        question = Question(model, version, head, top_k, threshold, return_probabilities)
        described = self._describe(model, version, self._schedule(timeout))
        gatherer = Gatherer(question, described, batch_size, in_flight)
        pending: deque[tuple[Batch, _Begun | None]] = deque()

        def first_answers() -> Iterator[Classification | SigmaxError]:
            batch, begun = pending[0]
            yield from batch.in_order(self._answers(gatherer, batch, timeout, begun))
            pending.popleft()

        try:
            for batch in gatherer.batches(rows):
                pending.append((batch, self._begin(gatherer, batch, timeout)))
                if len(pending) == in_flight:
                    yield from first_answers()
            while pending:
                yield from first_answers()
        finally:
            for _, begun in pending:
                if begun is not None:
                    begun.call.cancel()

    def models(self, *, timeout: float | None = None) -> list[ModelSummary]:
        """List all models of the server, in the order of their names.

        Args:
            timeout: Time limit of this call in seconds; None for the client's own.

        Raises:
            SigmaxError: The call failed; see the subclasses.
        """
        reply = self._call(self._list_models, pb.ListModelsRequest(), self._schedule(timeout))
        return [_codec.decode_summary(model) for model in reply.models]

    def model(self, name: str, *, version: str | int = "", timeout: float | None = None) -> Model:
        """Fetch the description of one version of a model.

        Args:
            name: Name of the model.
            version: Number of the version; empty for the newest that is ready.
            timeout: Time limit of this call in seconds; None for the client's own.

        Raises:
            ModelNotFound: The server has no such model, or no such version of it.
            SigmaxError: The call failed for any other reason; see the subclasses.
        """
        return self._describe(name, str(version), self._schedule(timeout))

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
        schedule = Schedule(timeout, None)
        seen = _health.UNSEEN
        while True:
            try:
                with closing(self._watched(model, schedule)) as statuses:
                    for status in statuses:
                        if status == _health.SERVING:
                            return
                        seen = _health.status_name(status)
                error: SigmaxError = _health.watch_ended()
            except SigmaxError as failure:
                error = failure
            pause = schedule.pause_after(error)
            if pause is None:
                raise _health.not_ready(model, timeout, seen, error)
            time.sleep(pause)

    def close(self) -> None:
        """Close the connection, and cancel the calls under way. Further calls are `Cancelled`."""
        self._closed = True
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
        return Schedule(
            self._timeout if timeout is None else timeout,
            self._retries,
            waits_for_server=self._waits_for_server,
        )

    def _ask(
        self, model: str, version: str, schedule: Schedule, ask: Callable[[Model], _Answer]
    ) -> _Answer:
        """Call `ask` with the model's description, and again where a kept one was outdated."""
        kept = self._described.get((model, version))
        described = kept or self._describe(model, version, schedule)
        try:
            return ask(described)
        except SigmaxError as error:
            if kept is None or not _codec.may_be_outdated(error):
                raise
            described = self._describe(model, version, schedule)
            if not _codec.has_changed(kept, described):
                raise
        return ask(described)

    def _begin(self, gatherer: Gatherer, batch: Batch, timeout: float | None) -> "_Begun | None":
        """Send the rows of a batch without waiting; None where there are none to send."""
        if not batch.sent:
            return None
        metadata = self._metadata()
        request, _ = gatherer.request(batch)
        left = self._schedule(timeout).remaining()
        with self._failures():
            call = self._classify.future(request, timeout=left, metadata=metadata)
        return _Begun(metadata, call)

    def _answers(
        self, gatherer: Gatherer, batch: Batch, timeout: float | None, begun: "_Begun | None"
    ) -> Iterator[Classification | SigmaxError]:
        """Yield the answers to the rows of a batch that are sent, by halves where it is refused."""
        if not batch.sent:
            return
        request, asked = gatherer.request(batch)
        try:
            reply = self._call(self._classify, request, self._schedule(timeout), begun)
            result = _codec.decode(reply, asked)
        except SigmaxError as error:
            if not is_of_rows(error):
                raise
            if batch.sent == 1:
                yield error
                return
        else:
            yield from result
            return
        for half in batch.halves():
            yield from self._answers(gatherer, half, timeout, None)

    def _describe(self, name: str, version: str, schedule: Schedule) -> Model:
        request = pb.GetModelRequest(model_name=name, model_version=version)
        model = _codec.decode_model(self._call(self._get_model, request, schedule).model)
        self._described[name, version] = model
        return model

    def _watched(self, model: str, schedule: Schedule) -> Generator[int]:
        """Yield each status of a model's health, or the server's where the name is empty."""
        metadata = self._metadata()
        with self._failures():
            request = StringValue(value=model)
            call = self._watch(request, timeout=schedule.remaining(), metadata=metadata)
            try:
                for status in call:
                    yield received(status).value
            finally:
                call.cancel()

    def _metadata(self) -> tuple[Pair, ...]:
        return self._connection.metadata.get()

    def _unary(
        self, method: Method[Request, Reply]
    ) -> "grpc.UnaryUnaryMultiCallable[Request, Reply | Malformed]":
        return self._channel.unary_unary(method.path, method.serialize, method.parse)

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[Request, Reply | Malformed]",
        request: Request,
        schedule: Schedule,
        begun: "_Begun | None" = None,
    ) -> Reply:
        """Call a method, with retries; `begun` is the first try where that is under way."""
        has_renewed = False
        while True:
            metadata = self._metadata() if begun is None else begun.metadata
            try:
                if begun is not None:
                    reply: Reply | Malformed = begun.call.result()
                    return received(reply)
                timeout = schedule.remaining()
                return received(method(request, timeout=timeout, metadata=metadata))
            except _RAISED as failure:
                error = self._error(failure)
                if error is None:
                    raise
                begun = None
                if not has_renewed and self._connection.metadata.renew(error, metadata):
                    has_renewed = True
                    continue
                pause = schedule.pause_after(error)
                if pause is None:
                    raise schedule.final(error) from failure
            time.sleep(pause)

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

    def _error(self, failure: Exception) -> SigmaxError | None:
        """Return the error for what gRPC has raised; None where that is not a failed call."""
        if isinstance(failure, grpc.RpcError):
            return from_rpc_error(failure, self._connection)
        return _channel.closed() if self._closed else None
