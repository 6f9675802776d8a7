"""System shared memory: tensors that are not sent in messages."""

import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import (
    NAMES,
    Refusal,
    Tensor,
    infer_request,
    read_error,
    refusal,
    triton,
)
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

SIZE = 4096


@pytest.fixture(scope="module")
def sharing(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the examples, and reads shared memory."""
    log = tmp_path_factory.mktemp("sharing") / "log"
    with Server(log, examples, "--shared-memory") as server:
        yield server


@dataclass
class Memory:
    """A shared memory object, as a client has it."""

    name: str
    buf: mmap


@pytest.fixture
def memory() -> Iterator[Memory]:
    """One of SIZE bytes."""
    path = Path(f"/dev/shm/sigmax-{uuid.uuid4().hex}")
    path.write_bytes(bytes(SIZE))
    with path.open("r+b") as file, mmap(file.fileno(), SIZE) as buf:
        yield Memory(path.name, buf)
    path.unlink()


def register(server: Server, name: str, key: str, size: int = SIZE, offset: int = 0) -> None:
    request = service_pb2.SystemSharedMemoryRegisterRequest(
        name=name, key=key, offset=offset, byte_size=size
    )
    triton(server).SystemSharedMemoryRegister(request, timeout=60)


def unregister(server: Server, name: str = "") -> None:
    request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
    triton(server).SystemSharedMemoryUnregister(request, timeout=60)


def status(server: Server, name: str = "") -> Any:
    request = service_pb2.SystemSharedMemoryStatusRequest(name=name)
    return triton(server).SystemSharedMemoryStatus(request, timeout=60).regions


@pytest.fixture
def region(sharing: Server, memory: Memory) -> Iterator[str]:
    """The memory, registered under this name."""
    register(sharing, "region", memory.name)
    yield "region"
    unregister(sharing)


def place(tensor: Any, region: str, size: int, offset: int = 0) -> None:
    """Have a request's input or output be in shared memory."""
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def shared_request(model: str, array: np.ndarray, region: str, offset: int = 0) -> Any:
    request = infer_request(model)
    made = request.inputs.add(name="x", datatype=NAMES[array.dtype], shape=array.shape)
    place(made, region, array.nbytes, offset)
    return request


def ask(server: Server, request: Any) -> Any:
    return triton(server).ModelInfer(request, timeout=60)


def refused(server: Server, request: Any) -> Refusal:
    return refusal(lambda: ask(server, request))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float16, np.float64])
def test_the_answer_is_the_same_by_the_wire_and_by_shared_memory(
    sharing: Server, memory: Memory, region: str, dtype: Any
) -> None:
    array = (np.arange(12) % 2).reshape(2, 2, 3).astype(dtype)
    memory.buf[100 : 100 + array.nbytes] = array.tobytes()
    model = f"identity-{NAMES[array.dtype].lower()}"
    request = shared_request(model, array, region, offset=100)
    place(request.outputs.add(name="y"), region, array.nbytes, offset=1000)
    shared = ask(sharing, request)
    wire = ask(sharing, infer_request(model, Tensor.of("x", array, dtype)))
    assert shared.outputs == wire.outputs
    # An entry for every output, be it elsewhere.
    assert list(shared.raw_output_contents) == [b""]
    assert bytes(memory.buf[1000 : 1000 + array.nbytes]) == wire.raw_output_contents[0]


def test_strings_are_read_and_written_in_their_serialized_form(
    sharing: Server, memory: Memory, region: str
) -> None:
    raw = b"".join(len(each).to_bytes(4, "little") + each for each in (b"a\0b", b"", b"\xff"))
    memory.buf[: len(raw)] = raw
    request = infer_request("identity-bytes")
    place(request.inputs.add(name="x", datatype="BYTES", shape=[3, 1, 1]), region, len(raw))
    place(request.outputs.add(name="y"), region, 100, offset=200)
    assert list(ask(sharing, request).outputs[0].shape) == [3, 1, 1]
    assert bytes(memory.buf[200 : 200 + len(raw)]) == raw


def test_raw_contents_count_only_inputs_that_take_them(
    sharing: Server, memory: Memory, region: str
) -> None:
    first, second = (np.full((1, 16), value, np.int32) for value in (5, 3))
    memory.buf[: first.nbytes] = first.tobytes()
    request = infer_request("simple")
    place(request.inputs.add(name="INPUT0", datatype="INT32", shape=[1, 16]), region, 64)
    request.inputs.add(name="INPUT1", datatype="INT32", shape=[1, 16])
    request.raw_input_contents.append(second.tobytes())
    place(request.outputs.add(name="OUTPUT0"), region, 64, offset=64)
    request.outputs.add(name="OUTPUT1")
    reply = ask(sharing, request)
    assert bytes(memory.buf[64:128]) == np.full(16, 8, np.int32).tobytes()
    assert list(reply.raw_output_contents) == [b"", np.full(16, 2, np.int32).tobytes()]


def test_requests_by_shared_memory_share_batches_with_others(
    sharing: Server, memory: Memory, region: str
) -> None:
    rows = np.arange(256, dtype=np.int32).reshape(128, 1, 2)
    memory.buf[: rows.nbytes] = rows.tobytes()
    calls = []
    for index, row in enumerate(rows):
        for request in (
            shared_request("identity-int32", rows[:1], region, offset=index * rows[0].nbytes),
            infer_request("identity-int32", Tensor.of("x", [row], np.int32)),
        ):
            calls.append(triton(sharing).ModelInfer.future(request, timeout=60))
    for index, call in enumerate(calls):
        assert call.result().raw_output_contents[0] == rows[index // 2].tobytes()


def test_regions_are_listed_and_forgotten(sharing: Server, memory: Memory) -> None:
    register(sharing, "one", f"/{memory.name}")
    register(sharing, "two", memory.name, size=8, offset=16)
    assert sorted(status(sharing)) == ["one", "two"]
    found = status(sharing, "two")["two"]
    assert (found.name, found.key, found.offset, found.byte_size) == ("two", memory.name, 16, 8)
    unregister(sharing, "one")
    unregister(sharing, "never there")
    assert list(status(sharing)) == ["two"]
    unregister(sharing)
    assert not status(sharing)
    found = refusal(lambda: status(sharing, "one"))
    assert (found.code, found.message) == (
        "NOT_FOUND",
        "Unable to find system shared memory region: 'one'",
    )


@pytest.mark.parametrize("key", ["never-there", "", "/", "..", "../../etc/passwd", "a/b"])
def test_only_shared_memory_objects_are_opened(sharing: Server, key: str) -> None:
    found = refusal(lambda: register(sharing, "x", key))
    assert (found.code, found.message) == (
        "INTERNAL",
        f"Unable to open shared memory region: '{key}'",
    )


def test_a_link_or_a_pipe_is_no_shared_memory(sharing: Server) -> None:
    path = Path(f"/dev/shm/sigmax-{uuid.uuid4().hex}")
    codes = []
    for is_link in (True, False):
        if is_link:
            path.symlink_to("/etc/passwd")
        else:
            os.mkfifo(path)
        codes.append(refusal(lambda: register(sharing, "x", path.name)).code)
        path.unlink()
    assert codes == ["INTERNAL", "INVALID_ARGUMENT"]


@pytest.mark.parametrize(
    ("size", "offset"),
    [(SIZE + 1, 0), (SIZE, 1), (1, SIZE), (0, 0), (2**63, 2**63), (1, 2**64 - 1)],
)
def test_a_region_is_within_its_object(
    sharing: Server, memory: Memory, size: int, offset: int
) -> None:
    found = refusal(lambda: register(sharing, "x", memory.name, size, offset))
    assert (found.code, found.message) == (
        "INVALID_ARGUMENT",
        "failed to register shared memory region 'x': invalid args",
    )


def test_a_name_is_registered_once(sharing: Server, memory: Memory, region: str) -> None:
    found = refusal(lambda: register(sharing, region, memory.name))
    assert (found.code, found.message) == (
        "ALREADY_EXISTS",
        "shared memory region 'region' already in manager",
    )


def test_what_a_request_names_is_checked(sharing: Server, region: str) -> None:
    row = np.zeros((1, 1, 2), np.int32)
    found = refused(sharing, shared_request("identity-int32", row, "fish"))
    assert (found.code, found.message) == (
        "NOT_FOUND",
        "Unable to find shared memory region: 'fish'",
    )
    found = refused(sharing, shared_request("identity-int32", row, region, offset=SIZE))
    assert found.message == "Invalid offset for shared memory region: 'region'"
    found = refused(sharing, shared_request("identity-int32", row, region, offset=SIZE - 7))
    assert (found.code, found.message) == (
        "INVALID_ARGUMENT",
        "Invalid offset + byte size for shared memory region: 'region'",
    )
    request = shared_request("identity-int32", row, region)
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 12
    assert "input byte size mismatch for input 'x'" in refused(sharing, request).message
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = -1
    assert "expected value >= 0, got -1" in refused(sharing, request).message
    del request.inputs[0].parameters["shared_memory_byte_size"]
    assert "'shared_memory_byte_size' must be specified" in refused(sharing, request).message
    del request.inputs[0].parameters["shared_memory_region"]
    request.inputs[0].parameters["shared_memory_offset"].int64_param = 0
    assert "can not be specified without" in refused(sharing, request).message


def test_an_input_is_in_one_place(sharing: Server, region: str) -> None:
    request = shared_request("identity-int32", np.zeros((1, 1, 2), np.int32), region)
    request.inputs[0].contents.SetInParent()
    assert ask(sharing, request).raw_output_contents[0] == bytes(8)
    request.inputs[0].contents.int_contents.append(1)
    assert refused(sharing, request).code == "INVALID_ARGUMENT"


def test_an_output_must_fit(sharing: Server, memory: Memory, region: str) -> None:
    request = shared_request("identity-int32", np.zeros((1, 1, 2), np.int32), region)
    place(request.outputs.add(name="y"), region, 7)
    memory.buf[:8] = b"ABCDEFGH"
    found = refused(sharing, request)
    assert (found.code, found.message) == (
        "INTERNAL",
        (
            "shared memory size specified with the request for output 'y' (7 bytes) should be at "
            "least 8 bytes to hold the results"
        ),
    )
    assert bytes(memory.buf[:8]) == b"ABCDEFGH"


def test_an_output_is_classified_or_shared(sharing: Server, region: str) -> None:
    request = shared_request("identity-int32", np.zeros((1, 1, 2), np.int32), region)
    output = request.outputs.add(name="y")
    place(output, region, 8)
    output.parameters["classification"].int64_param = 1
    assert "can't set both" in refused(sharing, request).message


def test_a_client_that_shrinks_its_memory_gets_an_error(
    sharing: Server, memory: Memory, region: str
) -> None:
    request = shared_request("identity-int32", np.zeros((1, 1, 2), np.int32), region, offset=64)
    ask(sharing, request)
    # Not mapped, so that nothing in the process can fault on it.
    assert memory.name not in Path(f"/proc/{sharing.process.pid}/maps").read_text()
    os.truncate(Path("/dev/shm", memory.name), 32)
    assert refused(sharing, request).code == "INVALID_ARGUMENT"
    wire = infer_request("identity-int32", Tensor.of("x", np.zeros((1, 1, 2)), np.int32))
    place(wire.outputs.add(name="y"), region, 8, offset=64)
    assert refused(sharing, wire).code == "INVALID_ARGUMENT"
    assert Path("/dev/shm", memory.name).stat().st_size == 32
    del wire.outputs[:]
    assert ask(sharing, wire).raw_output_contents[0] == bytes(8)


def test_a_region_that_is_in_use_outlives_its_registration(sharing: Server, memory: Memory) -> None:
    array = np.arange(4, dtype=np.int32).reshape(2, 1, 2)
    memory.buf[: array.nbytes] = array.tobytes()
    for _ in range(50):
        register(sharing, "brief", memory.name)
        call = triton(sharing).ModelInfer.future(
            shared_request("identity-int32", array, "brief"), timeout=60
        )
        unregister(sharing, "brief")
        # The call may come before or after the end of the registration, never in between.
        if error := call.exception():
            assert "Unable to find shared memory region" in str(error)
        else:
            assert call.result().raw_output_contents[0] == array.tobytes()


def test_a_request_that_waits_for_its_batch_keeps_its_region(
    tmp_path: Path, serve: Serve, memory: Memory
) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(3))
    server = serve(tmp_path, "--shared-memory", "--shards=1")
    register(server, "region", memory.name)
    request = shared_request("m", np.zeros((1, 1), np.float32), "region")
    place(request.outputs.add(name="p"), "region", 4, offset=64)
    send = triton(server).ModelInfer.future
    waiting = [send(request, timeout=60) for _ in range(2)]
    server.until_queued(2, "m")
    unregister(server)
    assert not status(server)
    assert ask(server, infer_request("m", Tensor.of("x", [[0]]))).model_name == "m"
    for call in waiting:
        assert list(call.result().raw_output_contents) == [b""]
    assert bytes(memory.buf[64:68]) == np.float32(0.5).tobytes()


def test_a_client_that_shrinks_its_memory_harms_nobody_in_its_batches(
    sharing: Server, memory: Memory, region: str
) -> None:
    rows = np.arange(256, dtype=np.int32).reshape(128, 1, 1, 2)
    os.truncate(Path("/dev/shm", memory.name), 32)
    send = triton(sharing).ModelInfer.future
    calls = [
        (
            send(infer_request("identity-int32", Tensor.of("x", row, np.int32)), timeout=60),
            send(shared_request("identity-int32", row, region, offset=64), timeout=60),
        )
        for row in rows
    ]
    for row, (good, bad) in zip(rows, calls, strict=True):
        assert good.result().raw_output_contents[0] == row.tobytes()
        assert read_error(bad.exception()).code == "INVALID_ARGUMENT"


@pytest.mark.slow
def test_a_client_that_rewrites_its_memory_gets_its_own_garbage(
    sharing: Server, memory: Memory, region: str
) -> None:
    """Lengths of strings that change under the request are the worst that it can do."""
    good = b"\2\0\0\0ab\2\0\0\0cd"
    bad = b"\xff\xff\xff\xffab\7\0\0\0cd"
    over = threading.Event()

    def rewrite() -> None:
        while not over.is_set():
            memory.buf[: len(good)] = bad
            memory.buf[: len(good)] = good

    thread = threading.Thread(target=rewrite)
    thread.start()
    request = infer_request("identity-bytes")
    place(request.inputs.add(name="x", datatype="BYTES", shape=[2, 1, 1]), region, len(good))
    wire = infer_request("identity-bytes", Tensor("x", "BYTES", (2, 1, 1), good))
    send = triton(sharing).ModelInfer.future
    calls = [(send(request, timeout=60), send(wire, timeout=60)) for _ in range(50)]
    for shared, other in calls:
        assert other.result().raw_output_contents[0] == good
        if error := shared.exception():
            assert read_error(error).code == "INVALID_ARGUMENT"
        else:
            assert len(shared.result().raw_output_contents[0]) == len(good)
    over.set()
    thread.join()


def test_it_is_off_unless_asked_for(server: Server, memory: Memory) -> None:
    for call in (
        lambda: register(server, "x", memory.name),
        lambda: unregister(server),
        lambda: status(server),
        lambda: ask(server, shared_request("identity-int32", np.zeros((1, 1, 2), np.int32), "x")),
    ):
        found = refusal(call)
        assert found.code == "UNIMPLEMENTED"
        assert found.message.startswith("Client shared memory is disabled.")


def test_cuda_memory_is_answered_as_without_a_gpu(server: Server) -> None:
    stub = triton(server)
    assert not stub.CudaSharedMemoryStatus(
        service_pb2.CudaSharedMemoryStatusRequest(), timeout=60
    ).regions
    named = service_pb2.CudaSharedMemoryStatusRequest(name="x")
    found = refusal(lambda: stub.CudaSharedMemoryStatus(named, timeout=60))
    assert (found.code, found.message) == (
        "NOT_FOUND",
        "Unable to find cuda shared memory region: 'x'",
    )
    stub.CudaSharedMemoryUnregister(service_pb2.CudaSharedMemoryUnregisterRequest(), timeout=60)
    request = service_pb2.CudaSharedMemoryRegisterRequest(name="x", raw_handle=b"0", byte_size=1)
    found = refusal(lambda: stub.CudaSharedMemoryRegister(request, timeout=60))
    assert (found.code, found.message) == (
        "INVALID_ARGUMENT",
        "failed to register CUDA shared memory region: 'x', GPUs not supported",
    )


def test_the_extensions_are_those_that_work(server: Server, sharing: Server) -> None:
    with_it, without = (
        triton(each).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60).extensions
        for each in (sharing, server)
    )
    assert set(with_it) - set(without) == {"system_shared_memory"}
    assert set(without) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "schedule_policy",
        "parameters",
        "statistics",
    }
