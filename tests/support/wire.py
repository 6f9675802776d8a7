"""Tensors, requests and errors of both services, as they are on the wire."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from grpc_status import rpc_status  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2 as pb
from sigmax.v1.classifier_pb2_grpc import ClassifierServiceStub
from tritonclient.grpc import (  # type: ignore[import-untyped]
    service_pb2,
    service_pb2_grpc,
)

from support.server import Server

NUMPY: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
NAMES = {np.dtype(kind): name for name, kind in NUMPY.items()}
SIZES = {name: np.dtype(kind).itemsize for name, kind in NUMPY.items()} | {"BF16": 2}
SERVICES = ("sigmax", "inference")


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request or an answer, whose parts need not fit each other."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: bytes

    @classmethod
    def of(cls, name: str, values: Any, dtype: Any = np.float32) -> "Tensor":
        array = np.asarray(values, dtype)
        return cls(name, NAMES[array.dtype], array.shape, array.tobytes())

    @property
    def array(self) -> np.ndarray:
        return np.frombuffer(self.raw, NUMPY[self.dtype]).reshape(self.shape)


@dataclass(frozen=True)
class Refusal:
    """An error as a caller receives it; `retry_after` is in seconds, None where there is none."""

    code: str
    message: str
    reason: str
    fields: dict[str, str]
    retry_after: float | None


def classify_request(model: str, *tensors: Tensor, **options: Any) -> pb.ClassifyRequest:
    inputs = [
        pb.Tensor(name=t.name, dtype=f"DATA_TYPE_{t.dtype}", shape=t.shape, raw=t.raw)
        for t in tensors
    ]
    return pb.ClassifyRequest(model_name=model, inputs=inputs, **options)


def infer_request(model: str, *tensors: Tensor, **options: Any) -> Any:
    inputs = [{"name": t.name, "datatype": t.dtype, "shape": t.shape} for t in tensors]
    raw = [t.raw for t in tensors]
    return service_pb2.ModelInferRequest(
        model_name=model, inputs=inputs, raw_input_contents=raw, **options
    )


def typed(server: Server) -> "ClassifierServiceStub":
    return ClassifierServiceStub(server.channel)


def triton(server: Server) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(server.channel)


def classify(server: Server, model: str, *tensors: Tensor, **options: Any) -> pb.ClassifyResponse:
    request = classify_request(model, *tensors, **options)
    return typed(server).Classify(request, timeout=60)


def infer(server: Server, model: str, *tensors: Tensor, **options: Any) -> list[Tensor]:
    """Call ModelInfer, and return all outputs."""
    reply = triton(server).ModelInfer(infer_request(model, *tensors, **options), timeout=60)
    return outputs(reply)


def load(server: Server, model: str) -> None:
    """Load a model, or load it again."""
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    triton(server).RepositoryModelLoad(request, timeout=120)


def at_once(server: Server, model: str, tensors: list[Tensor]) -> list[Tensor]:
    """Send all requests before the first is answered; return the only output of each."""
    send = triton(server).ModelInfer.future
    calls = [send(infer_request(model, tensor), timeout=60) for tensor in tensors]
    return [outputs(call.result())[0] for call in calls]


def until_refused(send: Callable[[], Any]) -> list[Any]:
    """Send requests faster than they are answered until one is refused; return all calls."""
    refused = threading.Event()
    calls: list[Any] = []

    def told(call: Any) -> None:
        if call.exception():
            refused.set()

    while not refused.is_set():
        assert len(calls) < 100_000, "all of them were taken"
        calls.append(send())
        calls[-1].add_done_callback(told)
    return calls


def outputs(reply: Any) -> list[Tensor]:
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return [Tensor(o.name, o.datatype, tuple(o.shape), raw) for o, raw in pairs]


def ask(service: str, server: Server, model: str, *tensors: Tensor, **options: Any) -> object:
    """Send a request by either service, "sigmax" or "inference"."""
    if service == "sigmax":
        return classify(server, model, *tensors, **options)
    return infer(server, model, *tensors, **options)


def refusal(call: Callable[[], object]) -> Refusal:
    """Return the error of a call, which must fail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return read_error(error)
    raise AssertionError(f"expected an error, got {answer}")


def read_error(error: grpc.RpcError) -> Refusal:
    status = rpc_status.from_call(error)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details if status else ():
        for message in (info, bad, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    assert info.domain in ("", "sigmax")
    return Refusal(
        error.code().name,
        error.details() or "",
        info.reason,
        {violation.field: violation.description for violation in bad.field_violations},
        retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
    )
