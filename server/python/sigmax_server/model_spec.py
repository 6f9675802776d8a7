"""The specification of one version of a model, as the native module reads it (`ModelSpec`).

The native module reads it attribute by attribute. Values are checked when a specification is built,
so that later code need not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigmax_server.text import shown

if TYPE_CHECKING:
    from sigmax_server._native import DType, Task

MOST_TENSORS = 1024  # most inputs of a model, and most outputs
MOST_NAME = 1000  # most characters of a tensor's or a class's name, which answers repeat


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
