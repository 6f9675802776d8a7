"""Asks a server from one Python thread, 1 request in flight, by several clients in short turns.

    taskset --cpu-list 1 python bench/peers/python_client.py ADDRESS MODEL ROWS SECONDS

Every client reads the model's answer as an array. The program prints JSON: for each client its
calls, their wall-clock seconds, and the CPU seconds of all threads of the process meanwhile.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Call = Callable[[], object]

TURN = 50  # calls of one client before the next has its turn


def classify(address: str, model: str, rows: Rows) -> Call:
    """Ask by the SDK for classes, decisions and all probabilities, the defaults of `classify`."""
    import sigmax

    client = sigmax.Client(address)
    return lambda: client.classify(model, rows).probabilities


def infer(address: str, model: str, rows: Rows) -> Call:
    """Ask by the SDK for the model's output, as tritonclient does."""
    import sigmax

    client = sigmax.Client(address)
    [output] = client.model(model).outputs
    return lambda: client.infer(model, rows)[output.name]


def tritonclient(address: str, model: str, rows: Rows) -> Call:
    """Ask by Triton's own client for the model's output."""
    from tritonclient.grpc import (  # type: ignore[import-untyped]
        InferenceServerClient,
        InferInput,
    )

    client = InferenceServerClient(address)
    described: Any = client.get_model_metadata(model)
    name, output = described.inputs[0].name, described.outputs[0].name

    def call() -> object:
        tensor = InferInput(name, rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        return client.infer(model, [tensor]).as_numpy(output)

    return call


CLIENTS = {each.__name__: each for each in (classify, infer, tritonclient)}


def main() -> None:
    """Have the clients call in turn until each has used the given seconds, more or less."""
    address, model, count, duration = sys.argv[1:]
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(int(count), 10)).astype(np.float32)
    calls = {name: make(address, model, rows) for name, make in CLIENTS.items()}
    for call in calls.values():
        turn(call)  # a warm-up
    totals = {name: np.zeros(3) for name in calls}
    end = time.perf_counter() + float(duration) * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            totals[name] += turn(call)
    keys = ("calls", "seconds", "cpu_seconds")
    print(json.dumps({name: dict(zip(keys, each, strict=True)) for name, each in totals.items()}))


def turn(call: Call) -> tuple[float, float, float]:
    """Call some times; return how often, the wall-clock seconds, and the CPU seconds."""
    cpu, started = time.process_time(), time.perf_counter()
    for _ in range(TURN):
        call()
    return TURN, time.perf_counter() - started, time.process_time() - cpu


if __name__ == "__main__":
    main()
