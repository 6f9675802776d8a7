"""config.pbtxt and ModelConfig: reading, completing and checking configurations."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer, infer_request, outputs, refusal, triton
from tritonclient.grpc import (  # type: ignore[import-untyped]
    model_config_pb2,
    service_pb2,
)

INT32 = model_config_pb2.DataType.Value("TYPE_INT32")
KIND_CPU = model_config_pb2.ModelInstanceGroup.KIND_CPU


def config(server: Server, model: str, version: str = "") -> Any:
    request = service_pb2.ModelConfigRequest(name=model, version=version)
    return triton(server).ModelConfig(request, timeout=60).config


def metadata(server: Server, model: str, version: str = "") -> Any:
    request = service_pb2.ModelMetadataRequest(name=model, version=version)
    return triton(server).ModelMetadata(request, timeout=60)


def test_the_configuration_agrees_with_the_metadata(server: Server) -> None:
    found = config(server, "simple")
    assert (found.name, found.platform, found.max_batch_size) == (
        "simple",
        "onnxruntime_onnx",
        1024,
    )
    assert found.backend == "onnxruntime"
    assert {each.data_type for each in (*found.input, *found.output)} == {INT32}
    assert found.version_policy.latest.num_versions == 1
    # A light model has an engine in each of the shards.
    assert [(group.kind, group.count) for group in found.instance_group] == [(KIND_CPU, 2)]
    described = metadata(server, "simple")
    assert described.platform == found.platform
    for tensors, stated in ((described.inputs, found.input), (described.outputs, found.output)):
        assert [each.name for each in tensors] == [each.name for each in stated]
        assert [list(each.shape) for each in tensors] == [[-1, *each.dims] for each in stated]
    assert found.HasField("dynamic_batching")
    assert not found.model_transaction_policy.decoupled


def test_a_model_without_a_batch_axis_has_whole_shapes(server: Server) -> None:
    found = config(server, "any-length")
    assert (found.max_batch_size, list(found.input[0].dims)) == (0, [2, -1])
    assert list(metadata(server, "any-length").inputs[0].shape) == [2, -1]


def test_an_unknown_model_has_no_configuration(server: Server) -> None:
    found = refusal(lambda: config(server, "fish"))
    assert (found.code, found.message) == (
        "NOT_FOUND",
        "Request for unknown model: 'fish' is not found",
    )


def test_what_the_file_says_is_served(tmp_path: Path, serve: Serve) -> None:
    files.configured(
        tmp_path,
        "simple",
        files.simple(),
        """
        max_batch_size: 4
        input [ { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] } ]
        output [ { name: "OUTPUT0" label_filename: "labels.txt" } ]
        instance_group { count: 2 host_policy: "numa" }
        """,
    )
    (tmp_path / "simple/labels.txt").write_text("".join(f"class {n}\n" for n in range(16)))
    server = serve(tmp_path)
    found = config(server, "simple")
    assert (found.max_batch_size, found.output[0].label_filename) == (4, "labels.txt")
    assert [(group.kind, group.count) for group in found.instance_group] == [(KIND_CPU, 2)]
    server.until_logged("config.pbtxt: without effect: instance_group.host_policy")
    five = [Tensor.of(name, np.zeros((5, 16)), np.int32) for name in ("INPUT0", "INPUT1")]
    found = refusal(lambda: infer(server, "simple", *five))
    assert found.message.endswith("inference request batch-size must be <= 4 for 'simple'")
    row = np.arange(16).reshape(1, 16)
    request = infer_request(
        "simple", *(Tensor.of(name, row, np.int32) for name in ("INPUT0", "INPUT1"))
    )
    request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 1
    [answer] = outputs(triton(server).ModelInfer(request, timeout=60))
    assert answer.raw[4:] == b"30:15:class 15"


def test_several_versions_are_served_side_by_side(tmp_path: Path, serve: Serve) -> None:
    text = "version_policy { all { } } optimization { priority: PRIORITY_MAX }"
    files.configured(tmp_path, "m", files.sigmoid(), text)
    files.save(files.softmax(), tmp_path, "m", version=10)
    server = serve(tmp_path)
    # Said of the model, not of each version.
    said = "config.pbtxt: without effect: optimization"
    assert server.until_logged(said).count(said) == 1
    assert list(metadata(server, "m").versions) == ["1", "10"]
    assert list(metadata(server, "m", "1").versions) == ["1"]
    assert list(metadata(server, "m").inputs[0].shape) == [-1, 5]
    one, newest = (
        triton(server).ModelInfer(
            infer_request("m", Tensor.of("x", np.zeros((1, size))), model_version=version),
            timeout=60,
        )
        for version, size in (("1", 1), ("", 5))
    )
    assert (one.model_version, newest.model_version) == ("1", "10")


def test_a_configuration_that_contradicts_the_graph_is_a_load_error(
    tmp_path: Path, serve: Serve
) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), 'input { name: "x" data_type: TYPE_INT64 }')
    server = serve(tmp_path)
    assert "TYPE_INT64, but the graph has 'x' FP32[-1, 1]" in server.line("m")
    found = refusal(lambda: infer(server, "m", Tensor.of("x", [[0]])))
    assert found.code == "UNAVAILABLE"


def test_a_scalar_is_configured_and_answered_by_an_axis_of_one(
    tmp_path: Path, serve: Serve
) -> None:
    sizes = " ".join(
        f'{side} {{ name: "{name}" dims: [ 1 ] }}'
        for side, name in (("input", "x"), ("output", "y"))
    )
    files.configured(tmp_path, "scalar", files.scalar(), sizes)
    server = serve(tmp_path)
    [answer] = infer(server, "scalar", Tensor.of("x", [2.5]))
    assert (answer.shape, answer.array.tolist()) == ((1,), [5.0])


@pytest.fixture
def with_default(tmp_path: Path, serve: Serve) -> Server:
    text = """
        input [ { name: "x" dims: [ -1 ] }, { name: "bias" dims: [ 1 ] optional: true } ]
    """
    files.configured(tmp_path, "with-default", files.with_default(), text)
    return serve(tmp_path)


def test_an_optional_input_may_be_left_out(with_default: Server) -> None:
    x = Tensor.of("x", [1, 2])
    for _ in range(2):
        [without] = infer(with_default, "with-default", x)
        [given] = infer(with_default, "with-default", Tensor.of("bias", [10]), x)
        assert (without.array.tolist(), given.array.tolist()) == ([2, 3], [11, 12])
    assert [each.name for each in metadata(with_default, "with-default").inputs] == ["x", "bias"]
    assert [each.optional for each in config(with_default, "with-default").input] == [False, True]


def test_too_few_inputs_are_counted_from_the_required_ones(with_default: Server) -> None:
    found = refusal(lambda: infer(with_default, "with-default"))
    assert found.message == (
        "[request id: <id_unknown>] expected number of inputs between 1 and 2 but got 0 inputs for "
        "model 'with-default'. Got input(s) [], but missing required input(s) ['x']. Please "
        "provide all required input(s)."
    )
    found = refusal(lambda: infer(with_default, "with-default", Tensor.of("bias", [10])))
    assert "missing required input(s) ['x']" in found.message


@pytest.mark.slow
@pytest.mark.parametrize("override", ["true", "false"])
def test_a_request_waits_no_longer_than_its_queue_policy_allows(
    tmp_path: Path, serve: Serve, override: str
) -> None:
    policy = f"default_timeout_microseconds: 60000000 allow_timeout_override: {override}"
    text = f"dynamic_batching {{ default_queue_policy {{ {policy} }} }}"
    files.configured(tmp_path, "slow", files.slow(300), text)
    server = serve(tmp_path, "--shards=1")
    x = Tensor.of("x", np.zeros((1, 1)))
    others = []
    while not server.metric("sigmax_queued_rows", model="slow"):
        # Fills the worker and the queue behind it, so that what comes next has to wait.
        others.append(triton(server).ModelInfer.future(infer_request("slow", x), timeout=60))
    late = infer_request("slow", x)
    late.parameters["timeout"].int64_param = 1
    if override == "true":
        found = refusal(lambda: triton(server).ModelInfer(late, timeout=60))
        assert (found.code, found.message) == ("UNAVAILABLE", "Request timeout expired")
    else:
        assert triton(server).ModelInfer(late, timeout=60).model_name == "slow"
    assert {call.code() for call in others} == {grpc.StatusCode.OK}
