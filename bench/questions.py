"""The requests that are sent over and over, each answered rightly once before it is."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2, classifier_pb2_grpc

from bench.servers import ROOT, Server

sys.path.append(str(ROOT / "proto/inference"))
inference_pb2: Any
inference_pb2_grpc: Any
inference_pb2, inference_pb2_grpc = grpc.protos_and_services("grpc_service.proto")

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """One request, ready to be sent.

    Attributes:
        call: The RPC's name.
        path: The RPC's HTTP path.
        framed: The message behind gRPC's five bytes: no compression, its length.
        answer_bytes: Length of the answer, framed in the same way.
        answer_slack: By how many bytes an answer's length may differ from that: the timings in
            it take more or fewer.
    """

    call: str
    path: str
    framed: bytes
    answer_bytes: int
    answer_slack: int


class Model:
    """The model file that both servers hold, asked in process: what the answers must be."""

    def __init__(self, file: Path, name: str) -> None:
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        (self.input,) = self.session.get_inputs()
        self.rows_wide = int(self.input.shape[1])

    def rows(self, count: int) -> Rows:
        """So many rows, [count, width], the same ones every time."""
        values = np.random.default_rng(count).normal(size=(count, self.rows_wide))
        return values.astype(np.float32)

    def answer(self, rows: Rows) -> Rows:
        """The probabilities, [count, classes]."""
        (probabilities,) = self.session.run(None, {self.input.name: rows})
        return np.asarray(probabilities, np.float32)


def model_infer(server: Server, model: Model, count: int) -> Question:
    """ModelInfer of so many rows, after the server has answered it bit for bit.

    Raises:
        RuntimeError: The server answered something else.
        grpc.RpcError: The server answered with an error.
    """
    rows = model.rows(count)
    request = inference_pb2.ModelInferRequest(
        model_name=model.name, raw_input_contents=[rows.tobytes()]
    )
    request.inputs.add(name=model.input.name, datatype="FP32", shape=rows.shape)
    with grpc.insecure_channel(server.address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=10)
    _check(server, model, rows, answer.raw_output_contents[0])
    path = "/inference.GRPCInferenceService/ModelInfer"
    return _question("ModelInfer", path, request, answer, slack=0)


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
        given = request.inputs.add(name=model.input.name, datatype="FP32", shape=rows.shape)
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
        path = "/inference.GRPCInferenceService/ModelInfer"
        yield _question("ModelInfer, shared memory", path, request, answer, slack=0)
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
    path = "/sigmax.v1.ClassifierService/Classify"
    return _question("Classify", path, request, answer, slack=12)


def _check(server: Server, model: Model, rows: Rows, raw: bytes) -> None:
    if raw != model.answer(rows).tobytes():
        raise RuntimeError(f"{server.name} answers {len(rows)} rows unlike ONNX Runtime itself")


def _question(call: str, path: str, request: Any, answer: Any, slack: int) -> Question:
    message = request.SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    return Question(call, path, framed, 5 + answer.ByteSize(), slack)
