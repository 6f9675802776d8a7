"""Images as the inputs of requests, for models whose input is one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sigmax import Inputs, Model, TensorSpec, _tensor
from sigmax._cli.rows import Requests, in_batches, only_input
from sigmax._cli.streams import CommandError

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_FLOATS: Final = ("FP16", "BF16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class Layout:
    """The way in which an input holds an image. A size of -1 is the image's own."""

    height: int
    width: int
    channels: int
    channel_axis: int | None
    """Axis of the channels in a row, 0 or 2; None where a row has no such axis."""
    is_float: bool
    """Whether the values are from 0 to 1, and not from 0 to 255."""


def read(paths: Sequence[str]) -> Requests:
    """Return requests for images: in batches where the input has a fixed size, else one by one.

    Raises:
        CommandError: Pillow is not installed. The requests raise it, too, where an image cannot be
            read, or the model's input is no image.
    """
    try:
        import PIL  # noqa: F401 (the images are opened once the model is known)
    except ModuleNotFoundError as error:
        raise CommandError(
            '--image needs Pillow, which is not installed: pip install "sigmax[images]"'
        ) from error

    def requests(model: Model) -> Iterator[Inputs]:
        spec = only_input(model, "--image")
        layout = layout_of(model, spec)
        arrays = (_convert(path, layout) for path in paths)
        if model.max_batch_size and -1 not in (layout.height, layout.width):
            yield from in_batches(model, {spec.name: np.stack(list(arrays))})
            return
        for array in arrays:
            yield {spec.name: array.reshape((1,) * (len(spec.shape) - array.ndim) + array.shape)}

    return requests


def layout_of(model: Model, spec: TensorSpec) -> Layout:
    """Return how an input holds an image.

    The channels are the last axis where that has 1, 3 or 4 sizes, otherwise the first.

    Raises:
        CommandError: The input's shape or dtype is no image's.
    """
    has_batch_axis = model.max_batch_size > 0 or (len(spec.shape) == 4 and spec.shape[0] == 1)
    row = spec.shape[1:] if has_batch_axis else spec.shape
    is_float = spec.dtype in _FLOATS
    if (is_float or spec.dtype == "UINT8") and not spec.encoding:
        if len(row) == 2:
            return Layout(row[0], row[1], 1, None, is_float)
        if len(row) == 3 and row[2] in _MODES:
            return Layout(row[0], row[1], row[2], 2, is_float)
        if len(row) == 3 and row[0] in _MODES:
            return Layout(row[1], row[2], row[0], 0, is_float)
    raise CommandError(
        f"input '{spec.name}' of model '{model.name}' is no image: expected UINT8 or floats "
        "in rows of [height, width], [height, width, channels] or [channels, height, width] "
        f"with 1, 3 or 4 channels; got {spec.dtype} of the shape {list(spec.shape)}"
    )


def _convert(path: str, layout: Layout) -> _tensor.Array:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise CommandError(
                    f"{path}: expected an image of 8 bits a channel, got the mode {opened.mode}"
                )
            image = ImageOps.exif_transpose(opened).convert(_MODES[layout.channels])
    except CommandError:
        raise
    except Exception as error:  # Pillow raises almost any kind for a file that is damaged
        raise CommandError(f"cannot read {path}: {error}") from error
    width = image.width if layout.width == -1 else layout.width
    height = image.height if layout.height == -1 else layout.height
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array: np.ndarray[Any, Any] = np.asarray(image, np.uint8)
    if layout.channel_axis is not None:
        array = array.reshape(height, width, layout.channels)
    if layout.channel_axis == 0:
        array = np.moveaxis(array, 2, 0)
    return array.astype(np.float32) / np.float32(255) if layout.is_float else array
