"""The right answers of a network, by ONNX Runtime on the CPU, in this process."""

from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from support.server import Server
from support.wire import Tensor, infer

# Most that a probability of a GPU may differ from the CPU's, absolute. GPUs add in another order,
# in FP32 without TF32; docs/gpu.md has more on that.
GPU_TOLERANCE = 1e-4


class Reference:
    """A model with one input and one output, in a session on the CPU.

    Args:
        file: Path of the ONNX file.
    """

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        provider = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(file, options, providers=provider)
        [self._input] = self._session.get_inputs()

    def rows(self, count: int, seed: int = 0) -> np.ndarray:
        """Return `count` random rows for the input, the same for the same count and seed."""
        chance = np.random.default_rng(seed)
        shape = (count, *self._input.shape[1:])
        if self._input.type == "tensor(uint8)":
            return chance.integers(0, 256, shape, np.uint8)
        if self._input.type == "tensor(int16)":
            return chance.integers(-(2**15), 2**15, shape, np.int16)
        return chance.normal(size=shape).astype(np.float32)

    def tensor(self, rows: np.ndarray) -> Tensor:
        """Return the rows as a tensor of a request."""
        return Tensor.of(self._input.name, rows, rows.dtype)

    def answer(self, rows: np.ndarray) -> np.ndarray:
        """Return the right answer to the rows."""
        return np.asarray(self._session.run(None, {self._input.name: rows})[0])


class Asked:
    """A model of a server, whose answers are compared with those of the CPU.

    Args:
        server: Server of the model.
        name: Name of the model on the server.
        file: Path of the model's ONNX file.
    """

    def __init__(self, server: Server, name: str, file: Path) -> None:
        self._server, self._name = server, name
        self._reference = Reference(file)
        self._seed = 0

    def ask(self, count: int = 3, tolerance: float = GPU_TOLERANCE) -> float:
        """Query `count` rows, new ones each time, and return the largest absolute difference.

        Asserts that it is at most `tolerance`.
        """
        self._seed += 1
        rows = self._reference.rows(count, self._seed)
        [answer] = infer(self._server, self._name, self._reference.tensor(rows))
        difference = float(np.abs(answer.array - self._reference.answer(rows)).max())
        assert difference <= tolerance
        return difference
