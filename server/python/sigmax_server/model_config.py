"""A model's configuration in Triton's format: reading, checking against the graph, completing.

A configuration is `inference.ModelConfig` as protobuf writes it in JSON: the fields that are set,
by their names in the proto. Fields that are not set are completed from the graph.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sigmax_server import text_file
from sigmax_server._native import NativeError, canonical_config, read_config
from sigmax_server.device import Group
from sigmax_server.graph import ContradictionError, Opened, Tensor, show
from sigmax_server.model_spec import Batching, QueuePolicy, TensorSpec
from sigmax_server.text import cut, shown, why

Config = Mapping[str, Any]

MOST_BYTES = 2**20  # most bytes of a configuration's text
MOST_ENGINES = 256  # most engines of one model, each with a thread of its own
MOST_PRIORITIES = 256  # most priority levels of one model
MOST_ENTRIES = 1024  # most entries of any other list

_PLATFORM, _BACKEND = "onnxruntime_onnx", "onnxruntime"
# Fields that would change an answer, or whether there is one.
_REFUSED = (
    "ensemble_scheduling",
    "sequence_batching",
    "batch_input",
    "batch_output",
    "model_operations",
    "model_repository_agents",
)
_REFUSED_OF_TENSORS = (
    "reshape",
    "is_shape_tensor",
    "allow_ragged_batch",
    "is_non_linear_format_io",
)
_REFUSED_OF_GROUPS = ("passive", "secondary_devices")
# Fields about what Sigmax decides by itself; they have no effect.
_UNUSED_OF_GROUPS = ("rate_limiter", "profile", "host_policy")
_UNUSED = (
    "runtime",
    "optimization",
    "cc_model_filenames",
    "metric_tags",
    "model_warmup",
    "response_cache",
    "model_metrics",
)


def read(file: Path, name: str) -> Config:
    """Read the `config.pbtxt` of a model with this name.

    Raises:
        ContradictionError: the file cannot be read, is no configuration, or asks for something that
            is not served. The message names the file, and the place or the field.
    """
    try:
        config: Config = json.loads(read_config(text_file.read(file, MOST_BYTES)))
        _check(config, name)
    except (NativeError, ContradictionError) as error:
        raise ContradictionError(f"{file}: {why(error)}") from None
    return config


def parse(text: str, name: str) -> Config:
    """Read the configuration in JSON that a request gives for a model with this name.

    Raises:
        ContradictionError: the text is too long, is no configuration, or asks for something that is
            not served.
    """
    if len(text) > MOST_BYTES:
        _refuse(f"expected at most {MOST_BYTES} characters, got {len(text)}")
    try:
        config: Config = json.loads(canonical_config(text))
    except NativeError as error:
        raise ContradictionError(f"model configuration: {why(error)}") from None
    _check(config, name)
    return config


def _check(config: Config, name: str) -> None:
    """Refuse a configuration that is not served, or would be served otherwise than it says."""
    _expect(config, "name", ("", name))
    _expect(config, "platform", ("", _PLATFORM))
    _expect(config, "backend", ("", _BACKEND))
    if config.get("max_batch_size", 0) < 0:
        _refuse(f"max_batch_size: expected 0 or more, got {config['max_batch_size']}")
    for field in _REFUSED:
        if config.get(field):
            _refuse(f"{field} is not served")
    if config.get("model_transaction_policy", {}).get("decoupled"):
        _refuse("model_transaction_policy.decoupled is not served")
    for side in ("input", "output"):
        for tensor in config.get(side, ()):
            for field in _REFUSED_OF_TENSORS:
                if field in tensor:
                    _refuse(f"{side} {shown(tensor.get('name'))}: {field} is not served")
    versions = config.get("version_policy", {}).get("specific", {}).get("versions", ())
    if any(version <= 0 for version in versions):
        _refuse(f"version_policy: expected versions over 0, got {shown(list(versions))}")
    groups = config.get("instance_group", ())
    for group in groups:
        _check_group(group)
    for field, entries in (
        ("input", config.get("input", ())),
        ("output", config.get("output", ())),
        ("instance_group", groups),
        ("version_policy.specific.versions", versions),
        (
            "dynamic_batching.preferred_batch_size",
            config.get("dynamic_batching", {}).get("preferred_batch_size", ()),
        ),
    ):
        if len(entries) > MOST_ENTRIES:
            _refuse(f"{field}: expected at most {MOST_ENTRIES} entries, got {len(entries)}")
    _check_engines(groups)
    _check_priorities(config)
    file = config.get("default_model_filename", "")
    if file != Path(file).name:
        _refuse(f"default_model_filename: expected the name of a file, got {shown(file)}")


def _check_engines(groups: Sequence[Config]) -> None:
    counts = [
        max(group.get("count", 0), 1) * max(len(group.get("gpus", ())), 1) for group in groups
    ]
    if sum(counts) > MOST_ENGINES:
        _refuse(
            f"instance_group.count: expected at most {MOST_ENGINES} engines of a model, "
            f"got {sum(counts)}"
        )


def _check_priorities(config: Config) -> None:
    levels = config.get("dynamic_batching", {}).get("priority_levels", 0)
    if levels > MOST_PRIORITIES:
        _refuse(
            f"dynamic_batching.priority_levels: expected at most {MOST_PRIORITIES}, got {levels}"
        )


def _check_group(group: Config) -> None:
    kind, gpus = _kind(group), group.get("gpus", [])
    if kind not in ("KIND_AUTO", "KIND_CPU", "KIND_GPU"):
        _refuse(f"instance_group.kind: expected KIND_AUTO, KIND_CPU or KIND_GPU, got {kind}")
    if group.get("count", 0) < 0:
        _refuse(f"instance_group.count: expected 0 or more, got {group['count']}")
    if gpus and kind != "KIND_GPU":
        _refuse(f"instance_group.gpus: expected them only where kind is KIND_GPU, got {kind}")
    if any(gpu < 0 for gpu in gpus) or len(set(gpus)) < len(gpus):
        _refuse(f"instance_group.gpus: expected different numbers of 0 and more, got {shown(gpus)}")
    for field in _REFUSED_OF_GROUPS:
        if group.get(field):
            _refuse(f"instance_group.{field} is not served")


def groups(config: Config) -> tuple[Group, ...]:
    """Return the instance groups of the model; empty where the configuration has none."""
    return tuple(
        Group(_kind(group), group.get("count", 0), tuple(group.get("gpus", ())))
        for group in config.get("instance_group", ())
    )


def _kind(group: Config) -> str:
    return str(group.get("kind", "KIND_AUTO"))


def unused(config: Config) -> list[str]:
    """List the fields that are set and have no effect."""
    # preserve_ordering has no effect, because answers to different requests have no order.
    parameters = [key for key in config.get("parameters", {}) if not key.startswith("sigmax.")]
    ordered = config.get("dynamic_batching", {}).get("preserve_ordering")
    of_groups = [
        f"instance_group.{field}"
        for field in _UNUSED_OF_GROUPS
        if any(group.get(field) for group in config.get("instance_group", ()))
    ]
    return [
        *(field for field in _UNUSED if config.get(field)),
        *(["parameters"] if parameters else []),
        *of_groups,
        *(["dynamic_batching.preserve_ordering"] if ordered else []),
    ]


def batch_size(config: Config, opened: Opened, default: int, *, classifies: bool) -> int:
    """Return the most rows of a request; 0 where the model has no batch axis.

    A graph has a batch axis where the first size of every input and output is variable, or where
    the graph does not say it. In a configuration without a max_batch_size, dims are whole shapes,
    and there is no batch axis. A configuration with a max_batch_size gives a batch axis to a graph
    whose first sizes are all 1: its rows are run one by one.

    A model that classifies may have outputs whose first size is said to be 1 beside others whose
    first size is variable: onnxmltools writes so of a label for each row. Loading finds out whether
    such an output has rows.

    Args:
        config: configuration of the model.
        opened: graph of the model.
        default: most rows where the graph has a batch axis and the configuration has neither
            max_batch_size nor dims.
        classifies: whether the model has a task.

    Raises:
        ContradictionError: the configuration has a max_batch_size, but the graph no batch axis.
    """
    stated: int = config.get("max_batch_size", 0)
    served = _served_inputs(config, opened)
    outputs = list(opened.outputs)
    if classifies and any(_is_batched(each) for each in outputs):
        outputs = [each for each in outputs if list(each.dims[:1]) != [1]]
    tensors = (*served, *outputs)
    fixed = [each for each in tensors if not _is_batched(each)]
    one_row = all(list(each.dims[:1]) == [1] for each in tensors)
    if stated and fixed and not one_row:
        _refuse(
            f"max_batch_size is {stated}: expected a first size that is variable in every input "
            f"and output, or 1 in every one; the graph has {show(fixed[0])}"
        )
    whole = any(
        tensor.get("dims") for side in ("input", "output") for tensor in config.get(side, ())
    )
    any_rank = any(each.any_rank for each in served)
    return stated or (0 if fixed or whole or any_rank else default)


def tensors(
    config: Config, opened: Opened, *, batched: bool
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs that are served, in the graph's order.

    Raises:
        ContradictionError: a tensor of the configuration is not the graph's.
    """
    return (
        _side("input", config, _served_inputs(config, opened), batched=batched),
        _side("output", config, opened.outputs, batched=batched),
    )


def complete(
    config: Config,
    name: str,
    file: str,
    max_batch_size: int,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> str:
    """Return the complete configuration, as JSON.

    The data plane adds the instance_group, because it chooses the devices.
    """
    batched = max_batch_size > 0
    stated = {
        side: {tensor.get("name"): tensor for tensor in config.get(side, ())}
        for side in ("input", "output")
    }

    def shown(side: str, tensor: TensorSpec) -> dict[str, Any]:
        own = {
            "name": tensor.name,
            "data_type": _data_type(tensor),
            "dims": list(tensor.dims[1:] if batched else tensor.dims),
        }
        return {**stated[side].get(tensor.name, {}), **own}

    return json.dumps(
        {
            "version_policy": {"latest": {"num_versions": 1}},
            **({"dynamic_batching": {}} if batched else {}),
            **config,
            "name": name,
            "platform": _PLATFORM,
            "backend": _BACKEND,
            "max_batch_size": max_batch_size,
            "default_model_filename": file,
            "input": [shown("input", tensor) for tensor in inputs],
            "output": [shown("output", tensor) for tensor in outputs],
        }
    )


def batching(config: Config, max_batch_size: int) -> Batching:
    """Return the rules by which requests form batches, from `dynamic_batching`.

    Raises:
        ContradictionError: a preferred size is not in 1 to max_batch_size, or a priority is not in
            1 to priority_levels.
    """
    stated = config.get("dynamic_batching", {})
    sizes = sorted(stated.get("preferred_batch_size", ()))
    if sizes and not 0 < sizes[0] <= sizes[-1] <= max_batch_size:
        _refuse(
            f"dynamic_batching.preferred_batch_size: expected sizes from 1 to max_batch_size, "
            f"which is {max_batch_size}, got {shown(sizes)}"
        )
    levels = stated.get("priority_levels", 0)
    default = stated.get("default_priority_level", 0)
    own = {int(level): policy for level, policy in stated.get("priority_queue_policy", {}).items()}
    for field, given in (
        ("default_priority_level", [default] if levels or default else []),
        ("priority_queue_policy", list(own)),
    ):
        if any(not 0 < level <= levels for level in given):
            _refuse(
                f"dynamic_batching.{field}: expected levels from 1 to priority_levels, which is "
                f"{levels}, got {shown(given)}"
            )
    common = stated.get("default_queue_policy", {})
    return Batching(
        max_delay=stated.get("max_queue_delay_microseconds", 0) / 1e6,
        preferred_sizes=tuple(sizes),
        priorities=tuple(
            _queue_policy(own.get(level, common)) for level in range(1, max(levels, 1) + 1)
        ),
        default_priority=max(default, 1) - 1,
    )


def _queue_policy(policy: Config) -> QueuePolicy:
    microseconds = policy.get("default_timeout_microseconds", 0)
    return QueuePolicy(
        default_timeout=microseconds / 1e6 if microseconds else None,
        allow_timeout_override=policy.get("allow_timeout_override", False),
        late_is_delayed=policy.get("timeout_action") == "DELAY",
        max_requests=policy.get("max_queue_size") or None,
    )


def _side(
    side: str, config: Config, graph: Sequence[Tensor], *, batched: bool
) -> tuple[TensorSpec, ...]:
    known = {tensor.name: tensor for tensor in graph}
    stated: dict[str, Config] = {}
    for each in config.get(side, ()):
        name = each.get("name", "")
        if name in stated:
            _refuse(f"{side} {shown(name)} is there twice")
        if name not in known:
            _refuse(f"{side} {shown(name)}: the graph's {side}s are {cut(', '.join(known), 160)}")
        stated[name] = each
    return tuple(_tensor(side, each, stated.get(each.name, {}), batched=batched) for each in graph)


def _tensor(side: str, graph: Tensor, stated: Config, *, batched: bool) -> TensorSpec:
    place = f"{side} {shown(graph.name)}"
    if stated.get("data_type", _data_type(graph)) != _data_type(graph):
        _refuse(f"{place}: {stated['data_type']}, but the graph has {show(graph)}")
    optional = bool(stated.get("optional"))
    if optional and not graph.optional:
        _refuse(f"{place}: optional, but the graph has no value of its own for it")
    dims = _dims(place, graph, stated.get("dims", ()), batched=batched)
    return TensorSpec(
        name=graph.name,
        dtype=graph.dtype,
        dims=dims or (),
        any_rank=dims is None,
        optional=optional,
    )


def _dims(
    place: str, graph: Tensor, stated: Sequence[int], *, batched: bool
) -> tuple[int, ...] | None:
    """Return the narrower of the graph's and the stated sizes, the batch axis included.

    None stands for any number of axes, where neither the graph nor the configuration says it.
    """
    first = (-1,) if batched else ()
    if graph.any_rank:
        if batched and not stated and place.startswith("input"):
            _refuse(f"{place}: expected dims beside max_batch_size, for the graph has no shape")
        return (*first, *stated) if stated else None
    if not stated:
        return (*first, *graph.dims[len(first) :])
    if not graph.dims and all(size == 1 for size in stated):
        return tuple(stated)  # a scalar, because a configuration cannot have empty dims
    own = list(graph.dims[1:] if batched else graph.dims)
    agree = [one in (-1, other) or other == -1 for one, other in zip(own, stated, strict=False)]
    if len(stated) != len(own) or not all(agree):
        rest = "after the batch axis" if batched else "because max_batch_size is 0"
        _refuse(
            f"{place}: expected dims {shown(own)} {rest}, got {shown(list(stated))}; "
            f"the graph has {show(graph)}"
        )
    narrow = (max(one, other) for one, other in zip(own, stated, strict=True))
    return (*first, *narrow)


def _served_inputs(config: Config, opened: Opened) -> list[Tensor]:
    """Return the inputs that a request must give, and the optional ones that are listed."""
    listed = [each.get("name") for each in config.get("input", ())]
    return [each for each in opened.inputs if not each.optional or each.name in listed]


def _is_batched(tensor: Tensor) -> bool:
    return tensor.any_rank or (len(tensor.dims) > 0 and tensor.dims[0] == -1)


def _data_type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"


def _expect(config: Config, field: str, expected: Sequence[str]) -> None:
    if config.get(field, "") not in expected:
        _refuse(f"{field}: expected {shown(expected[-1])}, got {shown(config[field])}")


def _refuse(problem: str) -> None:
    raise ContradictionError(f"model configuration: {problem}")
