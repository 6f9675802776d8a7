"""ONNX Runtime alone, called in a loop by one thread: no server can answer more on one core.

    taskset --cpu-list 0 python bench/peers/in_process.py MODEL.onnx ROWS SECONDS

prints the runs a second.
"""

import sys
import time

import numpy as np
import onnxruntime  # type: ignore[import-untyped]


def main() -> None:
    """Run the model until the seconds are over."""
    file, rows, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (tensor,) = session.get_inputs()
    values = np.random.default_rng(0).normal(size=(rows, *tensor.shape[1:])).astype(np.float32)
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(None, {tensor.name: values})
        runs += 1
    print(runs / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
