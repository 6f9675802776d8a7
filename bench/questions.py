"""The requests of the loads. Each is sent once before, and the answer is checked."""

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

sys.path.append(str(ROOT / "proto"))
inference_pb2: Any
inference_pb2_grpc: Any
inference_pb2, inference_pb2_grpc = grpc.protos_and_services("inference/grpc_service.proto")

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CLASSIFY = "/sigmax.v1.ClassifierService/Classify"

DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8", "tensor(int16)": "INT16"}

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Question:
    """A request, ready to be sent.

    Attributes:
        path: HTTP path of the RPC.
        request: Message after gRPC's prefix of five bytes: not compressed, length.
        answer: Answer that every request must get, with the same prefix; None where answers hold
            timings, or where any answer is accepted.
    """

    path: str
    request: bytes
    answer: bytes | None

    def with_any_answer(self) -> "Question":
        """Return the same request for a peer that need not give the right answer."""
        return replace(self, answer=None)


class Model:
    """A model that servers hold, with a session in this process that gives the right answers.

    The model is trained or made first, where its repository is missing.
    """

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
        """Return `count` random rows, the same for the same count."""
        return values(self.input, count)

    def answer(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return ONNX Runtime's probabilities, [count, classes]."""
        (probabilities,) = self.session.run(None, {self.input.name: rows})
        return np.asarray(probabilities, np.float32)


def model_infer(server: Server, model: Model, count: int, tolerance: float = 0.0) -> Question:
    """Make a request of ModelInfer with `count` rows, which the server answers once before.

    That answer may differ from ONNX Runtime's by at most `tolerance`, absolute; 0: the same bits.

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
    """Return the elements of the only output that ModelInfer answers to these rows."""
    return bytes(_ask(channel, _infer_request(model, rows)).raw_output_contents[0])


def _ask(channel: grpc.Channel, request: Any) -> Any:
    return inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)


def model_infer_of_anyone(model: Model, count: int) -> Question:
    """Make a request of ModelInfer with `count` rows, to which any answer is accepted."""
    return Question(MODEL_INFER, _framed(_infer_request(model, model.rows(count))), None)


def _infer_request(model: Model, rows: Rows) -> Any:
    request = inference_pb2.ModelInferRequest(
        model_name=model.name, raw_input_contents=[rows.tobytes()]
    )
    request.inputs.add(name=model.input.name, datatype=model.datatype, shape=rows.shape)
    return request


@contextmanager
def model_infer_shared(server: Server, model: Model, count: int) -> Iterator[Question]:
    """Make a request of ModelInfer with `count` rows and the answer in shared memory.

    The server answers it once before. The region is unregistered at the end of the context.

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
    """Make a request of Classify with `count` rows for all classes, answered once before.

    That answer must have the same bits as ONNX Runtime's.

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
