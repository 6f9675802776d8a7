"""A model that cannot be served is named with the reason, and harms no other."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sigmax
from support import files
from support.server import Serve, Server
from support.wire import SERVICES, Tensor, ask, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = Tensor.of("x", np.zeros((1, 5)))
EVEN = np.full((1, 5), 0.2, np.float32)


@pytest.fixture
def repository_with_broken_models(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    good = files.save(files.softmax(), folder, "good")
    files.save_golden(good, np.zeros((1, 5), np.float32), EVEN)
    wrong = files.save(files.softmax(), folder, "wrong")
    files.save_golden(wrong, np.zeros((1, 5), np.float32), np.eye(1, 5, dtype=np.float32))
    files.save(files.unknown_operator(), folder, "operator")
    (folder / "garbage/1").mkdir(parents=True)
    (folder / "garbage/1/model.onnx").write_bytes(b"no model at all" * 100)
    mislabelled = files.softmax()
    for entry in mislabelled.metadata_props:
        if entry.key == "sigmax.labels":
            entry.value = '["a", "b"]'
    files.save(mislabelled, folder, "mislabelled")
    return folder


BROKEN = {
    "wrong": "golden sample",
    "operator": "Frobnicate",
    "garbage": "garbage/1/model.onnx",
    "mislabelled": "expected 5, because sigmax.task is multiclass",
}


def inference_ready(server: Server) -> bool:
    reply = triton(server).ServerReady(service_pb2.ServerReadyRequest(), timeout=60)
    return bool(reply.ready)


def model_ready(server: Server, name: str) -> bool:
    reply = triton(server).ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=60)
    return bool(reply.ready)


def test_each_is_named_with_its_reason_and_the_others_are_served(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    listed = {model.name: model.versions[0] for model in server.client.models()}
    assert listed.keys() == {"good", *BROKEN}
    assert (listed["good"].state, listed["good"].reason) == ("ready", "")
    for name, reason in BROKEN.items():
        assert listed[name].state == "unavailable"
        assert reason in listed[name].reason
        assert listed[name].reason in server.line(name)
        for service in SERVICES:
            found = refusal(partial(ask, service, server, name, ROW))
            assert (found.code, found.reason) == ("UNAVAILABLE", "MODEL_NOT_READY")
            assert listed[name].reason in found.message
    assert server.client.classify("good", [0.0] * 5).label == "a"


def test_a_wrong_golden_sample_is_named_with_both_values(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    assert "output 'p', row 0: expected 1, got 0.2" in server.line("wrong")


def test_strict_readiness_needs_every_model(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    assert server.printed.splitlines()[-1].startswith("not ready: ")
    assert server.get("/readyz") == (503, "not ready\n")
    assert server.get("/healthz")[0] == 200
    assert not inference_ready(server)
    assert model_ready(server, "good")
    assert not model_ready(server, "wrong")
    server.client.wait_until_ready(model="good")
    with pytest.raises(sigmax.DeadlineExceeded, match="last seen: NOT_SERVING"):
        server.client.wait_until_ready(timeout=0.2)
    assert server.stop() == 0


def test_without_strict_readiness_one_model_is_enough(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models, "--strict-readiness=false")
    assert server.printed.splitlines()[-1].startswith("ready: ")
    assert server.get("/readyz") == (200, "ready\n")
    assert inference_ready(server)
    assert not model_ready(server, "wrong")
    server.client.wait_until_ready()


def test_exit_on_error_makes_it_fatal(serve: Serve, repository_with_broken_models: Path) -> None:
    with pytest.raises(AssertionError, match="it never started") as raised:
        serve(repository_with_broken_models, "--exit-on-error")
    for name in BROKEN:
        assert f"error: {name} cannot be served: " in str(raised.value)
