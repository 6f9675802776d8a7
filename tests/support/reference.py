"""What a network must answer, by ONNX Runtime on the CPU, in this process."""

from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from support.server import Server
from support.wire import Tensor, infer

# Most that a probability of a GPU may differ from the CPU's. Sums are taken in another order there,
# in FP32 without TF32; docs/gpu.md says what that means.
GPU_TOLERANCE = 1e-4


class Reference:
    """A model with one input and one output.

    Args:
        file: The ONNX file.
    """

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        provider = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(file, options, providers=provider)
        [self._input] = self._session.get_inputs()

    def rows(self, count: int, seed: int = 0) -> np.ndarray:
        """So many rows that its input takes, other ones for another seed."""
        chance = np.random.default_rng(seed)
        shape = (count, *self._input.shape[1:])
        if self._input.type == "tensor(uint8)":
            return chance.integers(0, 256, shape, np.uint8)
        if self._input.type == "tensor(int16)":
            return chance.integers(-(2**15), 2**15, shape, np.int16)
        return chance.normal(size=shape).astype(np.float32)

    def tensor(self, rows: np.ndarray) -> Tensor:
        """The rows as a request has them."""
        return Tensor.of(self._input.name, rows, rows.dtype)

    def answer(self, rows: np.ndarray) -> np.ndarray:
        """What the rows must be answered with."""
        return np.asarray(self._session.run(None, {self._input.name: rows})[0])


class Asked:
    """A model of a server, whose answers are held against those of the CPU.

    Args:
        server: Where it is served.
        name: What it is called there.
        file: Its file.
    """

    def __init__(self, server: Server, name: str, file: Path) -> None:
        self._server, self._name = server, name
        self._reference = Reference(file)
        self._seed = 0

    def ask(self, count: int = 3, tolerance: float = GPU_TOLERANCE) -> float:
        """Ask for so many rows, other ones each time; returns the largest difference."""
        self._seed += 1
        rows = self._reference.rows(count, self._seed)
        [answer] = infer(self._server, self._name, self._reference.tensor(rows))
        difference = float(np.abs(answer.array - self._reference.answer(rows)).max())
        assert difference <= tolerance
        return difference
