"""Configurations in Triton's format, checked against a graph."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sigmax_server import model_config
from sigmax_server._native import read_config
from sigmax_server.describe import describe
from sigmax_server.device import Choice, Group
from sigmax_server.graph import ContradictionError
from sigmax_server.model_spec import Batching, ModelSpec, Placement, QueuePolicy
from sigmax_server.repository import Found
from tritonclient.grpc import model_config_pb2  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sigmax_server._native import DType


@dataclass
class Tensor:
    name: str
    dtype: "DType"
    dims: Sequence[int]
    any_rank: bool = False
    optional: bool = False


@dataclass
class Graph:
    inputs: list[Tensor]
    outputs: list[Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


CPU = Choice(((Placement("cpu"),),), "")


def graph(*dims: int) -> Graph:
    return Graph(
        [Tensor("x", "FP32", dims or (-1, 4)), Tensor("bias", "FP32", (4,), optional=True)],
        [Tensor("y", "FP32", dims or (-1, 4))],
    )


def described(
    text: str,
    opened: Graph | None = None,
    choice: Choice = CPU,
    **labels: tuple[str, ...],
) -> ModelSpec:
    config = model_config.parse(read_config(text), "m")
    found = Found("m", 2, Path("m"), Path("net.onnx"), config=config, labels=labels)
    return describe(opened or graph(), found, 1024, choice)


def completed(text: str, opened: Graph | None = None) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(described(text, opened).config)
    return config


def test_an_absent_configuration_is_completed_from_the_graph() -> None:
    assert completed("") == {
        "name": "m",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 1024,
        "version_policy": {"latest": {"num_versions": 1}},
        "dynamic_batching": {},
        "default_model_filename": "net.onnx",
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
    }


def test_what_is_stated_stays() -> None:
    config = completed(
        """
        max_batch_size: 8
        input { name: "x" format: FORMAT_NCHW }
        output { name: "y" label_filename: "labels.txt" }
        version_policy { all { } }
        parameters { key: "a" value { string_value: "b" } }
        """
    )
    assert config["max_batch_size"] == 8
    assert config["input"][0]["format"] == "FORMAT_NCHW"
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert config["version_policy"] == {"all": {}}
    assert config["parameters"] == {"a": {"string_value": "b"}}


def test_dims_are_the_narrower_of_both() -> None:
    spec = described('max_batch_size: 8 input { name: "x" dims: [ 3, -1 ] }', graph(-1, -1, 5))
    assert spec.inputs[0].dims == (-1, 3, 5)


def test_without_a_max_batch_size_dims_are_whole_shapes() -> None:
    spec = described('input { name: "x" dims: [ -1, 4 ] }')
    assert (spec.max_batch_size, spec.inputs[0].dims) == (0, (-1, 4))
    assert "dynamic_batching" not in json.loads(spec.config)


def test_a_scalar_may_be_configured_by_axes_of_one() -> None:
    opened = Graph([Tensor("x", "FP32", ())], [Tensor("y", "FP32", ())])
    assert described("", opened).inputs[0].dims == ()
    assert described('input { name: "x" dims: [ 1, 1 ] }', opened).inputs[0].dims == (1, 1)


def test_an_optional_input_is_served_where_it_is_listed() -> None:
    assert [each.name for each in described("").inputs] == ["x"]
    text = """
        input [ { name: "x" dims: [ -1, 4 ] },
                { name: "bias" dims: [ 4 ] optional: true } ]
    """
    assert [(each.name, each.optional) for each in described(text).inputs] == [
        ("x", False),
        ("bias", True),
    ]


def test_labels_of_a_file_name_classes() -> None:
    labels = ("a", "b", "c", "d")
    assert described("", y=labels).outputs[0].labels == labels
    opened = graph()
    opened.metadata = {"sigmax.format": "1", "sigmax.task": "multiclass"}
    assert described("", opened, y=labels).heads[0].labels == labels
    opened.metadata["sigmax.labels"] = json.dumps(["d", "c", "b", "a"])
    with pytest.raises(ContradictionError, match="expected those of the label file"):
        described("", opened, y=labels)


def test_a_label_file_with_another_number_of_labels_is_named() -> None:
    opened = graph()
    opened.metadata = {"sigmax.format": "1", "sigmax.task": "multiclass"}
    text = 'output [ { name: "y" label_filename: "names.txt" } ]'
    with pytest.raises(ContradictionError, match=r"labels in names\.txt: expected 4, because"):
        described(text, opened, y=("a", "b", "c"))


def test_batching_is_plain_where_nothing_is_said() -> None:
    assert described("").batching == described("dynamic_batching {}").batching == Batching()


def test_batching_and_its_priorities() -> None:
    text = """
        max_batch_size: 8
        dynamic_batching {
            preferred_batch_size: [ 8, 4 ]
            max_queue_delay_microseconds: 100
            priority_levels: 2
            default_priority_level: 2
            default_queue_policy { default_timeout_microseconds: 1500 allow_timeout_override: true }
            priority_queue_policy {
                key: 1
                value { timeout_action: DELAY default_timeout_microseconds: 7 max_queue_size: 3 }
            }
        }
    """
    common = QueuePolicy(default_timeout=0.0015, allow_timeout_override=True)
    first = QueuePolicy(default_timeout=7e-6, late_is_delayed=True, max_requests=3)
    assert described(text).batching == Batching(
        max_delay=1e-4, preferred_sizes=(4, 8), priorities=(first, common), default_priority=1
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('name: "n"', "name: expected 'm', got 'n'"),
        ('platform: "tensorflow_savedmodel"', "expected 'onnxruntime_onnx', got 'tensorflow_"),
        ('backend: "python"', "expected 'onnxruntime', got 'python'"),
        ("max_batch_size: -1", "expected 0 or more, got -1"),
        ("sequence_batching { max_sequence_idle_microseconds: 1 }", "sequence_batching is not"),
        ('ensemble_scheduling { step { model_name: "n" } }', "ensemble_scheduling is not served"),
        ("model_transaction_policy { decoupled: true }", "decoupled is not served"),
        ('input { name: "x" reshape { shape: [ 2, 2 ] } }', "input 'x': reshape is not served"),
        ('input { name: "x" allow_ragged_batch: true }', "input 'x': allow_ragged_batch is not"),
        (
            "version_policy { specific { versions: [ 1, -1 ] } }",
            "version_policy: expected versions over 0, got [1, -1]",
        ),
        ('default_model_filename: "../secret"', "expected the name of a file, got '../secret'"),
        ('input { name: "z" }', "input 'z': the graph's inputs are x"),
        ('output { name: "z" }', "output 'z': the graph's outputs are y"),
        ('input [ { name: "x" }, { name: "x" } ]', "input 'x' is there twice"),
        (
            'input { name: "x" data_type: TYPE_INT64 }',
            "input 'x': TYPE_INT64, but the graph has 'x' FP32[-1, 4]",
        ),
        (
            'max_batch_size: 8 input { name: "x" dims: [ 5 ] }',
            "input 'x': expected dims [4] after the batch axis, got [5]; the graph has 'x' FP32",
        ),
        (
            'input { name: "x" dims: [ 4 ] }',
            "input 'x': expected dims [-1, 4] because max_batch_size is 0, got [4]",
        ),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 9 ] }",
            "expected sizes from 1 to max_batch_size, which is 8, got [4, 9]",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
            "default_priority_level: expected levels from 1 to priority_levels, which is 2, got",
        ),
        (
            "dynamic_batching { priority_queue_policy { key: 1 value { } } }",
            "priority_queue_policy: expected levels from 1 to priority_levels, which is 0, got [1]",
        ),
        (
            "instance_group { kind: KIND_MODEL }",
            "instance_group.kind: expected KIND_AUTO, KIND_CPU or KIND_GPU, got KIND_MODEL",
        ),
        (
            "instance_group { kind: KIND_CPU count: -1 }",
            "instance_group.count: expected 0 or more, got -1",
        ),
        (
            "instance_group { kind: KIND_CPU gpus: [ 0 ] }",
            "instance_group.gpus: expected them only where kind is KIND_GPU, got KIND_CPU",
        ),
        (
            "instance_group { kind: KIND_GPU gpus: [ 0, 0 ] }",
            "instance_group.gpus: expected different numbers of 0 and more, got [0, 0]",
        ),
        (
            "instance_group { kind: KIND_GPU gpus: -1 }",
            "instance_group.gpus: expected different numbers of 0 and more, got [-1]",
        ),
        ("instance_group { passive: true }", "instance_group.passive is not served"),
        (
            "instance_group { secondary_devices { device_id: 0 } }",
            "instance_group.secondary_devices is not served",
        ),
        ('input { name: "x" optional: true }', "optional, but the graph has no value of its own"),
    ],
)
def test_a_contradiction_names_both(text: str, problem: str) -> None:
    with pytest.raises(ContradictionError) as raised:
        described(text)
    assert problem in str(raised.value)


def test_a_batch_size_needs_a_batch_axis() -> None:
    with pytest.raises(ContradictionError, match=r"max_batch_size is 8: .* has 'x' FP32\[2, 4\]"):
        described("max_batch_size: 8", graph(2, 4))


def test_a_batch_size_gives_a_batch_axis_to_a_graph_of_one_row() -> None:
    spec = described("max_batch_size: 8", graph(1, 4))
    assert (spec.max_batch_size, spec.inputs[0].dims, spec.outputs[0].dims) == (8, (-1, 4), (-1, 4))
    assert described("", graph(1, 4)).max_batch_size == 0


def test_fields_without_effect_are_listed() -> None:
    text = """
        optimization { priority: PRIORITY_MAX }
        instance_group { kind: KIND_GPU profile: "8" host_policy: "numa" }
        dynamic_batching { preferred_batch_size: 4 preserve_ordering: true }
    """
    assert model_config.unused(json.loads(read_config(text))) == [
        "optimization",
        "instance_group.profile",
        "instance_group.host_policy",
        "dynamic_batching.preserve_ordering",
    ]


def test_instance_groups_are_read() -> None:
    text = """
        instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_GPU gpus: [ 1, 0 ] }, { } ]
    """
    assert model_config.groups(model_config.parse(read_config(text), "m")) == (
        Group("KIND_CPU", 2),
        Group("KIND_GPU", 0, (1, 0)),
        Group("KIND_AUTO"),
    )
    assert model_config.groups({}) == ()


def test_a_model_runs_where_it_was_decided() -> None:
    choice = Choice(((Placement("cuda:1", 2),), (Placement("cpu"),)), "because")
    spec = described("", choice=choice)
    assert (spec.placements, spec.device_reason) == (choice.placements, "because")


def test_the_document_says_what_every_field_does() -> None:
    text = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    messages = [model_config_pb2.ModelConfig, model_config_pb2.ModelInput]
    fields = {field.name for message in messages for field in message.DESCRIPTOR.fields}
    assert [name for name in sorted(fields) if not re.search(rf"`([a-z_]+\.)?{name}\b", text)] == []
