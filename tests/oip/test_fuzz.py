"""Mutated requests: the server lives, blames nobody but the sender, and mixes nothing up.

`make fuzz` runs many more of them than `make test`; SIGMAX_FUZZ_EXAMPLES says how many.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.server import Server
from support.wire import Tensor, infer, infer_request, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

EXAMPLES = int(os.environ.get("SIGMAX_FUZZ_EXAMPLES", "400"))
# The examples are requests of their own, and each is quick; the whole may take as long as it takes.
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
PATH = "/inference.GRPCInferenceService/ModelInfer"
# Never a sender's fault.
OURS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED)
AT_ONCE = 8
# The name of a region of shared memory, as the parameters below have it.
REGION = "1"

texts = st.sampled_from(["", "x", "y", "INPUT0", "identity-int32", "ä\0", "a" * 300]) | st.text()
integers = st.sampled_from([0, 1, -1, 2, 3, 8, 2**31, -(2**31), 2**63 - 1, -(2**63)])
raws = st.binary(max_size=40)
keys = st.sampled_from(
    [
        "classification",
        "priority",
        "sequence_id",
        "shared_memory_byte_size",
        "shared_memory_offset",
        "shared_memory_region",
        "timeout",
        "triton_enable_empty_final_response",
        "triton_x",
        "z",
    ]
)
values: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"int64_param": integers}
) | st.sampled_from(
    [{"bool_param": True}, {"string_param": REGION}, {"uint64_param": 1}, {"double_param": 0.5}, {}]
)
parameters = st.dictionaries(keys, values, max_size=2)
contents = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
        "bytes_contents": st.lists(raws, max_size=4),
        "fp32_contents": st.lists(st.floats(width=32), max_size=4),
    },
)
datatypes = st.sampled_from(["INT32", "BYTES", "FP32", "BOOL", "", "int32", "INT8"])
shapes = st.sampled_from([[1, 1, 2], [2, 1, 1], [1, 16], [2, 3], []]) | st.lists(
    integers, max_size=4
)
models = st.sampled_from(["identity-int32", "identity-bytes", "identity-bool", "simple", "scalar"])


@st.composite
def good(draw: st.DrawFn) -> Any:
    """A right request, with values of its own."""
    model = draw(st.sampled_from(["identity-int32", "identity-bytes", "identity-bool", "simple"]))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if model == "simple":
        numbers = st.integers(-1000, 1000)
        flat = draw(st.lists(numbers, min_size=32 * rows, max_size=32 * rows))
        one, two = np.array(flat, np.int32).reshape(2, rows, 16)
        return infer_request(
            model, Tensor.of("INPUT0", one, np.int32), Tensor.of("INPUT1", two, np.int32)
        )
    count = rows * columns
    if model == "identity-bytes":
        each = draw(st.lists(raws, min_size=count, max_size=count))
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in each)
    elif model == "identity-bool":
        raw = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    else:
        raw = draw(st.binary(min_size=4 * count, max_size=4 * count))
    dtype = model.removeprefix("identity-").upper()
    return infer_request(model, Tensor("x", dtype, (rows, 1, columns), raw))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A right request with some of its fields changed."""
    request = draw(good())
    first = request.inputs[0]
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 13)):
            case 0:
                request.model_name = draw(models | texts)
            case 1:
                request.model_version = draw(st.sampled_from(["1", "2", "-1", "x", "0"]) | texts)
            case 2:
                request.id = draw(texts)
            case 3:
                first.name = draw(texts)
            case 4:
                first.datatype = draw(datatypes)
            case 5:
                first.shape[:] = draw(shapes)
            case 6:
                request.raw_input_contents[0] = draw(raws)
            case 7:
                del request.raw_input_contents[:]
            case 8:
                request.raw_input_contents.append(draw(raws))
            case 9:
                if (typed := draw(contents)) is not None:
                    first.contents.CopyFrom(service_pb2.InferTensorContents(**typed))
            case 10:
                request.inputs.append(first)
            case 11:
                for key, value in draw(parameters).items():
                    place = draw(st.sampled_from([request, first]))
                    place.parameters[key].CopyFrom(service_pb2.InferParameter(**value))
            case 12:
                output = request.outputs.add(name=draw(st.sampled_from(["y", "OUTPUT0", "z"])))
                for key, value in draw(parameters).items():
                    output.parameters[key].CopyFrom(service_pb2.InferParameter(**value))
            case _:
                del request.inputs[0]
                break
        if not request.inputs or not request.raw_input_contents:
            break
    return bytes(request.SerializeToString())


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """The bytes of a request with some of them changed, left out or put in."""
    data = bytearray(draw(mutated()))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[place : place + draw(st.integers(1, 8))]
            case _:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


def expected(request: Any) -> dict[str, bytes] | None:
    """The outputs of a request that is answered; None where they are not compared."""
    if any(tensor.HasField("contents") or tensor.parameters for tensor in request.inputs):
        return None
    given = {
        tensor.name: raw
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=False)
    }
    if request.model_name.startswith("identity-"):
        [raw] = given.values()
        return {"y": raw}
    if request.model_name == "simple":
        one, two = (np.frombuffer(given[name], np.int32) for name in ("INPUT0", "INPUT1"))
        return {"OUTPUT0": (one + two).tobytes(), "OUTPUT1": (one - two).tobytes()}
    return None


def compare(message: bytes, reply: Any) -> None:
    """Hold an answer against the request it is about."""
    try:
        request = service_pb2.ModelInferRequest.FromString(message)
    except DecodeError:
        return  # protobuf's own reader is stricter about texts
    assert reply.id == request.id
    asked = [output.name for output in request.outputs]
    names = [output.name for output in reply.outputs]
    assert names == asked or not asked
    assert len(reply.raw_output_contents) == len(names)
    right = expected(request)
    if right is None or any(output.parameters for output in request.outputs):
        return
    for name, raw in zip(names, reply.raw_output_contents, strict=True):
        assert raw == right[name]


@pytest.fixture(scope="module")
def sharing(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the examples, and has a region of shared memory."""
    log = tmp_path_factory.mktemp("sharing") / "log"
    memory = Path(f"/dev/shm/sigmax-{uuid.uuid4().hex}")
    memory.write_bytes(bytes([1, 0] * 32))
    try:
        with Server(log, examples, "--shared-memory", "--shards=2") as server:
            request = service_pb2.SystemSharedMemoryRegisterRequest(
                name=REGION, key=memory.name, byte_size=64
            )
            triton(server).SystemSharedMemoryRegister(request, timeout=60)
            yield server
    finally:
        memory.unlink()


def send(server: Server, messages: list[bytes]) -> None:
    """Send them at once, so that they meet in batches, and look at every answer."""
    call: Any = server.channel.unary_unary(
        PATH, response_deserializer=service_pb2.ModelInferResponse.FromString
    )
    futures = [call.future(message, timeout=60) for message in messages]
    for message, future in zip(messages, futures, strict=True):
        error = future.exception()
        if error is None:
            compare(message, future.result())
        else:
            # Triton's code for what does not fit into a client's memory.
            its_fault = "shared memory size specified" in error.details()
            assert its_fault or error.code() not in OURS, (message, error)
            assert error.details()


@pytest.mark.slow
@fuzz
@given(messages=st.lists(mutated(), min_size=1, max_size=AT_ONCE))
def test_mutated_fields(sharing: Server, messages: list[bytes]) -> None:
    send(sharing, messages)


@pytest.mark.slow
@fuzz
@given(messages=st.lists(broken(), min_size=1, max_size=AT_ONCE))
def test_mutated_bytes(sharing: Server, messages: list[bytes]) -> None:
    send(sharing, messages)
    row = np.array([[[1, 2]]], np.int32)
    assert infer(sharing, "identity-int32", Tensor.of("x", row, np.int32))[0].raw == row.tobytes()
