"""The metadata of the server and its models, for Triton's client."""

from pathlib import Path

import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, classify, refusal, triton
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    service_pb2,
)


def test_the_server_says_what_it_is(server: Server) -> None:
    with InferenceServerClient(server.grpc) as client:
        metadata = client.get_server_metadata()
    assert metadata.name == "triton"
    assert [number.isdigit() for number in metadata.version.split(".")] == [True] * 3


def test_the_servers_name_is_a_setting(serve: Serve, tmp_path: Path) -> None:
    server = serve(files.save(files.softmax(), tmp_path, "softmax"), "--server-name=sigmax")
    with InferenceServerClient(server.grpc) as client:
        assert client.get_server_metadata().name == "sigmax"


@pytest.mark.parametrize("dtype", files.DTYPES)
def test_every_dtype_has_its_name(server: Server, dtype: str) -> None:
    request = service_pb2.ModelMetadataRequest(name=f"identity-{dtype.lower()}")
    metadata = triton(server).ModelMetadata(request, timeout=60)
    [given], [made] = metadata.inputs, metadata.outputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", dtype, [-1, -1, -1])
    assert (made.name, made.datatype, list(made.shape)) == ("y", dtype, [-1, -1, -1])
    described = server.client.model(f"identity-{dtype.lower()}")
    assert [spec.dtype for spec in (*described.inputs, *described.outputs)] == [dtype, dtype]


def test_an_unknown_model_is_not_ready_and_has_no_metadata(server: Server) -> None:
    def ready(**model: str) -> bool:
        reply = triton(server).ModelReady(service_pb2.ModelReadyRequest(**model), timeout=60)
        return bool(reply.ready)

    assert ready(name="softmax")
    assert ready(name="softmax", version="1")
    assert not ready(name="softmax", version="2")
    assert not ready(name="fish")
    assert refusal(lambda: ready(name="softmax", version="x")).reason == "BAD_VERSION"
    request = service_pb2.ModelMetadataRequest(name="fish")
    found = refusal(lambda: triton(server).ModelMetadata(request, timeout=60))
    assert (found.code, found.reason) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert found.message == "Request for unknown model: 'fish' is not found"


def test_the_newest_of_several_versions_is_served(serve: Serve, tmp_path: Path) -> None:
    for version in (1, 2, 10):
        files.save(files.softmax(), tmp_path, "softmax", version)
    server = serve(tmp_path)
    answer = classify(server, "softmax", Tensor.of("x", [[0.0] * 5]))
    assert answer.model_version == "10"


def test_a_bare_file_is_served_under_its_own_name(serve: Serve, tmp_path: Path) -> None:
    file = files.save(files.softmax(), tmp_path, "folder").rename(tmp_path / "letters.onnx")
    server = serve(file)
    result = server.client.classify("letters", [0.0, 1.0, 0.0, 0.0, 0.0])
    assert (result.model, result.version, result.label) == ("letters", "1", "b")


def test_a_client_is_told_what_a_model_runs_on_and_why(serve: Serve, tmp_path: Path) -> None:
    files.save(files.linear(), tmp_path, "anywhere")
    files.configured(tmp_path, "here", files.linear(), "instance_group { kind: KIND_CPU count: 1 }")
    server = serve(tmp_path)
    found = {name: server.client.model(name) for name in ("anywhere", "here")}
    assert found["anywhere"].device_reason.startswith("auto: ")
    assert found["here"].device == "cpu"
    assert found["here"].device_reason == "instance_group: KIND_CPU"
    assert server.metric("sigmax_model_info", model="here", device="cpu") == 1
