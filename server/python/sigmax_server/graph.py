"""The parts of an opened model file that its description is made from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sigmax_server.text import shown

if TYPE_CHECKING:
    from sigmax_server._native import DType


class Shown(Protocol):
    """A tensor with what messages show of it."""

    @property
    def name(self) -> str:
        """Name of the tensor in the graph."""

    @property
    def dtype(self) -> "DType":
        """Type of the elements."""

    @property
    def dims(self) -> Sequence[int]:
        """Size of each axis, the batch axis included where there is one; -1: any."""

    @property
    def any_rank(self) -> bool:
        """Whether the graph has no shape for the tensor; `dims` is empty then."""


class Tensor(Shown, Protocol):
    """An input or output, as the graph declares it."""

    @property
    def optional(self) -> bool:
        """Whether the graph has an initial value for this input."""


class Opened(Protocol):
    """An opened model file, as `describe` needs it; `_native.OpenedModel` is one."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """Inputs in the graph's order, the optional ones last."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """Outputs in the graph's order."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Key-value metadata of the file."""


class ContradictionError(Exception):
    """An error for a description that is wrong or contradicts the graph; the message names both."""


def show(tensor: Shown) -> str:
    """Return a tensor as messages name it, such as `'x' FP32[-1, 3]`."""
    dims = "of any shape" if tensor.any_rank else shown(list(tensor.dims))
    return f"{shown(tensor.name)} {tensor.dtype}{dims}"
