"""Clients that lie about the memory that they share or need, or use too much of it."""

import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.attack import MODEL, Target, attacked
from support.server import Server
from support.wire import Tensor, infer_request, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
TEBIBYTE = 2**40


@pytest.fixture
def sparse() -> Iterator[str]:
    """The name of a shared memory object of a tebibyte that takes no memory."""
    path = Path(f"/dev/shm/sigmax-{uuid.uuid4().hex}")
    path.touch()
    os.truncate(path, TEBIBYTE)
    yield path.name
    path.unlink()


def register(server: Server, name: str, key: str, size: int) -> None:
    request = service_pb2.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=size)
    triton(server).SystemSharedMemoryRegister(request, timeout=60)


def request(model: str, datatype: str, shape: list[int], size: int, count: int = 1) -> Any:
    """Make a request whose `count` inputs, of `size` bytes each, are in the region "sparse"."""
    names = ["x"] if count == 1 else [f"x{at}" for at in range(count)]
    asked = service_pb2.ModelInferRequest(model_name=model)
    for name in names:
        tensor = asked.inputs.add(name=name, datatype=datatype, shape=shape)
        tensor.parameters["shared_memory_region"].string_param = "sparse"
        tensor.parameters["shared_memory_byte_size"].int64_param = size
    return asked


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "UINT8"])
@pytest.mark.parametrize("size", [TEBIBYTE, 65 * MEBIBYTE])
def test_an_input_of_a_size_that_no_message_has(
    target: Target, tmp_path: Path, sparse: str, datatype: str, size: int
) -> None:
    files.save(files.identity(datatype), tmp_path / "more", "identity")
    server = target(tmp_path / "more", "--shared-memory")
    register(server, "sparse", sparse, TEBIBYTE)
    with attacked(server, growth=64 * MEBIBYTE) as good:
        asked = request("identity", datatype, [1, 1, size], size)
        found = refusal(lambda: triton(server).ModelInfer(asked, timeout=60))
        assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        assert f"got {size}" in found.message
        stream = triton(server).ModelStreamInfer(iter([asked]), timeout=60)
        assert f"got {size}" in next(stream).error_message
        good.goes_on()


def test_inputs_that_are_too_large_together(target: Target, sparse: str) -> None:
    """Each input is small enough by itself, and both together are too large."""
    server = target("--shared-memory")
    register(server, "sparse", sparse, TEBIBYTE)
    with attacked(server, growth=64 * MEBIBYTE) as good:
        asked = request(MODEL, "FP32", [1, 5], 40 * MEBIBYTE, count=2)
        found = refusal(lambda: triton(server).ModelInfer(asked, timeout=60))
        assert f"got {80 * MEBIBYTE}" in found.message
        good.goes_on()


def test_copies_count_in_the_budget(target: Target, tmp_path: Path, sparse: str) -> None:
    """Send many requests at once, of 40 MiB each; the budget has no room for all."""
    files.save(files.identity("UINT8"), tmp_path / "more", "identity")
    server = target(tmp_path / "more", "--shared-memory", f"--memory-budget={128 * MEBIBYTE}")
    register(server, "sparse", sparse, TEBIBYTE)
    # ONNX Runtime's arena keeps the memory of one run: its input and its output.
    kept = 96 * MEBIBYTE
    with attacked(server, may_be_refused=True, growth=256 * MEBIBYTE, slack=kept) as good:
        size = 40 * MEBIBYTE
        asked = request("identity", "UINT8", [1, 1, size], size)
        send = triton(server).ModelInfer.future
        errors = [call.exception() for call in [send(asked, timeout=60) for _ in range(20)]]
        assert {error.code().name for error in errors if error} <= {"RESOURCE_EXHAUSTED"}
        assert any(errors)
        good.goes_on()


def test_texts_without_content_count_as_what_they_become(target: Target, tmp_path: Path) -> None:
    """Send empty texts of four bytes each, which take more than a hundred bytes each in memory."""
    files.save(files.identity("BYTES"), tmp_path / "more", "identity")
    server = target(tmp_path / "more", f"--memory-budget={128 * MEBIBYTE}")
    count = 5_000_000
    asked = infer_request("identity", Tensor("x", "BYTES", (1, 1, count), bytes(4 * count)))
    with attacked(server, growth=128 * MEBIBYTE) as good:
        found = refusal(lambda: triton(server).ModelInfer(asked, timeout=60))
        assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        good.goes_on()


def test_registrations_without_number(target: Target, sparse: str) -> None:
    server = target("--shared-memory")
    with attacked(server, growth=64 * MEBIBYTE) as good:
        for number in range(1024):
            register(server, f"r{number}", sparse, 1)
        for name in ("one more", "another"):
            found = refusal(partial(register, server, name, sparse, 1))
            assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_REGIONS")
        long = refusal(lambda: register(server, "r" * 256, sparse, 1))
        assert "expected at most 255 bytes, got 256" in long.message
        good.goes_on()
        unregister = service_pb2.SystemSharedMemoryUnregisterRequest
        triton(server).SystemSharedMemoryUnregister(unregister(name="r7"), timeout=60)
        register(server, "one more", sparse, 1)
        triton(server).SystemSharedMemoryUnregister(unregister(), timeout=60)
