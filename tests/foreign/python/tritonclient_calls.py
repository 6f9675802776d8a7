"""Asks a Sigmax server for everything that tritonclient can ask, with an unmodified tritonclient.

Usage: python tritonclient_calls.py ADDRESS [OPTIONS], where OPTIONS are further arguments of the
client in JSON, such as those of TLS. The server is told --shared-memory and
--model-control=explicit, and has the models identity-*, simple and softmax of tests/support.
Prints one line of JSON: what each call gave, for those that a test compares.
"""

import asyncio
import json
import queue
import sys
import uuid
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

SUM, FIRST, SECOND = "OUTPUT0", "INPUT0", "INPUT1"
ONE = np.arange(16, dtype=np.int32).reshape(1, 16)
TWO = np.full((1, 16), 2, np.int32)
OPTIONS = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
TYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
TYPES += ["FP16", "BF16", "FP32", "FP64", "BYTES"]


def inputs() -> list[Any]:
    """The inputs of the model simple."""
    given = []
    for name, array in ((FIRST, ONE), (SECOND, TWO)):
        tensor = triton.InferInput(name, array.shape, "INT32")
        tensor.set_data_from_numpy(array)
        given.append(tensor)
    return given


def check(result: Any) -> bool:
    """Whether an answer of the model simple is right."""
    return bool((result.as_numpy(SUM) == ONE + TWO).all())


def describe(client: Any) -> dict[str, Any]:
    """What a server says of itself."""
    statistics = client.get_inference_statistics("simple").model_stats[0]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("simple"),
        "unknown model ready": client.is_model_ready("fish"),
        "server": client.get_server_metadata().name,
        "inputs": [each.name for each in client.get_model_metadata("simple").inputs],
        "max_batch_size": client.get_model_config("simple").config.max_batch_size,
        "statistics": statistics.inference_stats.queue.count > 0,
        "log settings": "log_verbose_level" in client.get_log_settings().settings,
        "index": "simple" in [each.name for each in client.get_model_repository_index().models],
    }


def infer(client: Any) -> dict[str, Any]:
    """Unary calls, in every way."""
    answered: queue.Queue[Any] = queue.Queue()
    client.async_infer("simple", inputs(), lambda result, error: answered.put((result, error)))
    result, error = answered.get(timeout=60)
    options = {
        "request_id": "7",
        "priority": 3,
        "timeout": 60_000_000,
        "headers": {"test": "1"},
        "parameters": {"custom": "value"},
        "outputs": [triton.InferRequestedOutput(SUM)],
    }
    with_options = client.infer("simple", inputs(), **options)
    try:
        client.infer("simple", inputs()[:1])
        refused = ""
    except InferenceServerException as refusal:
        refused = refusal.status()
    return {
        "infer": check(client.infer("simple", inputs())),
        "async infer": error is None and check(result),
        "options": check(with_options) and with_options.get_response().id == "7",
        "gzip": check(client.infer("simple", inputs(), compression_algorithm="gzip")),
        "deflate": check(client.infer("simple", inputs(), compression_algorithm="deflate")),
        "error": refused,
    }


def every_type(client: Any) -> list[str]:
    """The types that come back as they were sent."""
    same = []
    for dtype in TYPES:
        if dtype == "BYTES":
            array = np.array([[[b"a\0b", b"\xff", b""]]], np.object_)
        else:
            array = np.array([[[0, 1, 1]]], numpy_type(dtype))
        tensor = triton.InferInput("x", array.shape, dtype)
        tensor.set_data_from_numpy(array)
        result = client.infer(f"identity-{dtype.lower()}", [tensor]).as_numpy("y")
        if (result == array).all() and result.shape == array.shape:
            same.append(dtype)
    return same


def numpy_type(dtype: str) -> Any:
    """The numpy type of a datatype; newer clients want one of ml_dtypes for BF16."""
    if dtype != "BF16":
        return triton_to_np_dtype(dtype)
    return ml_dtypes.bfloat16 if ml_dtypes else np.float32


def classify(client: Any) -> list[str]:
    """The two most probable classes."""
    tensor = triton.InferInput("x", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.array([[0, 0, 9, 1, 0]], np.float32))
    wanted = triton.InferRequestedOutput("p", class_count=2)
    classes = client.infer("softmax", [tensor], outputs=[wanted]).as_numpy("p")
    return [str(each.decode()).split(":", 1)[1] for each in classes[0]]


def typed(address: str) -> bool:
    """Typed contents, through the stubs."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="simple")
    for name, array in ((FIRST, ONE), (SECOND, TWO)):
        tensor = request.inputs.add(name=name, datatype="INT32", shape=array.shape)
        tensor.contents.int_contents.extend(array.ravel().tolist())
    with connect(address) as channel:
        reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    return reply.raw_output_contents[0] == (ONE + TWO).tobytes()


def connect(address: str) -> grpc.Channel:
    """A channel by the same options as the client's."""
    if not OPTIONS:
        return grpc.insecure_channel(address)
    names = ("root_certificates", "private_key", "certificate_chain")
    files = (Path(OPTIONS[name]).read_bytes() for name in names)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files))


def stream(client: Any) -> list[str]:
    """The ids of answers that come by a stream, with an error in the middle."""
    answered: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answered.put((result, error)))
    for number, model in enumerate(("simple", "fish", "simple")):
        client.async_stream_infer(
            model, inputs(), request_id=str(number), enable_empty_final_response=True
        )
    said = []
    for _ in range(3):
        result, error = answered.get(timeout=60)
        said.append(error.message() if error else result.get_response().id)
    client.stop_stream()
    return said


def shared(client: Any) -> bool:
    """Inputs and an output in shared memory."""
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    name, size = f"sigmax-{uuid.uuid4().hex}", ONE.nbytes
    handle = shm.create_shared_memory_region("region", f"/{name}", 3 * size)
    try:
        shm.set_shared_memory_region(handle, [ONE, TWO])
        client.register_system_shared_memory("region", f"/{name}", 3 * size)
        given = inputs()
        for place, tensor in enumerate(given):
            tensor.set_shared_memory("region", size, place * size)
        wanted = triton.InferRequestedOutput(SUM)
        wanted.set_shared_memory("region", size, 2 * size)
        result = client.infer("simple", given, outputs=[wanted])
        [output] = result.get_response().outputs
        found = shm.get_contents_as_numpy(handle, np.int32, output.shape, 2 * size)
        listed = "region" in client.get_system_shared_memory_status().regions
        client.unregister_system_shared_memory("region")
        return listed and bool((found == ONE + TWO).all())
    finally:
        shm.destroy_shared_memory_region(handle)


def control(client: Any) -> list[bool]:
    """Whether a model is ready before and after it is unloaded, and loaded with a configuration."""
    states = [client.is_model_ready("simple")]
    client.unload_model("simple")
    states.append(client.is_model_ready("simple"))
    client.load_model("simple", config=json.dumps({"max_batch_size": "8"}))
    states.append(client.is_model_ready("simple"))
    return states


async def asynchronous(address: str) -> dict[str, Any]:
    """The same client for asyncio: one call, and a stream."""

    async def requests() -> Any:
        for number in range(3):
            yield {"model_name": "simple", "inputs": inputs(), "request_id": str(number)}

    async with triton_aio.InferenceServerClient(address, **OPTIONS) as client:
        unary = check(await client.infer("simple", inputs()))
        streamed = [
            error is None and check(result)
            async for result, error in client.stream_infer(requests())
        ]
        packed = [
            check(await client.infer("simple", inputs(), compression_algorithm=algorithm))
            for algorithm in ("gzip", "deflate")
        ]
        try:
            await client.infer("simple", inputs()[:1])
            refused = ""
        except InferenceServerException as refusal:
            refused = refusal.status()
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_model_ready("simple"),
            "infer": unary,
            "gzip and deflate": packed == [True] * 2,
            "stream": streamed == [True] * 3,
            "shared memory": await asynchronously_shared(client),
            "error": refused,
        }


async def asynchronously_shared(client: Any) -> bool:
    """Inputs in shared memory, by the client for asyncio."""
    name, size = f"sigmax-{uuid.uuid4().hex}", ONE.nbytes
    handle = shm.create_shared_memory_region("region", f"/{name}", 2 * size)
    try:
        shm.set_shared_memory_region(handle, [ONE, TWO])
        await client.register_system_shared_memory("region", f"/{name}", 2 * size)
        given = inputs()
        for place, tensor in enumerate(given):
            tensor.set_shared_memory("region", size, place * size)
        right = check(await client.infer("simple", given))
        await client.unregister_system_shared_memory("region")
        return right
    finally:
        shm.destroy_shared_memory_region(handle)


def main(address: str) -> None:
    """Run everything."""
    with triton.InferenceServerClient(address, **OPTIONS) as client:
        said = {
            "infer": infer(client),
            "describe": describe(client),
            "types": every_type(client),
            "classify": classify(client),
            "typed": typed(address),
            "stream": stream(client),
            "shared memory": shared(client),
            "control": control(client),
            "asyncio": asyncio.run(asynchronous(address)),
        }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
