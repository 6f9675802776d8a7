"""One torch module to one self-describing, checked ONNX file."""

import copy
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from sigmax_models.declaration import Declaration
from sigmax_models.errors import ExportError, InexactWarning
from sigmax_models.golden import golden_folder, golden_folders, write_golden
from sigmax_models.graph import Rows, Served, build_graph, producer
from sigmax_models.parity import BATCHES, EXACT, Parity, answer_torch, measure, take

# Rows of each golden sample: a lone one and a batch.
GOLDEN_ROWS = (1, 7)
# A sum of probabilities in 32-bit floats is this near to 1.
SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: The ONNX file.
        parity: How far ONNX Runtime is from torch.
        tolerance: What the file says a served answer may differ from its golden samples.
    """

    path: Path
    parity: Parity
    tolerance: float


def export(
    module: nn.Module,
    path: str | os.PathLike[str],
    example: Mapping[str, Any],
    declaration: Declaration,
) -> Export:
    """Write a module as an ONNX file that a server can serve without being told anything else.

    The file is checked before it appears: ONNX Runtime answers as torch does, for batches of
    1, 2, 7 and 64 rows, and every row gets the same bits alone and in a batch. Golden samples
    are written beside it. The module is not changed.

    Args:
        module: Takes tensors by position, each of shape [batch, ...]; returns one tensor of
            shape [batch, ...].
        path: The file to write, such as `repository/animal/1/model.onnx`. Folders are made.
        example: Real rows by the input's name, in the order of `forward`: arrays or tensors of
            shape [rows >= 1, ...]. Up to 64 are used; where there are fewer, rows like
            them are made for the checks.
        declaration: What the file says of itself.

    Returns:
        Where the file is and how exact it is.

    Raises:
        ExportError: The module cannot be exported or is not what was declared. No file is left.

    Warns:
        InexactWarning: Answers differ by more than 1e-6, or with the batch; the difference is
            the file's tolerance.
    """
    if Path(path).suffix != ".onnx":
        raise ExportError(f"expected a path that ends in .onnx, got {os.fspath(path)!r}")
    rows = _many_rows(_as_arrays(example), max(BATCHES))
    if unknown := set(declaration.meanings) - set(rows):
        raise ExportError(f"meanings: no input is named {sorted(unknown)}, only {list(rows)}")
    served = Served(_frozen_copy(module), declaration.activation).eval()

    model = build_graph(served, take(rows, 0, 2), declaration.output)
    answers = answer_torch(served, rows)
    _check_output(answers, declaration)
    parity = measure(served, model.SerializeToString(), rows)
    tolerance = _tolerance(parity)

    entries = declaration.metadata(math.prod(answers.shape[1:]))
    entries["sigmax.tolerance"] = f"{tolerance:.0e}"
    entries["sigmax.producer"] = producer()
    onnx.helper.set_model_props(model, entries)
    samples = [(take(rows, 0, n), answer_torch(served, take(rows, 0, n))) for n in GOLDEN_ROWS]
    _publish(Path(path), model, samples, declaration.output)
    return Export(Path(path), parity, tolerance)


def _as_arrays(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not example:
        raise ExportError("example: expected at least one input, got none")
    rows = {name: torch.as_tensor(value).detach().cpu().numpy() for name, value in example.items()}
    for name, array in rows.items():
        if array.ndim == 0 or len(array) == 0:
            raise ExportError(
                f"example: expected {name!r} of shape [rows >= 1, ...], got {list(array.shape)}"
            )
    counts = {name: len(array) for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise ExportError(f"example: expected as many rows of every input, got {counts}")
    return rows


def _many_rows(rows: Rows, count: int) -> dict[str, np.ndarray]:
    """Cut the rows to `count`, or add rows made from the given ones.

    Each element of an added row comes from the same place of some given row, and a floating
    point one is made at most a tenth greater or smaller: values that the network knows, where
    one made up could be an index out of range.
    """
    chance = np.random.default_rng(0)
    filled = {}
    for name, array in rows.items():
        shape = (max(0, count - len(array)), *array.shape[1:])
        source = chance.integers(len(array), size=shape)
        more = np.take_along_axis(array, source, axis=0)
        if np.issubdtype(array.dtype, np.floating):
            more = (more * chance.uniform(0.9, 1.1, shape)).astype(array.dtype)
        filled[name] = np.ascontiguousarray(np.concatenate([array[:count], more]))
    return filled


def _frozen_copy(module: nn.Module) -> nn.Module:
    frozen = copy.deepcopy(module).cpu().eval()
    for name, values in frozen.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            raise ExportError(f"weights: {name!r} holds values that are not finite")
    return frozen


def _check_output(answers: np.ndarray, declaration: Declaration) -> None:
    """Check what the network answers against what is declared of it."""
    if not np.issubdtype(answers.dtype, np.floating):
        raise ExportError(f"output: expected floating point numbers, got {answers.dtype}")
    rows = max(BATCHES)
    if answers.ndim == 0 or len(answers) != rows:
        raise ExportError(
            f"no batch axis: expected {rows} rows of output for {rows} rows of input, "
            f"got an output of shape {list(answers.shape)}"
        )
    declaration.check_classes(answers.shape[1:])
    if not np.isfinite(answers).all():
        raise ExportError("output: expected finite numbers, got NaN or infinity for the example")
    if declaration.task is None and declaration.activation is None:
        return
    low, high = float(answers.min()), float(answers.max())
    if low < 0 or high > 1:
        raise ExportError(
            f"output: expected probabilities in [0, 1], got [{low:.3g}, {high:.3g}]; "
            "does the module return logits? Then declare the activation"
        )
    if declaration.task == "multiclass" or declaration.activation == "softmax":
        sums = answers.sum(axis=-1)
        worst = float(sums.flat[np.abs(sums - 1).argmax()])
        if abs(worst - 1) > SUM_TOLERANCE:
            raise ExportError(f"output: expected rows that sum to 1, got a sum of {worst:.6g}")


def _tolerance(parity: Parity) -> float:
    """1e-6, or twice the measured difference rounded up to one digit, with a warning.

    Twice, because another processor orders its sums in another way.
    """
    if parity.exact:
        return EXACT
    doubled = 2 * max(parity.torch, parity.alone)
    digit = 10.0 ** math.floor(math.log10(doubled))
    tolerance = max(EXACT, float(f"{math.ceil(doubled / digit) * digit:.0e}"))
    warnings.warn(
        f"answers differ by {parity.torch:.2g} from torch and by {parity.alone:.2g} with the "
        f"batch a row comes in; the file's tolerance is {tolerance:.0e}",
        InexactWarning,
        stacklevel=3,
    )
    return tolerance


def _publish(
    path: Path, model: onnx.ModelProto, samples: Sequence[tuple[Rows, np.ndarray]], output: str
) -> None:
    """Write everything to a folder beside, then move it into place, the model last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sigmax-export-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        staged.write_bytes(model.SerializeToString(deterministic=True))
        for number, (inputs, answers) in enumerate(samples):
            write_golden(golden_folder(staged, number), inputs, (output, answers))
        for stale in golden_folders(path):
            shutil.rmtree(stale)
        for number in range(len(samples)):
            golden_folder(staged, number).rename(golden_folder(path, number))
        staged.replace(path)
