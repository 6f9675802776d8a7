"""Model control that asks for too much, unknown names, and files that change under a server."""

import json
import os
from pathlib import Path

import grpc
import pytest
from support import files
from support.attack import PATIENCE, Target, attacked, scaled
from support.server import Server
from support.wire import Tensor, infer, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow

CONTROL = ("--model-control=explicit", "--load-model=*")
TOO_MUCH = (
    {"instance_group": [{"count": 1_000_000}]},
    {"instance_group": [{"count": 1}] * 1000},
    {"dynamic_batching": {"priority_levels": 2**32 - 1}},
    {"version_policy": {"specific": {"versions": list(range(1, 50_000))}}},
)


def refused(server: Server, name: str, config: object, content: bytes | None = None) -> str:
    """Load a model that cannot be loaded, and return the error's text."""
    request = service_pb2.RepositoryModelLoadRequest(model_name=name)
    request.parameters["config"].string_param = json.dumps(config)
    if content is not None:
        request.parameters["file:1/model.onnx"].bytes_param = content
    with pytest.raises(grpc.RpcError) as caught:
        triton(server).RepositoryModelLoad(request, timeout=PATIENCE)
    return str(caught.value.details())


def index(server: Server) -> list[tuple[str, str]]:
    request = service_pb2.RepositoryIndexRequest()
    models = triton(server).RepositoryIndex(request, timeout=PATIENCE).models
    return [(each.name, each.state) for each in models]


def test_models_of_invented_names(target: Target) -> None:
    """Names that never served leave no trace."""
    server = target(*CONTROL, "--allow-model-upload")
    whole = files.softmax().SerializeToString()
    before = index(server)
    with attacked(server) as good:
        for number in range(scaled(400)):
            content = (b"fish", whole, whole[: number % len(whole)])[number % 3]
            config = {"output": [{"name": "not there"}]}
            assert refused(server, f"invented-{number}", config, content)
        good.goes_on()
        assert index(server) == before
        assert server.get("/readyz")[0] == 200
        assert "invented" not in server.get("/metrics")[1]


def test_configurations_that_ask_for_too_much(target: Target) -> None:
    """Such configurations are refused with the limit, and no thread is started."""
    server = target(*CONTROL)
    [(name, _)] = index(server)
    with attacked(server) as good:
        for _ in range(scaled(5)):
            for config in TOO_MUCH:
                assert "expected at most" in refused(server, name, config)
        good.goes_on()
        threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
        assert threads < 100


def test_weights_that_are_overwritten_and_cut_off(target: Target, tmp_path: Path) -> None:
    """The weights that were checked at the start are served, whatever happens to the file."""
    weights = files.save_beside(files.wide(256), tmp_path / "more", "wide")
    server = target(tmp_path / "more")
    row = Tensor.of("x", [[0.1] * 256])
    expected = infer(server, "wide", row)
    with attacked(server) as good:
        for number in range(scaled(20)):
            weights.write_bytes(os.urandom(256 * 256 * 4 - number))
            assert infer(server, "wide", row) == expected
        os.truncate(weights, 0)
        assert infer(server, "wide", row) == expected
        good.goes_on()
