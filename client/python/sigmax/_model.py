"""Descriptions of a server's models."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    """Name of the tensor in the model's graph."""
    dtype: str
    """Element type: "BOOL", "UINT8" ... "INT64", "FP16", "BF16", "FP32", "FP64" or "BYTES"."""
    shape: tuple[int, ...]
    """Size of each axis, the batch first; -1 for any size."""
    meaning: str
    """Meaning of the values, for people; empty where the model file does not say."""
    encoding: str = ""
    """Encoding of text in an input of bytes, "utf-8": a row is a text's bytes, and zeros up to the
    row's size. Empty where the input is no encoded text, or the model file does not say."""
    any_rank: bool = False
    """Whether a tensor may have any number of axes, because the graph does not say it; `shape` is
    empty then."""


@dataclass(frozen=True, slots=True)
class Head:
    """An output of a model as a classification: its task, its classes and their thresholds."""

    name: str
    """Name of the head, as `Client.classify` takes it; empty where the one head has no name."""
    output: str
    """Name of the output that has the probabilities."""
    task: str | None
    """Task of the head: "binary", "multiclass" or "multilabel"."""
    labels: tuple[str, ...]
    """Names of the classes, by index; empty where none are declared."""
    thresholds: tuple[float, ...]
    """Thresholds of the decision, each in [0, 1].

    Binary: one. Multi-label: one for each class. Multi-class: empty.
    """


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model and its state."""

    version: str
    """Number of the version, decimal."""
    state: str
    """State of the version: "loading", "ready" or "unavailable"."""
    reason: str
    """Reason why the version is not ready. Of a ready version: "not tried: " and why, where none of
    the rows that were tried in loading ran; else empty."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model as `Client.models` lists it."""

    name: str
    """Name of the model, as `Client.classify` takes it."""
    versions: tuple[ModelVersion, ...]
    """All versions of the model, the newest first."""
    task: str | None
    """Task of the newest ready version: "binary", "multiclass" or "multilabel".

    None where that version declares no task, or no version is ready.
    """


@dataclass(frozen=True, slots=True)
class Model:
    """The full description of one version of a model."""

    name: str
    """Name of the model, as `Client.classify` takes it."""
    version: str
    """Number of the version described, decimal."""
    versions: tuple[ModelVersion, ...]
    """All versions of the model, the newest first."""
    inputs: tuple[TensorSpec, ...]
    """Inputs that a request gives, in the graph's order."""
    outputs: tuple[TensorSpec, ...]
    """Outputs of the graph, in its order."""
    task: str | None
    """Task of the first head; None where the model cannot classify."""
    labels: tuple[str, ...]
    """Names of the first head's classes, by index; empty where none are declared."""
    thresholds: tuple[float, ...]
    """Thresholds of the first head's decision; empty where there is no task."""
    device: str
    """Devices that run the model: "cpu", "cuda:0", or several as "cuda:0, cuda:1"."""
    max_batch_size: int
    """Most rows of one request; 0 where the model has no batch axis."""
    preferred_batch_size: int
    """Rows of a batch from which on a row gets no cheaper, as measured in loading the model."""
    rows_independent: bool
    """Whether the answer to a row depends on that row alone."""
    device_reason: str
    """Reason for running on that device, for people; may be empty."""
    heads: tuple[Head, ...] = ()
    """Heads of the model, which `Client.classify` can ask for; the first is the default."""
    warnings: tuple[str, ...] = ()
    """Findings of the loading that a user should know, for people."""
