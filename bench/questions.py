"""The requests that are sent over and over, each answered rightly once before it is."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2, classifier_pb2_grpc

from bench import models
from bench.peers.in_process import values
from bench.servers import ROOT, Server

sys.path.append(str(ROOT / "proto/inference"))
inference_pb2: Any
inference_pb2_grpc: Any
inference_pb2, inference_pb2_grpc = grpc.protos_and_services("grpc_service.proto")

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CLASSIFY = "/sigmax.v1.ClassifierService/Classify"

DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8", "tensor(int16)": "INT16"}

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Question:
    """One request, ready to be sent.

    Attributes:
        path: The RPC's HTTP path.
        request: The message behind gRPC's five bytes: no compression, its length.
        answer: What every answer must be, framed in the same way; none where it holds timings,
            or where any will do.
    """

    path: str
    request: bytes
    answer: bytes | None

    def with_any_answer(self) -> "Question":
        """The same request to a peer that does not know what is right."""
        return replace(self, answer=None)


class Model:
    """A model file that servers hold, asked in process: what the answers must be."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.repository = models.repository(name)
        self.file = models.file(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.file, options, providers=["CPUExecutionProvider"]
        )
        (self.input,) = self.session.get_inputs()
        self.datatype = DATATYPES[self.input.type]

    def rows(self, count: int) -> Rows:
        """So many rows, the same ones every time."""
        return values(self.input, count)

    def answer(self, rows: Rows) -> npt.NDArray[np.float32]:
        """The probabilities, [count, classes]."""
        (probabilities,) = self.session.run(None, {self.input.name: rows})
        return np.asarray(probabilities, np.float32)


def model_infer(server: Server, model: Model, count: int, tolerance: float = 0.0) -> Question:
    """ModelInfer of so many rows, after the server has answered it bit for bit, or nearly so.

    Raises:
        RuntimeError: The server answered something else.
        grpc.RpcError: The server answered with an error.
    """
    rows = model.rows(count)
    request = _infer_request(model, rows)
    with grpc.insecure_channel(server.address) as channel:
        answer = _ask(channel, request)
    _check(server, model, rows, answer.raw_output_contents[0], tolerance)
    return Question(MODEL_INFER, _framed(request), _framed(answer))


def raw_answer(channel: grpc.Channel, model: Model, rows: Rows) -> bytes:
    """What ModelInfer answers to these rows: the only output's elements."""
    return bytes(_ask(channel, _infer_request(model, rows)).raw_output_contents[0])


def _ask(channel: grpc.Channel, request: Any) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)


def model_infer_of_anyone(model: Model, count: int) -> Question:
    """ModelInfer of so many rows, for a peer that does not know what is right."""
    return Question(MODEL_INFER, _framed(_infer_request(model, model.rows(count))), None)


def _infer_request(model: Model, rows: Rows) -> Any:
    request = inference_pb2.ModelInferRequest(
        model_name=model.name, raw_input_contents=[rows.tobytes()]
    )
    request.inputs.add(name=model.input.name, datatype=model.datatype, shape=rows.shape)
    return request


@contextmanager
def model_infer_shared(server: Server, model: Model, count: int) -> Iterator[Question]:
    """ModelInfer of so many rows that lie in shared memory, where the answer goes as well.

    Raises:
        RuntimeError: The server answered something else.
        grpc.RpcError: The server answered with an error.
    """
    rows = model.rows(count)
    (output,) = model.session.get_outputs()
    answer_size = model.answer(rows).nbytes
    file = Path(f"/dev/shm/sigmax-bench-{os.getpid()}")
    file.write_bytes(rows.tobytes() + bytes(answer_size))
    try:
        request = inference_pb2.ModelInferRequest(model_name=model.name)
        given = request.inputs.add(name=model.input.name, datatype=model.datatype, shape=rows.shape)
        wanted = request.outputs.add(name=output.name)
        for tensor, begin, size in ((given, 0, rows.nbytes), (wanted, rows.nbytes, answer_size)):
            tensor.parameters["shared_memory_region"].string_param = file.name
            tensor.parameters["shared_memory_offset"].int64_param = begin
            tensor.parameters["shared_memory_byte_size"].int64_param = size
        with grpc.insecure_channel(server.address) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            size = file.stat().st_size
            region = {"name": file.name, "key": file.name, "byte_size": size}
            register = inference_pb2.SystemSharedMemoryRegisterRequest(**region)
            stub.SystemSharedMemoryRegister(register, timeout=10)
            answer = stub.ModelInfer(request, timeout=10)
        _check(server, model, rows, file.read_bytes()[rows.nbytes :])
        yield Question(MODEL_INFER, _framed(request), _framed(answer))
        with grpc.insecure_channel(server.address) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            unregister = inference_pb2.SystemSharedMemoryUnregisterRequest(name=file.name)
            stub.SystemSharedMemoryUnregister(unregister, timeout=10)
    finally:
        file.unlink()


def classify(server: Server, model: Model, count: int) -> Question:
    """Classify of so many rows, all classes, after the server has answered it bit for bit.

    Raises:
        RuntimeError: The server answered something else.
        grpc.RpcError: The server answered with an error.
    """
    rows = model.rows(count)
    tensor = classifier_pb2.Tensor(
        dtype=classifier_pb2.DATA_TYPE_FP32, shape=rows.shape, raw=rows.tobytes()
    )
    request = classifier_pb2.ClassifyRequest(model_name=model.name, inputs=[tensor])
    with grpc.insecure_channel(server.address) as channel:
        answer = classifier_pb2_grpc.ClassifierServiceStub(channel).Classify(request, timeout=10)
    by_class = [sorted(row.classes, key=lambda scored: scored.index) for row in answer.rows]
    scores = [[scored.probability for scored in row] for row in by_class]
    _check(server, model, rows, np.array(scores, np.float32).tobytes())
    return Question(CLASSIFY, _framed(request), None)


def _check(server: Server, model: Model, rows: Rows, raw: bytes, tolerance: float = 0.0) -> None:
    expected = model.answer(rows)
    came = np.frombuffer(raw, np.float32).reshape(expected.shape)
    if not np.abs(came - expected).max() <= tolerance:
        raise RuntimeError(f"{server.name} answers {len(rows)} rows unlike ONNX Runtime itself")


def _framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data
