"""Compares the answers of an ONNX file with those of its torch module, in several batch sizes."""

from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch

from sigmax_models.errors import ExportError
from sigmax_models.graph import Rows, Served

# Batch sizes of the comparison, in rows.
BATCHES = (1, 2, 7, 64)
# Most that two good implementations of one network differ in 32-bit floats, absolute.
EXACT = 1e-6
# Most that rounding explains, relative to the greatest output, but at least to 1.
LIMIT = 1e-3


@dataclass(frozen=True)
class Parity:
    """The greatest absolute differences between answers.

    Attributes:
        torch: Difference between ONNX Runtime and torch.
        alone: Difference between a row alone and the same row in a batch; 0: they are equal.
    """

    torch: float
    alone: float

    @property
    def exact(self) -> bool:
        """Whether answers agree with torch's to 1e-6, and never depend on the batch."""
        return self.torch <= EXACT and self.alone == 0


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a session of ONNX Runtime on the CPU.

    Raises:
        ExportError: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ExportError(f"ONNX Runtime refuses the exported model: {error}") from error


def answer_torch(served: Served, rows: Rows) -> np.ndarray:
    """Return torch's answers, of shape [rows, ...]. `served` must be in eval mode."""
    with torch.no_grad():
        output = served(*(torch.from_numpy(array) for array in rows.values()))
    if not isinstance(output, torch.Tensor):
        raise ExportError(
            f"expected a module that returns one tensor, it returns a {type(output).__name__}"
        )
    return output.numpy()


def answer_onnx(session: onnxruntime.InferenceSession, rows: Rows) -> np.ndarray:
    """Return ONNX Runtime's answers, of shape [rows, ...]."""
    (output,) = session.run(None, dict(rows))
    return np.asarray(output)


def measure(served: Served, model: bytes, rows: Rows, threads: int = 1) -> Parity:
    """Compare ONNX Runtime with torch, and every row alone with the same row in its batch.

    Args:
        served: Network in eval mode, on the CPU.
        model: Serialized ONNX model of the same network.
        rows: Rows of each input by its name, as many as the greatest of `BATCHES`.
        threads: Number of threads of ONNX Runtime.

    Raises:
        ExportError: A difference is greater than rounding explains (`LIMIT`).
    """
    session = open_session(model, threads)
    alone = np.concatenate(
        [answer_onnx(session, take(rows, row, row + 1)) for row in range(max(BATCHES))]
    )
    scale = max(1.0, float(np.abs(alone).max()))
    from_torch = from_alone = 0.0
    for size in BATCHES:
        batch = take(rows, 0, size)
        answer = answer_onnx(session, batch)
        from_torch = max(from_torch, _difference(answer, answer_torch(served, batch)))
        from_alone = max(from_alone, _difference(answer, alone[:size]))
    if from_torch > LIMIT * scale:
        raise ExportError(
            f"ONNX Runtime and torch differ by {from_torch:.2g}: expected at most {EXACT:.0e}"
        )
    if from_alone > LIMIT * scale:
        raise ExportError(
            f"a row's answer changes by {from_alone:.2g} with the rows beside it: expected a "
            "network that answers every row for itself"
        )
    return Parity(torch=from_torch, alone=from_alone)


def take(rows: Rows, start: int, stop: int) -> dict[str, np.ndarray]:
    """Return the rows from `start` to `stop` of every input."""
    return {name: array[start:stop] for name, array in rows.items()}


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        raise ExportError(f"expected an output of shape {other.shape}, got {one.shape}")
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())
