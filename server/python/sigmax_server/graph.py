"""What describing a model needs to know of its file."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sigmax_server.text import shown

if TYPE_CHECKING:
    from sigmax_server._native import DType


class Tensor(Protocol):
    """An input or output, as the graph declares it."""

    @property
    def name(self) -> str:
        """Its name in the graph."""

    @property
    def dtype(self) -> "DType":
        """The type of its elements."""

    @property
    def dims(self) -> Sequence[int]:
        """Its sizes, the batch axis included where there is one; -1: any."""

    @property
    def optional(self) -> bool:
        """Whether the graph has a value of its own for this input."""


class Opened(Protocol):
    """A model file that has been opened: what `describe` needs of `_native.OpenedModel`."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """In the graph's order, the optional ones last."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """In the graph's order; a task is about the first."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's own key-value metadata."""


class ContradictionError(Exception):
    """What is said of a model is wrong, or contradicts its graph; the message names both."""


def show(tensor: Tensor) -> str:
    """How messages name a tensor: `'x' FP32[-1, 3]`."""
    return f"{shown(tensor.name)} {tensor.dtype}{shown(list(tensor.dims))}"
