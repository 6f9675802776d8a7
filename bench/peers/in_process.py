"""Runs ONNX Runtime alone in a loop of one thread: the most that a server can do on one core.

    taskset --cpu-list 0 python bench/peers/in_process.py MODEL.onnx ROWS SECONDS

The program prints a line when the loop begins, and the runs per second at the end.
"""

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]


def values(tensor: Any, rows: int) -> npt.NDArray[Any]:
    """Return random rows for this input of a session, the same for the same number of rows."""
    chance = np.random.default_rng(rows)
    shape = (rows, *tensor.shape[1:])
    if tensor.type == "tensor(uint8)":
        return chance.integers(0, 256, shape, np.uint8)
    if tensor.type == "tensor(int16)":
        return chance.integers(-(2**15), 2**15, shape, np.int16)
    return chance.normal(size=shape).astype(np.float32)


def main() -> None:
    """Run the model for the given seconds."""
    file, rows, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    given = {tensor.name: values(tensor, rows)}
    print("running", flush=True)
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(None, given)
        runs += 1
    print(runs / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
