"""Folders and files that are given with the name of the one model in them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer, infer_request, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ZEROS = Tensor.of("x", np.zeros((1, 5)))


def top(server: Server, model: str) -> bytes:
    """Return the class of the highest of five values."""
    request = infer_request(model, Tensor.of("x", [[0, 0, 9, 0, 0]]))
    request.outputs.add(name="p").parameters["classification"].int64_param = 1
    answer: bytes = triton(server).ModelInfer(request, timeout=60).raw_output_contents[0]
    return answer.rpartition(b":")[2]


def flat(folder: Path) -> Path:
    folder.mkdir(parents=True)
    onnx.save(files.softmax(), folder / "model.onnx")
    return folder / "model.onnx"


def versioned(folder: Path) -> Path:
    return files.save(files.softmax(), folder.parent, folder.name)


each_layout = pytest.mark.parametrize("build", [flat, versioned], ids=["flat", "versioned"])


@each_layout
def test_a_mounted_model_is_served_with_all_that_lies_beside_it(
    build: Callable[[Path], Path], serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "mnt/models"
    file = build(folder)
    (folder / "config.pbtxt").write_bytes(
        b'\xef\xbb\xbfmax_batch_size: 4\r\noutput { name: "p" label_filename: "labels.txt" }\r\n'
    )
    (folder / "labels.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\nc\r\nd\r\ne\r\n\r\n")
    files.save_golden(file, np.zeros((1, 5), np.float32), np.full((1, 5), 0.2, np.float32))
    server = serve(folder, environment={"SIGMAX_MODEL_NAME": "animal"})
    assert top(server, "animal") == b"c"
    request = service_pb2.ModelConfigRequest(name="animal")
    assert triton(server).ModelConfig(request, timeout=60).config.max_batch_size == 4
    assert server.client.model("animal").versions[0].version == "1"
    wrong = onnx.numpy_helper.from_array(np.eye(5, dtype=np.float32)[:1], "p")
    (file.parent / "test_data_set_0/output_0.pb").write_bytes(wrong.SerializeToString())
    assert "golden sample 0" in serve("--model-name=animal", folder).line("animal")


@each_layout
def test_a_mounted_model_is_loaded_and_unloaded(
    build: Callable[[Path], Path], serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    file = build(folder)
    server = serve(f"animal={folder}", "--model-control=explicit")
    stub = triton(server)
    load = service_pb2.RepositoryModelLoadRequest(model_name="animal")
    stub.RepositoryModelLoad(load, timeout=60)
    assert infer(server, "animal", ZEROS)[0].shape == (1, 5)
    onnx.save(files.sigmoid(), file)
    stub.RepositoryModelLoad(load, timeout=60)
    assert infer(server, "animal", Tensor.of("x", [[0]]))[0].shape == (1, 1)
    load.parameters["config"].string_param = json.dumps({"max_batch_size": 2})
    stub.RepositoryModelLoad(load, timeout=60)
    config = stub.ModelConfig(service_pb2.ModelConfigRequest(name="animal"), timeout=60).config
    assert (config.name, config.max_batch_size) == ("animal", 2)
    unload = service_pb2.RepositoryModelUnloadRequest(model_name="animal")
    stub.RepositoryModelUnload(unload, timeout=60)
    [listed] = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=60).models
    assert (listed.name, listed.state, listed.reason) == ("animal", "UNAVAILABLE", "unloaded")


def test_named_models_are_served_beside_others(serve: Serve, tmp_path: Path) -> None:
    files.save(files.softmax(), tmp_path / "repository", "a")
    onnx.save(files.softmax(), tmp_path / "model.onnx")
    flat(tmp_path / "folder")
    server = serve(tmp_path / "repository", f"b={tmp_path}/model.onnx", f"c={tmp_path}/folder")
    assert [model.name for model in server.client.models()] == ["a", "b", "c"]
    assert {infer(server, name, ZEROS)[0].raw for name in "abc"} == {
        np.full(5, 0.2, np.float32).tobytes()
    }


def test_a_mounted_model_without_a_name_is_refused_with_the_cures(tmp_path: Path) -> None:
    versioned(tmp_path / "models")
    sigmax = Path(sys.executable).with_name("sigmax")
    command: list[str | Path] = [sigmax, "serve", tmp_path / "models"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"sigmax serve: error: {tmp_path}/models: expected a repository, with models as "
        f"NAME/VERSION/model.onnx, got a single model; serve {tmp_path} instead, or name the "
        f"model by --model-name, or as NAME={tmp_path}/models\n"
    )
