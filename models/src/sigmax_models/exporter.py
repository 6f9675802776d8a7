"""Exports a torch module as an ONNX file that describes itself and has been checked."""

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
from sigmax_models.errors import ExportError, ExportNotice, InexactWarning
from sigmax_models.golden import golden_folder, golden_folders, write_golden
from sigmax_models.graph import Served, build_graph, call, producer
from sigmax_models.heads import Choices, Head, as_heads, inputs_of, metadata, outputs_of
from sigmax_models.inputs import (
    Free,
    Rows,
    as_rows,
    check_free,
    keywords,
    many_rows,
    say,
    shorten,
    take,
)
from sigmax_models.modules import dtype_of, first_line, frozen_copy
from sigmax_models.outputs import parts
from sigmax_models.parity import BATCHES, EXACT, Parity, answers_torch, lost_batch, measure
from sigmax_models.quiet import quiet
from sigmax_models.texts import check_texts

# Rows of each golden sample: one alone, and a batch.
GOLDEN_ROWS = (1, 7)
# Most that a sum of probabilities in 32-bit floats differs from 1.
SUM_TOLERANCE = 1e-5

# A golden sample: rows of each input, and torch's answers of each output.
Golden = tuple[Rows, Rows]


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
    module: object,
    path: str | os.PathLike[str],
    example: Any,
    declaration: Declaration | Mapping[str, Declaration],
    *,
    output: Choices | None = None,
    dynamic: Free | None = None,
    verbose: bool = False,
) -> Export:
    """Write a module as an ONNX file that a server can serve without further configuration.

    The file is checked before it is put in its place. ONNX Runtime must answer as torch does, for
    batches of 1, 2, 7 and 64 rows, and a row must get the same answer alone and in a batch. Small
    differences are allowed, and cause a warning. Golden samples are written beside the file. The
    module is not changed.

    Args:
        module: Torch module that takes tensors of shape [batch, ...], and returns one or several.
        path: Path of the file to write, such as `repository/animal/1/model.onnx`. Missing folders
            are created.
        example: Real rows of each input by its name: arrays or tensors of shape [rows >= 1, ...].
            Where `forward` has other names, they are passed in the order given. An array alone, or
            a tuple of them, gets the names that `forward` has. At most 64 rows are used; where
            there are fewer, similar rows are made for the checks. Rows of float64 are converted to
            the dtype of the module's weights.
        declaration: Description that the file states; or, for several heads, a description of each
            by its name. The first is the default.
        output: Output to export of a module that returns a tuple, dict or dataclass: its place,
            from 0, or its name; for several heads, one for each by the head's name. Left out for a
            head, it is the output of this name, or of this place.
        dynamic: Names of the axes that are free besides the batch, by the input's name and the
            axis: `{"ids": {1: "length"}}`. Axes of one name have one size.
        verbose: Whether torch's log, warnings and prints are shown.

    Returns:
        The path of the file, the measured differences and the tolerance.

    Raises:
        ExportError: The module cannot be exported, or does not fit the declaration. No file is
            left.

    Warns:
        InexactWarning: Answers differ from torch's by more than 1e-6, or a row's answer changes
            with its batch. The file's tolerance is twice the difference, rounded up to one digit.
        ExportNotice: Rows, weights or outputs were converted.
    """
    if Path(path).suffix != ".onnx":
        raise ExportError(f"expected a path that ends in .onnx, got {os.fspath(path)!r}")
    with quiet(verbose):
        frozen = frozen_copy(module)
        given = as_rows(example, frozen)
        check_free(dynamic or {}, given)
        names = keywords(frozen, given)
        heads = as_heads(declaration, output, _run(frozen, names, take(given, 0, 2)))
        _check_names(heads, given)
        texts = [name for name, stated in inputs_of(heads).items() if "encoding" in stated]
        check_texts(texts, given, dynamic or {})
        rows = many_rows(given, max(BATCHES), texts)
        served = Served(frozen, outputs_of(heads), names).eval()

        model = build_graph(served, take(rows, 0, 2), dynamic, verbose)
        sizes = [rows, shorten(rows, dynamic)] if dynamic else [rows]
        classes = _check_answers(served, heads, sizes)
        parity = _worst([measure(served, model.SerializeToString(), each) for each in sizes])
        tolerance = _tolerance(parity)
        _tell(frozen, served, names, rows)

        entries = metadata(heads, classes)
        entries["sigmax.tolerance"] = f"{tolerance:.0e}"
        entries["sigmax.producer"] = producer()
        onnx.helper.set_model_props(model, entries)
        golden = [take(sizes[0], 0, GOLDEN_ROWS[0]), take(sizes[-1], 0, GOLDEN_ROWS[1])]
        samples = [(inputs, answers_torch(served, inputs)) for inputs in golden]
    _publish(Path(path), model, samples)
    return Export(Path(path), parity, tolerance)


def _run(frozen: nn.Module, names: Sequence[str], rows: Rows) -> object:
    """Return what the module returns for some rows."""
    inputs = [torch.from_numpy(array) for array in rows.values()]
    try:
        with torch.no_grad():
            return call(frozen, inputs, names)
    except Exception as error:  # the module is another's, and raises what it likes
        wanted = dtype_of(frozen)
        others = [
            f"{name!r} is {say(values.dtype)}"
            for name, values in zip(rows, inputs, strict=True)
            if values.dtype is not wanted
        ]
        is_dtype = others and any(word in str(error) for word in ("dtype", "scalar type"))
        hint = f"; expected rows of {say(wanted)}, as the weights are, but {' and '.join(others)}"
        raise ExportError(
            f"the module does not run with the example: {first_line(error)}"
            f"{hint if is_dtype else ''}"
        ) from error


def _check_names(heads: Sequence[Head], rows: Rows) -> None:
    if unknown := set(inputs_of(heads)) - set(rows):
        raise ExportError(
            f"meanings, encodings: no input is named {sorted(unknown)}, only {list(rows)}"
        )
    for output in outputs_of(heads):
        if output.name in rows:
            raise ExportError(
                f"output: an input is named {output.name!r}, too: give the output another name, "
                "by Declaration(output=NAME) (--output-name NAME)"
            )


def _check_answers(served: Served, heads: Sequence[Head], sizes: Sequence[Rows]) -> dict[str, int]:
    """Check the network's answers for rows of one or two sizes against the declarations.

    Returns:
        The number of elements that each output has for each row, by its name.
    """
    classes: dict[str, int] = {}
    for rows in sizes:
        answers = answers_torch(served, rows)
        for head in heads:
            answer = answers[head.output.name]
            try:
                _check_output(answer, head.declaration)
                count = math.prod(answer.shape[1:])
                if head.declaration.task and classes.setdefault(head.output.name, count) != count:
                    raise ExportError(
                        f"task: expected as many classes for every size of the free axes, "
                        f"got {classes[head.output.name]} and {count}"
                    )
                classes[head.output.name] = count
            except ExportError as error:
                if not head.name:
                    raise
                raise ExportError(f"head {head.name!r}: {error}") from error
    return classes


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
        sums = answers.sum(axis=-1, dtype=np.float64)
        worst = float(sums.flat[np.abs(sums - 1).argmax()])
        if abs(worst - 1) > max(SUM_TOLERANCE, float(np.finfo(answers.dtype).eps)):
            raise ExportError(f"output: expected rows that sum to 1, got a sum of {worst:.6g}")


def _worst(measured: Sequence[Parity]) -> Parity:
    return Parity(max(each.torch for each in measured), max(each.alone for each in measured))


def _tell(frozen: nn.Module, served: Served, names: Sequence[str], rows: Rows) -> None:
    """Tell which outputs were changed: those of bfloat16, and those that lose their batch axis."""
    found = parts(_run(frozen, names, take(rows, 0, 1)))
    for output in served.outputs:
        values = found[output.place][1]
        if values.dtype is torch.bfloat16:
            _note(f"output {output.name!r} is bfloat16; the file returns it as float32")
        if lost_batch(values):
            _note(
                f"output {output.name!r} has no batch axis for a single row, as after squeeze(); "
                "in the file it has one"
            )


def _note(text: str) -> None:
    warnings.warn(text, ExportNotice, stacklevel=4)


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


def _publish(path: Path, model: onnx.ModelProto, samples: Sequence[Golden]) -> None:
    """Write all files to a temporary folder beside, then move them into place, the model last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sigmax-export-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        staged.write_bytes(model.SerializeToString(deterministic=True))
        for number, (inputs, answers) in enumerate(samples):
            write_golden(golden_folder(staged, number), inputs, answers)
        for stale in golden_folders(path):
            shutil.rmtree(stale)
        for number in range(len(samples)):
            golden_folder(staged, number).rename(golden_folder(path, number))
        staged.replace(path)
