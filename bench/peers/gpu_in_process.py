"""Runs ONNX Runtime alone on the first GPU, in a loop of one thread, in one of three ways.

    taskset --cpu-list 0 python -m bench.peers.gpu_in_process MODEL.onnx ROWS SECONDS WAY

The ways are: plain, a run with arrays; binding, arrays copied into tensors that stay on the GPU;
graphs, as binding, but replayed as a CUDA graph. The session's options are the server's. The
program prints the runs per second.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from bench.peers.in_process import values

WARM = 50  # runs before the timing begins


def main() -> None:
    """Run the model for the given seconds."""
    file, rows, seconds, way = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    run = WAYS[way](session(file, graphs=way == "graphs"), rows)
    for _ in range(WARM):
        run()
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        run()
        runs += 1
    print(runs / (time.perf_counter() - started))


def session(file: str, *, graphs: bool) -> Any:
    """Open the model on the GPU; end the process where it would run on the CPU instead."""
    onnxruntime.preload_dlls()
    on_gpu = {
        "device_id": 0,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": int(graphs),
    }
    opened = onnxruntime.InferenceSession(file, providers=[("CUDAExecutionProvider", on_gpu)])
    opened.disable_fallback()
    if opened.get_providers()[0] != "CUDAExecutionProvider":
        sys.exit(f"expected a session on the GPU, got {opened.get_providers()}")
    return opened


def plain(opened: Any, rows: int) -> Callable[[], object]:
    """Make a function that runs arrays, which ONNX Runtime copies to the GPU and back."""
    (tensor,) = opened.get_inputs()
    given = {tensor.name: values(tensor, rows)}
    return lambda: opened.run(None, given)


def bound(opened: Any, rows: int) -> Callable[[], object]:
    """Make a function that fills, runs and reads tensors that stay on the GPU."""
    (tensor,), (output,) = opened.get_inputs(), opened.get_outputs()
    given = values(tensor, rows)
    value = onnxruntime.OrtValue
    x = value.ortvalue_from_numpy(given, "cuda", 0)
    y = value.ortvalue_from_shape_and_type((rows, *output.shape[1:]), np.float32, "cuda", 0)
    binding = opened.io_binding()
    binding.bind_ortvalue_input(tensor.name, x)
    binding.bind_ortvalue_output(output.name, y)
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "1")  # has no effect without graphs

    def run() -> object:
        x.update_inplace(given)
        opened.run_with_iobinding(binding, options)
        return y.numpy()

    return run


WAYS = {"plain": plain, "binding": bound, "graphs": bound}

if __name__ == "__main__":
    main()
