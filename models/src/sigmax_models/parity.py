"""Compares the answers of an ONNX file with those of its torch module, in several batch sizes."""

from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch

from sigmax_models.errors import ExportError
from sigmax_models.graph import Served
from sigmax_models.inputs import Rows, take
from sigmax_models.modules import first_line

# Batch sizes of the comparison, in rows.
BATCHES = (1, 2, 7, 64)
# Most that two good implementations of one network differ in 32-bit floats, absolute.
EXACT = 1e-6
# Most that rounding explains, relative to the greatest output, but at least to 1.
LIMIT = 1e-3
# The same for outputs of few bits, in units of the last place: half precision has 11 bits.
LIMIT_OF_LAST_PLACE = 8


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


def answers_torch(served: Served, rows: Rows) -> dict[str, np.ndarray]:
    """Return torch's answers of each output by its name, of shape [rows, ...].

    A module that drops the batch axis of a single row gets it back.

    Args:
        served: Network in eval mode.
        rows: Rows of each input by its name.

    Raises:
        ExportError: The module does not run with these rows.
    """
    count = len(next(iter(rows.values())))
    try:
        with torch.no_grad():
            output = served([torch.from_numpy(array) for array in rows.values()])
    except Exception as error:  # the module is another's, and raises what it likes
        raise ExportError(
            f"the module does not run with {_say_shapes(rows)}: {first_line(error)}"
        ) from error
    outputs = output if isinstance(output, tuple) else (output,)
    answers = {}
    for each, values in zip(served.outputs, outputs, strict=True):
        array = values.numpy()
        answers[each.name] = array[np.newaxis] if count == 1 and lost_batch(array) else array
    return answers


def lost_batch(answer: np.ndarray | torch.Tensor) -> bool:
    """Whether the answer to a single row has no batch axis, as after `squeeze()`."""
    return answer.shape[:1] != (1,)


def answers_onnx(session: onnxruntime.InferenceSession, rows: Rows) -> dict[str, np.ndarray]:
    """Return ONNX Runtime's answers of each output by its name, of shape [rows, ...].

    Raises:
        ExportError: ONNX Runtime does not run the model with these rows.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        answers = session.run(names, dict(rows))
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ExportError(
            f"ONNX Runtime does not run the exported model with {_say_shapes(rows)}: "
            f"{first_line(error)}"
        ) from error
    return {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)}


def answer_torch(served: Served, rows: Rows) -> np.ndarray:
    """Return torch's answers of the only output, of shape [rows, ...]."""
    (answer,) = answers_torch(served, rows).values()
    return answer


def answer_onnx(session: onnxruntime.InferenceSession, rows: Rows) -> np.ndarray:
    """Return ONNX Runtime's answers of the only output, of shape [rows, ...]."""
    (answer,) = answers_onnx(session, rows).values()
    return answer


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
    single = [answers_onnx(session, take(rows, row, row + 1)) for row in range(max(BATCHES))]
    from_torch = dict.fromkeys(single[0], 0.0)
    from_alone = dict.fromkeys(single[0], 0.0)
    alone = {name: np.concatenate([answer[name] for answer in single]) for name in single[0]}
    for size in BATCHES:
        batch = take(rows, 0, size)
        by_torch = answers_torch(served, batch)
        for name, answer in answers_onnx(session, batch).items():
            from_torch[name] = max(from_torch[name], _difference(answer, by_torch[name]))
            from_alone[name] = max(from_alone[name], _difference(answer, alone[name][:size]))
    for name, answer in alone.items():
        limit = _limit(answer)
        if from_torch[name] > limit:
            raise ExportError(
                f"ONNX Runtime and torch differ by {from_torch[name]:.2g}: "
                f"expected at most {EXACT:.0e}"
            )
        if from_alone[name] > limit:
            raise ExportError(
                f"a row's answer changes by {from_alone[name]:.2g} with the rows beside it: "
                "expected a network that answers every row for itself"
            )
    return Parity(torch=max(from_torch.values()), alone=max(from_alone.values()))


def _say_shapes(rows: Rows) -> str:
    return ", ".join(f"{name!r} of shape {list(array.shape)}" for name, array in rows.items())


def _limit(answer: np.ndarray) -> float:
    """Return the greatest difference that rounding explains."""
    scale = max(1.0, float(np.abs(answer).max()))
    return scale * max(LIMIT, LIMIT_OF_LAST_PLACE * float(np.finfo(answer.dtype).eps))


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        raise ExportError(f"expected an output of shape {other.shape}, got {one.shape}")
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())
