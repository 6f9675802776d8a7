"""The configuration of a server (`ServerConfig`) and of each model in it (`ModelSpec`).

The native module reads both attribute by attribute. Both check their values when they are built,
so that later code need not.
"""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmax_server import __version__
from sigmax_server.address import bare
from sigmax_server.machine import usable_cores, usable_memory
from sigmax_server.text import shown

if TYPE_CHECKING:
    from sigmax_server._native import DType, Task

MOST_TENSORS = 1024  # most inputs of a model, and most outputs
MOST_NAME = 1000  # most characters of a tensor's or a class's name, which answers repeat
MOST_MODEL_NAME = 255  # most characters of a model's name, as of a folder's


class ConfigError(ValueError):
    """An error for a setting with a wrong value.

    Attributes:
        setting: name of the setting, such as `grpc_port`.
        problem: text that says what was expected and what came.
    """

    def __init__(self, setting: str, expected: str, came: object) -> None:
        self.setting = setting
        self.problem = f"expected {expected}, got {came!r}"
        super().__init__(f"{setting}: {self.problem}")


@dataclass(frozen=True)
class Kind:
    """A kind of value that settings have.

    Attributes:
        placeholder: the value in --help, such as "PORT".
        expected: the allowed values in errors, such as "a whole number from 0 to 65535".
        parse: converts a text to a value; raises ValueError where the text is none.
        holds: returns whether a value is allowed.
    """

    placeholder: str
    expected: str
    parse: Callable[[str], Any]
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """A setting, as the command line, the environment and the documents present it.

    Attributes:
        name: name of the field in `ServerConfig`, such as `grpc_port`.
        kind: kind of the value.
        default: default value, or how it is computed, as a text.
        unit: unit of the value; empty where it has none.
        meaning: description of the setting, for people.
    """

    name: str
    kind: Kind
    default: str
    unit: str
    meaning: str

    @property
    def flag(self) -> str:
        """Name of the setting on the command line, such as `--grpc-port`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Name of the setting in the environment, such as `SIGMAX_GRPC_PORT`."""
        return "SIGMAX_" + self.name.upper()

    def parse(self, text: str) -> Any:
        """Convert a text to a value of this setting; ConfigError where the text is none."""
        try:
            value = self.kind.parse(text)
        except ValueError:
            raise ConfigError(self.name, self.kind.expected, text) from None
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Raise ConfigError where the setting cannot have this value."""
        if not self.kind.holds(value):
            raise ConfigError(self.name, self.kind.expected, value)


def _whole(placeholder: str, low: int, high: int) -> Kind:
    def holds(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return Kind(placeholder, f"a whole number from {low} to {high}", int, holds)


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


SWITCH = Kind("true|false", "true or false", _switch, lambda value: isinstance(value, bool))
_PORT = _whole("PORT", 0, 65535)
_COUNT = _whole("N", 1, 2**31 - 1)
_MICROSECONDS = _whole("N", 0, 10**6)
_BYTES = _whole("N", 2**20, 2**50)
_TEXT = Kind("TEXT", "printable text", str, lambda value: value != "" and value.isprintable())
_MODEL_NAME = Kind(
    "NAME",
    f"a printable name of at most {MOST_MODEL_NAME} characters, without / and ..",
    str,
    lambda value: value == "" or is_model_name(value),
)
_HOST = Kind("HOST", _TEXT.expected, bare, _TEXT.holds)
_NUMBER = "(0|[1-9][0-9]{0,2})"
_CUDA = re.compile(f"cuda(:{_NUMBER}(,{_NUMBER})*)?")


def named_devices(text: str) -> tuple[str, ...]:
    """Return the devices that a value of `--device` names: `cuda:0,1` is cuda:0 and cuda:1.

    Returns:
        The devices, in the order given; empty for `auto`, which names none.

    Raises:
        ValueError: the text is no value of `--device`, or names a device twice.
    """
    if text in ("auto", "cpu"):
        return () if text == "auto" else ("cpu",)
    if not _CUDA.fullmatch(text):
        raise ValueError(text)
    numbers = text.removeprefix("cuda").removeprefix(":") or "0"
    devices = tuple(f"cuda:{number}" for number in numbers.split(","))
    if len(set(devices)) < len(devices):
        raise ValueError(text)
    return devices


def _names_devices(value: object) -> bool:
    try:
        return isinstance(value, str) and named_devices(value) is not None
    except ValueError:
        return False


_DEVICE = Kind(
    "DEVICE",
    "auto, cpu, cuda, cuda:N, or several as cuda:0,1",
    str,
    _names_devices,
)
_LISTEN = Kind(
    "unix:PATH",
    "unix: and the path of a Unix domain socket, of 1 to 107 bytes",
    str,
    lambda value: value == "" or (value[:5] == "unix:" and 1 <= len(os.fsencode(value)) - 5 <= 107),
)
_SECONDS = Kind(
    "SECONDS",
    "a finite number of seconds, 0 or more",
    float,
    lambda value: math.isfinite(value) and value >= 0,
)


_OVER_ZERO_SECONDS = Kind(
    "SECONDS",
    "a finite number of seconds over 0",
    float,
    lambda value: math.isfinite(value) and value > 0,
)


def is_model_name(text: str) -> bool:
    """Return whether a model can be given this name, and be loaded by it."""
    return (
        text.strip() != ""
        and text.isprintable()
        and len(text) <= MOST_MODEL_NAME
        and "/" not in text
        and ".." not in text
    )


def _says(kind: Kind, meaning: str, unit: str = "", default: str = "") -> Mapping[str, object]:
    return {"kind": kind, "meaning": meaning, "unit": unit, "default": default}


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The settings of a server; the models to serve are given apart.

    Each field is a flag and an environment variable as well; see `SETTINGS`.

    Raises:
        ConfigError: a field has a value it cannot have.
    """

    host: str = field(
        default="127.0.0.1",
        metadata=_says(
            _HOST, "address to listen on, for both ports; `::` is every one of IPv6 and IPv4"
        ),
    )
    grpc_port: int = field(
        default=8001,
        metadata=_says(_PORT, "port for gRPC; 0: any free one"),
    )
    http_port: int = field(
        default=8000,
        metadata=_says(_PORT, "port for /metrics, /healthz and /readyz; 0: any free one"),
    )
    listen: str = field(
        default="",
        metadata=_says(
            _LISTEN, "Unix domain socket for gRPC beside the port, for clients on this machine"
        ),
    )
    shards: int = field(
        default_factory=usable_cores,
        metadata=_says(
            _whole("N", 1, 1024),
            "event loops, one thread each, that serve requests",
            "threads",
            default="the usable cores, by affinity and control-group quota",
        ),
    )
    max_batch_size: int = field(
        default=1024,
        metadata=_says(_COUNT, "most rows of one request and of one batch", "rows"),
    )
    queue_rows: int = field(
        default=65536,
        metadata=_says(
            _COUNT,
            "most rows that wait for one model; more are refused; at least --max-batch-size",
            "rows",
        ),
    )
    max_message_bytes: int = field(
        default=64 * 2**20,
        metadata=_says(_COUNT, "largest request message, also when decompressed", "bytes"),
    )
    memory_budget: int = field(
        default_factory=lambda: min(usable_memory() // 4, 4 * 2**30),
        metadata=_says(
            _BYTES,
            "most that all requests and answers under way hold; one connection, and so one "
            "message, may hold at most half",
            "bytes",
            default="a quarter of the usable memory, by machine and control group, at most 4 GiB",
        ),
    )
    max_connections: int = field(
        default=4096,
        metadata=_says(
            _COUNT,
            "most open gRPC connections, each with at most 1024 requests in flight; where all are "
            "open, a new one takes the place of the one that is idle for longest",
            "connections",
        ),
    )
    handshake_seconds: float = field(
        default=10.0,
        metadata=_says(
            _OVER_ZERO_SECONDS,
            "most time that a client takes to begin HTTP/2 on a new connection",
            "seconds",
        ),
    )
    max_metadata_bytes: int = field(
        default=64 * 2**10,
        metadata=_says(
            _whole("N", 2**10, 2**18),
            "most metadata of one call: names, values and 32 bytes for each entry",
            "bytes",
        ),
    )
    stall_seconds: float = field(
        default=60.0,
        metadata=_says(
            _OVER_ZERO_SECONDS,
            "most time that a client leaves a message half sent or an answer unread; then its "
            "connection is cut off",
            "seconds",
        ),
    )
    busy_poll_microseconds: int = field(
        default=0,
        metadata=_says(
            _MICROSECONDS,
            "most time that an idle shard polls for the next request before it sleeps",
            "microseconds",
        ),
    )
    max_run_seconds: float = field(
        default=60.0,
        metadata=_says(
            _OVER_ZERO_SECONDS,
            "most time of one run of a model; a longer run is ended, and its requests are "
            "DEADLINE_EXCEEDED",
            "seconds",
        ),
    )
    model_memory_limit: int = field(
        default_factory=lambda: usable_memory() // usable_cores() // 2,
        metadata=_says(
            _whole("N", 0, 2**50),
            "most memory outside GPUs that one run of a model allocates for results; a request "
            "that needs more is RESOURCE_EXHAUSTED; 0: no limit",
            "bytes",
            default="half of the usable memory, by machine and control group, divided by the "
            "usable cores",
        ),
    )
    load_timeout_seconds: float = field(
        default=300.0,
        metadata=_says(
            _OVER_ZERO_SECONDS,
            "most time that loading a model takes; a model that takes longer is not served",
            "seconds",
        ),
    )
    device: str = field(
        default="auto",
        metadata=_says(
            _DEVICE,
            "devices that models run on: cpu, cuda (the first GPU), cuda:N, several as cuda:0,1, "
            "or auto: the better of GPU and CPU for each model",
        ),
    )
    gpu_memory_limit: int = field(
        default=0,
        metadata=_says(
            _whole("N", 0, 2**50),
            "most memory that one engine on a GPU allocates for weights and results; 0: no limit",
            "bytes",
        ),
    )
    tf32: bool = field(
        default=False,
        metadata=_says(SWITCH, "let GPUs round products to TensorFloat-32: faster, and less exact"),
    )
    shared_memory: bool = field(
        default=False,
        metadata=_says(
            SWITCH, "let clients pass tensors in shared memory; only for clients that are trusted"
        ),
    )
    model_name: str = field(
        default="",
        metadata=_says(
            _MODEL_NAME, "name of the model, where the one path to serve is one model's"
        ),
    )
    model_control: str = field(
        default="none",
        metadata=_says(
            Kind("none|explicit", "none or explicit", str, ("none", "explicit").__contains__),
            "explicit: clients load and unload models, and the start loads those of --load-model",
        ),
    )
    load_model: str = field(
        default="",
        metadata=_says(
            Kind("NAMES", "names separated by commas, or *", str, str.isprintable),
            "with --model-control explicit: models to load at the start, as a,b or *",
        ),
    )
    allow_model_upload: bool = field(
        default=False,
        metadata=_says(
            SWITCH, "with --model-control explicit: let clients send the files of models"
        ),
    )
    allow_log_settings: bool = field(
        default=False,
        metadata=_says(
            SWITCH,
            "let clients change what is logged; always allowed with --model-control explicit",
        ),
    )
    server_name: str = field(
        default="triton",
        metadata=_says(_TEXT, "name of the server in the metadata that clients can read"),
    )
    grace_seconds: float = field(
        default=30.0,
        metadata=_says(
            _SECONDS, "most time that a stopping server answers accepted requests", "seconds"
        ),
    )
    strict_readiness: bool = field(
        default=True,
        metadata=_says(SWITCH, "be ready when every model is served; false: when any is"),
    )
    exit_on_error: bool = field(
        default=False,
        metadata=_says(SWITCH, "end with an error when any model cannot be served"),
    )
    server_version: str = field(default=__version__, init=False)

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            setting.check(getattr(self, setting.name))
        if self.queue_rows < self.max_batch_size:
            expected = f"at least max_batch_size, which is {self.max_batch_size}"
            raise ConfigError("queue_rows", expected, self.queue_rows)
        if self.model_control == "none":
            for name in ("load_model", "allow_model_upload"):
                if value := getattr(self, name):
                    raise ConfigError(name, "it only where model_control is explicit", value)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


SETTINGS = tuple(
    Setting(
        each.name,
        each.metadata["kind"],
        each.metadata["default"] or _written(each.default),
        each.metadata["unit"],
        each.metadata["meaning"],
    )
    for each in fields(ServerConfig)
    if each.metadata
)


@dataclass(frozen=True)
class Location:
    """A path with models to serve.

    Attributes:
        path: repository folder, folder of one model, or .onnx file.
        name: name of the one model there; empty where the path names its models.
    """

    path: Path
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a model, as it is served.

    Attributes:
        name: name of the tensor in the graph.
        dtype: type of the elements.
        dims: size of each axis, the batch axis included where there is one; -1: any.
        any_rank: whether the number of axes is open, because the graph has no shape; `dims` is
            empty then.
        encoding: encoding of text in an input of bytes, "utf-8"; empty where there is none.
        meaning: meaning of the values, for people; empty where the file does not say.
        labels: names of an output's classes, by index; empty where none are declared.
        optional: whether a request may leave this input out.
    """

    name: str
    dtype: "DType"
    dims: tuple[int, ...]
    any_rank: bool = False
    encoding: str = ""
    meaning: str = ""
    labels: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Head:
    """An output of a model as a classification.

    Attributes:
        name: name by which a request asks for the head; empty where a model's one head has none.
        output: place of the output among the graph's outputs.
        task: meaning of the output.
        labels: names of the classes, by index; empty where none are declared.
        thresholds: thresholds of the decision, each in [0, 1]. Binary: one; multi-label: one for
            each class; otherwise none.

    Raises:
        ValueError: a field has a value it cannot have.
    """

    name: str
    output: int
    task: "Task"
    labels: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _expect(len(self.name) <= MOST_NAME, f"a name of at most {MOST_NAME} characters", self.name)
        for threshold in self.thresholds:
            _expect(0 <= threshold <= 1, "thresholds in [0, 1]", threshold)
        _check_labels(self.labels)
        if "" in self.labels:
            _expect(False, f"labels that are not empty, at {self.labels.index('')}", "")


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """The limits on requests of one priority that wait for their batch.

    Attributes:
        default_timeout: most seconds that a request waits; None: no limit.
        allow_timeout_override: whether a request may name a shorter time of its own.
        late_is_delayed: whether a request that has waited too long runs when nothing else of its
            priority waits; otherwise such a request is refused.
        max_requests: most requests that wait; None: no limit.
    """

    default_timeout: float | None = None
    allow_timeout_override: bool = False
    late_is_delayed: bool = False
    max_requests: int | None = None


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The rules by which requests form batches.

    Attributes:
        max_delay: most seconds that a batch waits for more requests; 0: no wait.
        preferred_sizes: sizes in rows at which a batch does not wait for more, rising; empty: only
            a full batch does not wait.
        priorities: policy of each priority, the highest first.
        default_priority: index in `priorities` for requests that name no priority, or none of
            these.
    """

    max_delay: float = 0.0
    preferred_sizes: tuple[int, ...] = ()
    priorities: tuple[QueuePolicy, ...] = (QueuePolicy(),)
    default_priority: int = 0


@dataclass(frozen=True)
class Placement:
    """A number of engines on one device.

    Attributes:
        device: name of the device, "cpu" or "cuda:N".
        count: number of engines; 0: as many as serve the model best there.
    """

    device: str
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The configuration of one version of a model.

    Attributes:
        name: name of the model, for clients.
        version: number of the version, over 0.
        max_batch_size: most rows of one request; 0: the model has no batch axis.
        inputs: inputs that are served, in the graph's order.
        outputs: outputs of the graph, in its order.
        config: Triton's model configuration of this version, complete, in JSON.
        heads: outputs that are classifications, the default first; empty: the model is served raw.
        rows_independent: the author's word on whether a row's answer depends on that row alone;
            None: warming the model up finds out.
        tolerance: most that an output may differ from its golden sample: absolute, and relative
            for numbers over 1.
        golden: folders of golden samples.
        batching: rules by which requests form batches.
        placements: alternative sets of engines. Of several, the set with the best throughput
            serves, on a tie the first.
        device_reason: reason for these placements, for people.
        warnings: findings that a user should know, for people.

    Raises:
        ValueError: a field has a value it cannot have.
    """

    name: str
    version: int
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    config: str
    heads: tuple[Head, ...] = ()
    rows_independent: bool | None = None
    tolerance: float = 1e-5
    golden: tuple[str, ...] = ()
    batching: Batching = Batching()
    placements: tuple[tuple[Placement, ...], ...] = ((Placement("cpu"),),)
    device_reason: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _expect(self.name != "" and self.name.isprintable(), "a printable name", self.name)
        _expect(self.version > 0, "a version over 0", self.version)
        _expect(self.max_batch_size >= 0, "a max_batch_size of 0 or more", self.max_batch_size)
        _expect(
            math.isfinite(self.tolerance) and self.tolerance >= 0,
            "a finite tolerance of 0 or more",
            self.tolerance,
        )
        _expect(
            bool(self.placements) and all(self.placements),
            "at least one placement in every alternative",
            self.placements,
        )
        for tensors in (self.inputs, self.outputs):
            _expect(len(tensors) <= MOST_TENSORS, f"at most {MOST_TENSORS} tensors", len(tensors))
            for tensor in tensors:
                _expect(
                    len(tensor.name) <= MOST_NAME,
                    f"names of tensors of at most {MOST_NAME} characters",
                    tensor.name,
                )
                _check_labels(tensor.labels)


def _check_labels(labels: Sequence[str]) -> None:
    for index, label in enumerate(labels):
        if len(label) > MOST_NAME:
            _expect(False, f"labels of at most {MOST_NAME} characters, at {index}", label)


def _expect(holds: bool, expected: str, came: object) -> None:
    if not holds:
        raise ValueError(f"expected {expected}, got {shown(came)}")
