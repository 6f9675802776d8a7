"""A real gRPC server whose answers a test scripts, for testing the clients."""

import asyncio
import io
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from inspect import isasyncgen, iscoroutine
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sigmax
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]
from hypothesis import settings
from sigmax import _cli
from sigmax.v1 import classifier_pb2 as pb
from sigmax.v1 import classifier_pb2_grpc

# The machine may be busy with other things; how long one example takes says nothing.
settings.register_profile("sigmax", deadline=None)
settings.load_profile("sigmax")

LABELS = ["bird", "mammal", "reptile"]


def failure(code: grpc.StatusCode, *details: Any, message: str = "scripted") -> Status:
    """A status with google.rpc details, as the server sends it."""
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


class Peer(classifier_pb2_grpc.ClassifierServiceServicer, health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Knows one model, "animal", whose probabilities are the values of its input.

    An input that is not three numbers of FP32 has the probabilities 0.25, 0.5 and 0.25.
    """

    failure = staticmethod(failure)
    grpc = grpc
    ErrorInfo = ErrorInfo
    BadRequest = BadRequest

    def __init__(self) -> None:
        self.described = pb.Model(
            name="animal",
            version="2",
            versions=[
                pb.ModelVersion(version="2", state=pb.MODEL_STATE_READY),
                pb.ModelVersion(
                    version="1", state=pb.MODEL_STATE_UNAVAILABLE, reason="its file is broken"
                ),
            ],
            inputs=[
                pb.TensorDescription(
                    name="x", dtype=pb.DATA_TYPE_FP32, shape=[-1, 3], meaning="three scores"
                )
            ],
            outputs=[pb.TensorDescription(name="p", dtype=pb.DATA_TYPE_FP32, shape=[-1, 3])],
            task=pb.TASK_MULTICLASS,
            labels=LABELS,
            device="cpu",
            max_batch_size=64,
            preferred_batch_size=32,
            rows_independent=True,
            device_reason="no GPU works",
        )
        self.address = ""  # where it listens
        self.failures: deque[Status] = deque()  # what the next calls are answered with
        self.health: deque[list[str]] = deque([["SERVING"]])  # one list a Watch; the last stays
        self.knows_heads = True  # whether it answers by the head that is asked for
        self.delay = 0.0  # seconds that a call waits, or until its caller has gone
        self.calls: list[Any] = []  # every request that came
        self.timeouts: list[float | None] = []  # what each had left
        self.metadata: list[dict[str, str | bytes]] = []  # what each brought
        self.tokens: set[str] | None = None  # those it lets in; None for everybody

    @staticmethod
    def retry_info(seconds: float) -> RetryInfo:
        delay = Duration()
        delay.FromMicroseconds(round(seconds * 1e6))
        return RetryInfo(retry_delay=delay)

    def _enter(self, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append(request)
        self.timeouts.append(context.time_remaining())
        brought = dict(context.invocation_metadata())
        self.metadata.append(brought)
        token = str(brought.get("authorization", "")).removeprefix("Bearer ")
        if self.tokens is not None and token not in self.tokens:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected a token that is known")
        if self.delay:
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(self.delay)
        if self.failures:
            context.abort_with_status(rpc_status.to_status(self.failures.popleft()))

    def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        self._enter(request, context)
        if request.model_name != self.described.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model is named '{request.model_name}'")
        return pb.GetModelResponse(model=self.described)

    def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        self._enter(request, context)
        known = self.described
        return pb.ListModelsResponse(
            models=[pb.ModelSummary(name=known.name, versions=known.versions, task=known.task)]
        )

    def Classify(  # noqa: N802
        self, request: pb.ClassifyRequest, context: grpc.ServicerContext
    ) -> pb.ClassifyResponse:
        self._enter(request, context)
        expected = self.described.inputs[0].dtype
        if request.inputs[0].dtype != expected:
            reason = ErrorInfo(reason="DTYPE_MISMATCH", domain="sigmax")
            status = failure(grpc.StatusCode.INVALID_ARGUMENT, reason)
            context.abort_with_status(rpc_status.to_status(status))
        return self.answer(request)

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]:
        held = None  # the first is answered last: answers may overtake
        for item in request_iterator:
            self._enter(item, context)
            if held is None:
                held = item
            elif item.request.inputs[0].shape[0] == 2:
                error = pb.StreamError(code=3, message="two rows", reason="BATCH_SIZE")
                yield pb.ClassifyStreamResponse(id=item.id, error=error)
            else:
                yield pb.ClassifyStreamResponse(id=item.id, response=self.answer(item.request))
        if held is not None:
            yield pb.ClassifyStreamResponse(id=held.id, response=self.answer(held.request))

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        self._enter(request, context)
        if request.service not in ("", self.described.name):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model is named '{request.service}'")
        return health_pb2.HealthCheckResponse(status=self.health[0][-1])

    def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        self.calls.append(request)
        statuses = self.health.popleft() if len(self.health) > 1 else self.health[0]
        for status in statuses:
            yield health_pb2.HealthCheckResponse(status=status)
        if statuses == ["NOT_SERVING"]:  # for good: the watch stays open
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait()

    def server(self) -> grpc.Server:
        """Make a server of this peer, which neither listens nor runs yet."""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_metadata_size", 2**16),  # tokens may be large
            ("grpc.absolute_max_metadata_size", 2**16),
        ]
        server = grpc.server(ThreadPoolExecutor(8), options=options)
        classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self, server)
        return server

    def answer(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        tensor = request.inputs[0]
        if tensor.dtype == pb.DATA_TYPE_FP32 and len(tensor.shape) == 2:
            rows = np.frombuffer(tensor.raw, "<f4").reshape(tensor.shape)
        else:
            rows = np.tile(np.array([0.25, 0.5, 0.25], "<f4"), (tensor.shape[0], 1))
        heads = {head.name: head for head in self.described.heads} if self.knows_heads else {}
        name = request.head or next(iter(heads), "")
        task = heads[name].task if name in heads else self.described.task
        reply = pb.ClassifyResponse(
            model_name="animal",
            model_version="2",
            head=name if name in heads else "",
            timings=pb.Timings(queue_ns=1, compute_ns=2, total_ns=3, batch_rows=len(rows)),
        )
        for row in rows:
            scores = [1 - row[0], row[0]] if task == pb.TASK_BINARY else list(row)
            order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
            classes = [
                pb.ScoredClass(index=i, label=self.described.labels[i], probability=scores[i])
                for i in order
            ]
            if task == pb.TASK_MULTILABEL:
                decided = [c for c in classes if c.probability > (request.threshold or 0.5)]
            else:
                decided = classes[:1]
            reply.rows.append(
                pb.Classification(classes=classes[: request.top_k or None], decision=decided)
            )
        if request.return_probabilities:
            reply.probabilities.CopyFrom(
                pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=rows.shape, raw=rows.tobytes())
            )
        return reply


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A running peer."""
    servicer = Peer()
    server = servicer.server()
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


class Authority:
    """An authority with its certificates in files, for servers and clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *names: str, **options: Any) -> tuple[Path, Path]:
        """Return the files of a certificate for these names, and of its key."""
        made = self._ca.issue_cert(name, *names, **options)
        certificate, key = (self._folder / f"{name}.{kind}" for kind in ("pem", "key"))
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return certificate, key

    def server(self, *names: str, client_ca: Path | None = None, **options: Any) -> Any:
        """Return the credentials of a server with these names."""
        certificate, key = (file.read_bytes() for file in self.issue(*names, **options))
        roots = client_ca.read_bytes() if client_ca else None
        return grpc.ssl_server_credentials([(key, certificate)], roots, client_ca is not None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test's own."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority, which nobody trusts."""
    return Authority(tmp_path / "stranger")


@pytest.fixture
def listen(peer: Peer) -> Iterator[Callable[[Any], str]]:
    """Has the peer listen with credentials, too, and returns the address."""
    with ExitStack() as running:

        def listen(credentials: Any) -> str:
            server = peer.server()
            port = server.add_secure_port("127.0.0.1:0", credentials)
            server.start()
            running.callback(lambda: server.stop(None).wait())
            return f"127.0.0.1:{port}"

        yield listen


@pytest.fixture
def free_address() -> str:
    """An address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Blocking:
    """An AsyncClient whose calls block, so that one test holds for both clients."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()

        async def make() -> sigmax.AsyncClient:
            return sigmax.AsyncClient(*arguments, **options)

        try:
            self._client = self._runner.run(make())
        except sigmax.SigmaxError:
            self._runner.close()
            raise

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            value = getattr(self._client, name)(*arguments, **options)
            if isasyncgen(value):
                return self._each(value)
            assert iscoroutine(value)
            return self._runner.run(value)

        return call

    def _each(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(anext(values))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def finish(self) -> None:
        """Close the client, and end its event loop."""
        self.close()
        self._runner.close()


@pytest.fixture
def ask(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command `sigmax` against the peer, with this on its standard input."""

    def run(*arguments: str, stdin: str | bytes = "") -> int:
        monkeypatch.setenv("SIGMAX_ADDRESS", peer.address)
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
        return _cli.main(arguments)

    return run


@pytest.fixture(params=[sigmax.Client, Blocking], ids=["threads", "asyncio"])
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes clients of each kind in turn, with the arguments of `sigmax.Client`."""
    with ExitStack() as made:

        def make_one(*arguments: Any, **options: Any) -> Any:
            client = request.param(*arguments, **options)
            made.callback(client.finish if isinstance(client, Blocking) else client.close)
            return client

        yield make_one


@pytest.fixture
def client(make: Any, peer: Peer) -> Any:
    """Each client in turn, of the peer."""
    return make(peer.address, timeout=60.0)
