"""Models that clients list, load and unload."""

import json
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Refusal, Tensor, infer, infer_request, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = Tensor.of("x", np.zeros((1, 1)))


def index(server: Server, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    request = service_pb2.RepositoryIndexRequest(ready=ready)
    models = triton(server).RepositoryIndex(request, timeout=60).models
    return sorted((each.name, each.version, each.state, each.reason) for each in models)


def load(server: Server, name: str, **parameters: str | bytes) -> None:
    request = service_pb2.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        if isinstance(value, str):
            request.parameters[key].string_param = value
        else:
            request.parameters[key].bytes_param = value
    triton(server).RepositoryModelLoad(request, timeout=60)


def unload(server: Server, name: str) -> None:
    request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
    request.parameters["unload_dependents"].bool_param = False
    triton(server).RepositoryModelUnload(request, timeout=60)


def is_ready(server: Server, name: str) -> bool:
    request = service_pb2.ModelReadyRequest(name=name)
    return bool(triton(server).ModelReady(request, timeout=60).ready)


def message(call: Callable[[], object]) -> tuple[str, str]:
    found: Refusal = refusal(call)
    return found.code, found.message


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for name in ("a", "b"):
        files.save(files.sigmoid(), folder, name)
    return folder


@pytest.fixture
def control(repository: Path, serve: Serve) -> Server:
    return serve(repository, "--model-control=explicit", "--load-model=a", "--shards=2")


def test_only_what_was_asked_for_is_loaded_at_the_start(control: Server) -> None:
    assert index(control) == [("a", "1", "READY", ""), ("b", "", "", "")]
    assert index(control, ready=True) == [("a", "1", "READY", "")]
    assert "ready:" in control.printed


def test_the_extension_is_told_where_it_works(control: Server, server: Server) -> None:
    with_it, without = (
        triton(each).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60).extensions
        for each in (control, server)
    )
    assert set(with_it) - set(without) == {
        "logging",
        "model_repository",
        "model_repository(unload_dependents)",
    }


def test_models_come_and_go(control: Server) -> None:
    load(control, "b")
    assert infer(control, "b", ROW)[0].array.tolist() == [[0.5]]
    assert is_ready(control, "b")
    unload(control, "b")
    assert not is_ready(control, "b")
    assert ("b", "1", "UNAVAILABLE", "unloaded") in index(control)
    assert message(lambda: infer(control, "b", ROW)) == (
        "NOT_FOUND",
        "Request for unknown model: 'b' has no available versions",
    )
    assert message(lambda: infer(control, "b", ROW, model_version="1")) == (
        "UNAVAILABLE",
        "Request for unknown model: 'b' version 1 is not at ready state: it has been unloaded",
    )
    # The server stays ready: nothing that should serve is missing.
    assert control.get("/readyz")[0] == 200
    unload(control, "b")
    unload(control, "fish")
    load(control, "b")
    assert infer(control, "b", ROW)[0].array.tolist() == [[0.5]]


def test_loading_again_reads_the_repository_again(control: Server, repository: Path) -> None:
    infer(control, "a", ROW)
    shutil.rmtree(repository / "a")
    files.save(files.softmax(), repository, "a", version=2)
    assert infer(control, "a", ROW)[0].array.tolist() == [[0.5]]
    load(control, "a")
    assert index(control)[:2] == [("a", "1", "UNAVAILABLE", "unloaded"), ("a", "2", "READY", "")]
    assert infer(control, "a", Tensor.of("x", np.zeros((1, 5))))[0].shape == (1, 5)
    files.save(files.linear(), repository, "new")
    load(control, "new")
    assert is_ready(control, "new")


def test_statistics_begin_anew(control: Server) -> None:
    request = service_pb2.ModelStatisticsRequest(name="a")
    infer(control, "a", ROW)
    [before] = triton(control).ModelStatistics(request, timeout=60).model_stats
    load(control, "a")
    [after] = triton(control).ModelStatistics(request, timeout=60).model_stats
    assert (before.inference_count, after.inference_count) == (1, 0)


def test_a_load_that_fails_leaves_what_served(control: Server, repository: Path) -> None:
    (repository / "a/1/model.onnx").write_bytes(b"fish")
    code, text = message(lambda: load(control, "a"))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("load failed for model 'a': version 1: ")
    assert infer(control, "a", ROW)[0].array.tolist() == [[0.5]]


def test_what_failed_is_listed_with_its_reason_until_it_is_unloaded(
    control: Server, repository: Path
) -> None:
    (repository / "b/1/model.onnx").write_bytes(b"fish")
    assert message(lambda: load(control, "b"))[0] == "INVALID_ARGUMENT"
    [_, (name, version, state, reason)] = index(control)
    assert (name, version, state) == ("b", "1", "UNAVAILABLE")
    assert "model.onnx" in reason
    code, text = message(lambda: infer(control, "b", ROW))
    assert code == "UNAVAILABLE"
    assert "'b' version 1 is not at ready state" in text
    assert control.get("/readyz")[0] == 503
    unload(control, "b")
    assert index(control)[1] == ("b", "1", "UNAVAILABLE", "unloaded")
    assert control.get("/readyz")[0] == 200


def test_fields_without_effect_are_listed_at_every_load(control: Server) -> None:
    load(control, "b", config='{"metric_tags": {"a": "b"}}')
    said = "without effect: metric_tags"
    assert control.until_logged(said).count(said) == 1


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("config", b"{}", "invalid value type for 'config'"),
        ("file:1/model.onnx", "fish", "invalid value type for 'file:1/model.onnx'"),
        ("fish", "x", "unrecognized load parameter 'fish'"),
    ],
)
def test_parameters_of_orders_are_checked(
    control: Server, key: str, value: str | bytes, text: str
) -> None:
    code, told = message(partial(load, control, "b", **{key: value}))
    assert (code, told.startswith(text)) == ("INVALID_ARGUMENT", True)
    request = service_pb2.RepositoryModelUnloadRequest(model_name="a")
    request.parameters["unload_dependents"].string_param = "x"
    call = partial(triton(control).RepositoryModelUnload, request, timeout=60)
    assert message(call)[0] == "INVALID_ARGUMENT"
    assert is_ready(control, "a")


def test_what_is_not_in_the_repository(control: Server) -> None:
    assert message(lambda: load(control, "fish")) == (
        "INTERNAL",
        "failed to load 'fish', failed to poll from model repository: there is no such model",
    )


def test_a_configuration_comes_with_the_request(control: Server) -> None:
    # Protobuf's JSON: numbers as texts, and names in either case.
    load(control, "a", config=json.dumps({"maxBatchSize": "2"}))
    request = service_pb2.ModelConfigRequest(name="a")
    assert triton(control).ModelConfig(request, timeout=60).config.max_batch_size == 2
    three = Tensor.of("x", np.zeros((3, 1)))
    assert "batch-size must be <= 2" in message(lambda: infer(control, "a", three))[1]
    for bad in ("fish", '{"max_batch": 2}', '{"backend": "python"}'):
        code, text = message(partial(load, control, "a", config=bad))
        assert code == "INTERNAL"
        assert text.startswith("failed to load 'a', failed to poll from model repository: ")
    contradiction = json.dumps({"input": [{"name": "z"}]})
    code, text = message(lambda: load(control, "a", config=contradiction))
    assert (code, "the graph's inputs are x" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "Model name cannot be empty. Please enter a valid name to deploy."),
        (" ", "Model name cannot be empty. Please enter a valid name to deploy."),
        ("..", "model name must not contain path traversal characters"),
        ("a/b", "model name must not contain path traversal characters"),
    ],
)
def test_names_are_checked(control: Server, name: str, text: str) -> None:
    for order in (load, unload):
        assert message(partial(order, control, name)) == ("INVALID_ARGUMENT", text)


def test_other_repositories_are_not_served(control: Server) -> None:
    stub = triton(control)
    for call, request in (
        (stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(repository_name="x")),
        (stub.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(repository_name="x")),
        (stub.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(repository_name="x")),
    ):
        found = refusal(partial(call, request, timeout=60))
        assert found.code == "UNIMPLEMENTED"


def test_without_control_there_is_an_index_and_nothing_else(server: Server) -> None:
    assert ("softmax", "1", "READY", "") in index(server)
    for order in (load, unload):
        assert message(partial(order, server, "softmax")) == (
            "UNAVAILABLE",
            "explicit model load / unload is not allowed if polling is enabled",
        )


def test_files_are_refused_unless_they_are_allowed(control: Server) -> None:
    content = files.sigmoid().SerializeToString()
    parameters: dict[str, str | bytes] = {"config": "{}", "file:1/model.onnx": content}
    found = message(partial(load, control, "n", **parameters))
    assert found[0] == "UNIMPLEMENTED"
    assert "--allow-model-upload" in found[1]


@pytest.fixture
def open_to_all(tmp_path: Path, serve: Serve) -> Server:
    empty = tmp_path / "empty"
    empty.mkdir()
    return serve(
        empty, "--model-control=explicit", "--allow-model-upload", "--max-message-bytes=100000"
    )


def test_a_model_comes_with_the_request(open_to_all: Server, tmp_path: Path) -> None:
    assert index(open_to_all) == []
    before = sorted(tmp_path.rglob("*"))
    config = {"max_batch_size": 4, "output": [{"name": "p", "label_filename": "labels.txt"}]}
    parameters: dict[str, str | bytes] = {
        "config": json.dumps(config),
        "file:3/model.onnx": files.softmax().SerializeToString(),
        "file:labels.txt": b"a\nb\nc\nd\ne\n",
    }
    load(open_to_all, "sent", **parameters)
    request = infer_request("sent", Tensor.of("x", [[0, 0, 9, 0, 0]]))
    request.outputs.add(name="p").parameters["classification"].int64_param = 1
    reply = triton(open_to_all).ModelInfer(request, timeout=60)
    assert reply.model_version == "3"
    assert reply.raw_output_contents[0].endswith(b":2:c")
    # It is kept in memory.
    assert sorted(tmp_path.rglob("*")) == before
    unload(open_to_all, "sent")
    assert not is_ready(open_to_all, "sent")


def test_what_comes_with_a_request_is_not_too_large(open_to_all: Server) -> None:
    parameters: dict[str, str | bytes] = {"config": "{}", "file:1/model.onnx": bytes(100_000)}
    code, text = message(partial(load, open_to_all, "n", **parameters))
    assert code == "RESOURCE_EXHAUSTED"
    assert "100000" in text
    assert index(open_to_all) == []


def test_what_comes_with_a_request_is_whole(open_to_all: Server, tmp_path: Path) -> None:
    content = files.linear().SerializeToString()
    outside = onnx.load_from_string(content)
    onnx.external_data_helper.convert_model_to_external_data(outside, size_threshold=0)
    path = tmp_path / "linear.onnx"
    onnx.save(outside, path)
    cases: list[tuple[dict[str, str | bytes], str]] = [
        ({"file:1/model.onnx": content}, "expected the parameter 'config'"),
        ({"config": "{}", "file:1/model.onnx": b"fish"}, "load failed for model 'n'"),
        ({"config": "{}", "file:model.onnx": content}, "expected a file such as 1/model.onnx"),
        ({"config": "{}", "file:1/net.onnx": content}, "there is no file 1/model.onnx"),
        ({"config": "{}", "file:1/model.onnx": path.read_bytes()}, "got external data"),
        (
            {"config": '{"model_operations": {"op_library_filename": ["x.so"]}}', "file:1/m": b""},
            "model_operations is not served",
        ),
    ]
    for parameters, text in cases:
        found = message(partial(load, open_to_all, "n", **parameters))
        assert text in found[1]
    assert not is_ready(open_to_all, "n")


def test_a_name_that_never_served_leaves_no_trace(serve: Serve, repository: Path) -> None:
    (repository / "b/1/model.onnx").write_bytes(b"fish")
    server = serve(repository, "--model-control=explicit", "--allow-model-upload", "--load-model=a")
    before = index(server)
    assert server.get("/readyz")[0] == 200
    for number in range(200):
        name = f"invented-{number}"
        content = files.softmax().SerializeToString() if number % 2 else b"fish"
        config = '{"max_batch_size": 4, "output": [{"name": "q"}]}'
        parameters: dict[str, str | bytes] = {"config": config, "file:1/model.onnx": content}
        code, text = message(partial(load, server, name, **parameters))
        assert code == "INVALID_ARGUMENT"
        assert text.startswith(f"load failed for model '{name}': version 1: ")
        assert message(partial(load, server, f"{name}-too"))[0] == "INTERNAL"
    assert index(server) == before
    assert [model.name for model in server.client.models()] == ["a"]
    assert server.get("/readyz")[0] == 200
    assert "invented" not in server.get("/metrics")[1]
    # Files that fail take nothing from what serves, nor from what a repository has and failed.
    bad: dict[str, str | bytes] = {"config": "{}", "file:1/model.onnx": b"fish"}
    assert message(partial(load, server, "a", **bad))[0] == "INVALID_ARGUMENT"
    assert message(partial(load, server, "b"))[0] == "INVALID_ARGUMENT"
    assert message(partial(load, server, "b", **bad))[0] == "INVALID_ARGUMENT"
    assert [each[:3] for each in index(server)] == [("a", "1", "READY"), ("b", "1", "UNAVAILABLE")]
    assert infer(server, "a", ROW)[0].array.tolist() == [[0.5]]


@pytest.mark.parametrize("name", ["for\nged", "\x1b[2J", "n" * 256])
def test_a_name_is_short_and_printable(control: Server, name: str) -> None:
    before = index(control)
    code, text = message(partial(load, control, name))
    assert code == "INTERNAL"
    assert "expected at most 255 printable characters" in text
    assert index(control) == before


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"version_policy": {"specific": {"versions": [7]}}}, "there is no file"),
        ({"default_model_filename": "missing.onnx"}, "there is no file"),
        (
            {"instance_group": [{"count": 1_000_000}]},
            "instance_group.count: expected at most 256 engines of a model, got 1000000",
        ),
        (
            {"instance_group": [{"count": 2}] * 200},
            "instance_group.count: expected at most 256 engines of a model, got 400",
        ),
        (
            {"dynamic_batching": {"priority_levels": 2**32 - 1}},
            "dynamic_batching.priority_levels: expected at most 256, got 4294967295",
        ),
        (
            {"dynamic_batching": {"preferred_batch_size": [1] * 2000}},
            "dynamic_batching.preferred_batch_size: expected at most 1024 entries, got 2000",
        ),
        (
            {"version_policy": {"specific": {"versions": list(range(1, 2000))}}},
            "version_policy.specific.versions: expected at most 1024 entries, got 1999",
        ),
        ({"input": [{"name": "x"}] * 2000}, "input: expected at most 1024 entries, got 2000"),
        ({"parameters": {"a": {"string_value": "a" * 2**20}}}, "at most 1048576 characters"),
    ],
)
def test_a_configuration_that_asks_for_too_much_is_refused_with_the_figure(
    control: Server, repository: Path, config: dict[str, Any], text: str
) -> None:
    threads = Path(f"/proc/{control.process.pid}/task")
    before = len(list(threads.iterdir()))
    assert text in message(partial(load, control, "a", config=json.dumps(config)))[1]
    assert infer(control, "a", ROW)[0].array.tolist() == [[0.5]]
    assert len(list(threads.iterdir())) <= before + 1
    ready = [each[:2] for each in index(control) if each[2] == "READY"]
    assert ready == [("a", "1")]


@pytest.mark.parametrize(
    "config",
    [{"version_policy": {"specific": {"versions": [7]}}}, {"default_model_filename": "b.onnx"}],
)
def test_a_model_of_one_file_is_no_other(
    serve: Serve, tmp_path: Path, config: dict[str, Any]
) -> None:
    onnx.save(files.sigmoid(), tmp_path / "a.onnx")
    server = serve(tmp_path / "a.onnx", "--model-control=explicit", "--load-model=a")
    assert "there is no file" in message(partial(load, server, "a", config=json.dumps(config)))[1]
    load(server, "a", config='{"default_model_filename": "a.onnx"}')
    assert index(server)[0][:3] == ("a", "1", "READY")


def test_no_answer_is_lost_while_models_come_and_go(control: Server) -> None:
    """Every request is answered rightly or is told that there is no version."""
    over = threading.Event()

    def churn() -> None:
        for _ in range(10):
            unload(control, "a")
            load(control, "a")
            load(control, "a")
        over.set()

    thread = threading.Thread(target=churn)
    thread.start()
    answered: list[Any] = []
    value = 0
    while not (over.is_set() and answered):
        value += 1
        x = np.full((1, 1), value % 7, np.float32)
        try_it = triton(control).ModelInfer.future(
            infer_request("a", Tensor.of("x", x)), timeout=60
        )
        if error := try_it.exception():
            assert error.code().name in ("NOT_FOUND", "UNAVAILABLE")
        else:
            raw = np.frombuffer(try_it.result().raw_output_contents[0], np.float32)
            np.testing.assert_allclose(raw, 1 / (1 + np.exp(-x[0])), rtol=1e-5)
            answered.append(raw)
    thread.join()
    assert answered
