"""How an answer lies on the wire, and what a refusal says, as clients expect them of Triton."""

from typing import Any

import numpy as np
import pytest
from support.server import Server
from support.wire import Tensor, infer, infer_request, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)


def typed_request() -> Any:
    request = service_pb2.ModelInferRequest(model_name="softmax")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 5])
    tensor.contents.fp32_contents.extend(ROW.ravel().tolist())
    return request


def test_answers_are_raw_whatever_was_asked(server: Server) -> None:
    reply = triton(server).ModelInfer(typed_request(), timeout=60)
    assert not any(output.HasField("contents") for output in reply.outputs)
    assert [len(raw) for raw in reply.raw_output_contents] == [20]


def test_every_output_has_its_raw_entry(server: Server) -> None:
    x = Tensor.of("x", np.zeros((2, 0)))
    reply = triton(server).ModelInfer(infer_request("any-length", x), timeout=60)
    assert [list(output.shape) for output in reply.outputs] == [[2, 0]]
    assert list(reply.raw_output_contents) == [b""]


def test_a_streams_answers_are_tritons_message(server: Server) -> None:
    """The answer is field 2 and an error field 1; MLServer has a model's name in field 1."""
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    stream: Any = server.channel.stream_stream(path)
    requests = [infer_request(name, Tensor.of("x", ROW)) for name in ("softmax", "fish")]
    messages = (request.SerializeToString() for request in requests)
    good, bad = stream(messages, timeout=60)
    assert (good[0] >> 3, bad[0] >> 3) == (2, 1)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("x", "failed to get model version from specified version string 'x' (details: stol)"),
        ("-1", "invalid model version specified '-1'"),
    ],
)
def test_a_version_is_a_number_above_0(server: Server, version: str, text: str) -> None:
    x = Tensor.of("x", ROW)
    found = refusal(lambda: infer(server, "softmax", x, model_version=version))
    assert found.code == "INVALID_ARGUMENT"
    assert found.message == f"{text}, version should be an integral value > 0"
