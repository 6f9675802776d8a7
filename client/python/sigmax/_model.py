"""What a server says of its models."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    """Its name in the graph."""
    dtype: str
    """The type of its elements: "BOOL", "UINT8" ... "INT64", "FP16", "BF16", "FP32", "FP64"."""
    shape: tuple[int, ...]
    """Its sizes, the batch first; -1: any."""
    meaning: str
    """What it holds, for people; empty where the model file does not say."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model and where it stands."""

    version: str
    """A decimal number."""
    state: str
    """ "loading", "ready" or "unavailable"."""
    reason: str
    """Why it is not ready; empty where it is."""


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model in one line."""

    name: str
    """What it is asked by."""
    versions: tuple[ModelVersion, ...]
    """The newest first."""
    task: str | None
    """Of the newest ready version: "binary", "multiclass", "multilabel"; None: raw output."""


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model, whole."""

    name: str
    """What it is asked by."""
    version: str
    """The version described."""
    versions: tuple[ModelVersion, ...]
    """All versions, the newest first."""
    inputs: tuple[TensorSpec, ...]
    """What it takes."""
    outputs: tuple[TensorSpec, ...]
    """What its graph gives."""
    task: str | None
    """ "binary", "multiclass" or "multilabel"; None: raw output, and it cannot classify."""
    labels: tuple[str, ...]
    """The classes' names by index; empty where none are declared."""
    thresholds: tuple[float, ...]
    """Binary: one. Multi-label: one a class. Otherwise empty. Each in [0, 1]."""
    device: str
    """What runs it: "cpu", "cuda:0", or several as "cuda:0, cuda:1"."""
    max_batch_size: int
    """The most rows of one request; 0: it has no batch axis."""
    preferred_batch_size: int
    """Rows from which a larger batch gets no cheaper a row."""
    rows_independent: bool
    """Whether a row's answer depends on that row alone."""
    device_reason: str
    """Why it runs on that device, for people; may be empty."""
