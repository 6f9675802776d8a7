"""One request in every form gives the same bytes: raw, typed, streamed, in shared memory."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support import files
from support.server import Server
from support.wire import NUMPY, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


class Request:
    """A request to a model with one input and one output."""

    def __init__(self, model: str, name: str, dtype: str, shape: list[int], raw: bytes) -> None:
        self.model, self.raw = model, raw
        self.input = {"name": name, "datatype": dtype, "shape": shape}

    def message(self) -> Any:
        return service_pb2.ModelInferRequest(model_name=self.model, inputs=[self.input])

    def as_raw(self, server: Server) -> Any:
        request = self.message()
        request.raw_input_contents.append(self.raw)
        return triton(server).ModelInfer(request, timeout=60)

    def as_typed(self, server: Server) -> Any:
        request = self.message()
        contents = request.inputs[0].contents
        dtype = str(self.input["datatype"])
        if dtype == "BYTES":
            contents.bytes_contents.extend(strings(self.raw))
        else:
            getattr(contents, TYPED[dtype]).extend(np.frombuffer(self.raw, NUMPY[dtype]).tolist())
        return triton(server).ModelInfer(request, timeout=60)

    def as_stream(self, server: Server) -> Any:
        request = self.message()
        request.raw_input_contents.append(self.raw)
        [reply] = triton(server).ModelStreamInfer(iter([request]), timeout=60)
        assert reply.error_message == ""
        del reply.infer_response.parameters["triton_final_response"]
        return reply.infer_response

    def as_shared(self, server: Server, output: str, size: int) -> Any:
        """The answer, with the bytes that it left in shared memory in their place."""
        path = Path(f"/dev/shm/sigmax-{uuid.uuid4().hex}")
        path.write_bytes(self.raw + bytes(size))
        stub = triton(server)
        try:
            region = {"name": path.name, "key": path.name, "byte_size": path.stat().st_size}
            stub.SystemSharedMemoryRegister(
                service_pb2.SystemSharedMemoryRegisterRequest(**region), timeout=60
            )
            request = self.message()
            wanted = request.outputs.add(name=output)
            for tensor, begin, length in (
                (request.inputs[0], 0, len(self.raw)),
                (wanted, len(self.raw), size),
            ):
                tensor.parameters["shared_memory_region"].string_param = path.name
                tensor.parameters["shared_memory_offset"].int64_param = begin
                tensor.parameters["shared_memory_byte_size"].int64_param = length
            reply = stub.ModelInfer(request, timeout=60)
            assert list(reply.raw_output_contents) == [b""]
            reply.raw_output_contents[0] = path.read_bytes()[len(self.raw) :]
            return reply
        finally:
            path.unlink()


def strings(raw: bytes) -> Iterator[bytes]:
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        yield raw[4:end]
        raw = raw[end:]


def check(server: Server, request: Request) -> None:
    expected = request.as_raw(server)
    [output] = expected.outputs
    size = len(expected.raw_output_contents[0])
    ways: list[Callable[[], Any]] = [
        lambda: request.as_stream(server),
        lambda: request.as_shared(server, output.name, size),
    ]
    if request.input["datatype"] not in ("FP16", "BF16"):  # these have no typed form
        ways.append(lambda: request.as_typed(server))
    for way in ways:
        assert way() == expected


@pytest.fixture(scope="module")
def sharing(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the examples, and reads shared memory."""
    log = tmp_path_factory.mktemp("sharing") / "log"
    with Server(log, examples, "--shared-memory") as server:
        yield server


@pytest.mark.parametrize("dtype", [*files.DTYPES, "BYTES"])
def test_every_datatype(sharing: Server, dtype: str) -> None:
    shape = [2, 2, 3]
    if dtype == "BYTES":
        texts = [b"", b"a\0b", b"\xff\xfe", "ä".encode(), b"x" * 300, b"\0"] * 2
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    elif dtype == "BOOL":
        raw = bytes([0, 1, 1] * 4)
    elif dtype == "BF16":
        raw = np.arange(12, dtype=np.float32).view(np.uint16)[1::2].tobytes()
    else:
        raw = np.arange(100, 112).astype(NUMPY[dtype]).tobytes()
    check(sharing, Request(f"identity-{dtype.lower()}", "x", dtype, shape, raw))


@pytest.mark.slow
def test_every_network(networks_server: Server, repository: Path) -> None:
    networks = sorted(repository.iterdir())
    assert len(networks) == 7
    for folder in networks:
        sample = folder / "1/test_data_set_1/input_0.pb"
        tensor = onnx.TensorProto.FromString(sample.read_bytes())
        array = numpy_helper.to_array(tensor)
        [dtype] = [name for name, kind in NUMPY.items() if kind == array.dtype]
        request = Request(folder.name, tensor.name, dtype, list(array.shape), array.tobytes())
        check(networks_server, request)
