"""Exports a torch module as an ONNX file that describes itself and has been checked."""

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

# Rows of each golden sample: one alone, and a batch.
GOLDEN_ROWS = (1, 7)
# Most that a sum of probabilities in 32-bit floats differs from 1.
SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
        path: Path of the ONNX file.
        parity: Measured differences between ONNX Runtime and torch.
        tolerance: Most that a served answer may differ from the golden samples, absolute, as the
            file states it.
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
    """Write a module as an ONNX file that a server can serve without further configuration.

    The file is checked before it is put in its place. ONNX Runtime must answer as torch does, for
    batches of 1, 2, 7 and 64 rows, and a row must get the same answer alone and in a batch. Small
    differences are allowed, and cause a warning. Golden samples are written beside the file. The
    module is not changed.

    Args:
        module: Module that takes tensors by position, each of shape [batch, ...], and returns one
            tensor of shape [batch, ...].
        path: Path of the file to write, such as `repository/animal/1/model.onnx`. Missing folders
            are created.
        example: Real rows of each input by its name, in the order of `forward`: arrays or tensors
            of shape [rows >= 1, ...]. At most 64 are used; where there are fewer, similar rows are
            made for the checks.
        declaration: Description that the file states.

    Returns:
        The path of the file, the measured differences and the tolerance.

    Raises:
        ExportError: The module cannot be exported, or does not fit the declaration. No file is
            left.

    Warns:
        InexactWarning: Answers differ from torch's by more than 1e-6, or a row's answer changes
            with its batch. The file's tolerance is twice the difference, rounded up to one digit.
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

    Each element of an added row is taken from the same place of a random given row. Elements of
    floating-point inputs are changed by at most a tenth. Invented values could be indices out of
    range.
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
    """Check the network's answers, [rows, ...], against its declaration."""
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
    """Return 1e-6; or warn, and return twice the measured difference rounded up to one digit.

    The difference is doubled, because another processor adds in another order.
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
    """Write all files to a temporary folder beside, then move them into place, the model last."""
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
