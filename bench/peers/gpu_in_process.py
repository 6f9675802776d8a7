"""ONNX Runtime alone on the first GPU, called in a loop by one thread, in one of three ways.

    taskset --cpu-list 0 python -m bench.peers.gpu_in_process MODEL.onnx ROWS SECONDS WAY

plain: run with arrays; binding: the arrays are copied into tensors that stay on the GPU; graphs:
that, replayed as a CUDA graph. The options are the server's. Prints the runs a second.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from bench.peers.in_process import values

WARM = 50  # runs, before any is timed


def main() -> None:
    """Run the model until the seconds are over."""
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
    """Open the model on the GPU, or fail: never on the CPU."""
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
    """Arrays in, arrays out; ONNX Runtime copies them both ways."""
    (tensor,) = opened.get_inputs()
    given = {tensor.name: values(tensor, rows)}
    return lambda: opened.run(None, given)


def bound(opened: Any, rows: int) -> Callable[[], object]:
    """Tensors that stay on the GPU, filled and read by each run."""
    (tensor,), (output,) = opened.get_inputs(), opened.get_outputs()
    given = values(tensor, rows)
    value = onnxruntime.OrtValue
    x = value.ortvalue_from_numpy(given, "cuda", 0)
    y = value.ortvalue_from_shape_and_type((rows, *output.shape[1:]), np.float32, "cuda", 0)
    binding = opened.io_binding()
    binding.bind_ortvalue_input(tensor.name, x)
    binding.bind_ortvalue_output(output.name, y)
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "1")  # without graphs it says nothing

    def run() -> object:
        x.update_inplace(given)
        opened.run_with_iobinding(binding, options)
        return y.numpy()

    return run


WAYS = {"plain": plain, "binding": bound, "graphs": bound}

if __name__ == "__main__":
    main()
