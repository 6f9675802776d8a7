"""Classifies rows of an array by the SDK's `classify_many` in one thread, and reads their labels.

    taskset --cpu-list 1 python bench/peers/python_many.py ADDRESS MODEL SECONDS

The program prints JSON: the rows answered, the wall-clock seconds, and the CPU seconds of all
threads of the process.
"""

import json
import sys
import time

import numpy as np
import sigmax

ROWS = 2**17  # rows of one iteration


def main() -> None:
    """Classify for the given seconds, after one iteration as a warm-up."""
    address, model, duration = sys.argv[1:]
    rows = np.random.default_rng(0).normal(size=(ROWS, 10)).astype(np.float32)
    with sigmax.Client(address) as client:
        ask(client, model, rows[: ROWS // 8])
        count, cpu, started = 0, time.process_time(), time.perf_counter()
        while (seconds := time.perf_counter() - started) < float(duration):
            count += ask(client, model, rows)
        cpu = time.process_time() - cpu
    print(json.dumps({"calls": count, "seconds": seconds, "cpu_seconds": cpu}))


def ask(client: sigmax.Client, model: str, rows: np.ndarray) -> int:
    """Classify the rows, and return their number."""
    answers = client.classify_many(model, rows, top_k=1, return_probabilities=False)
    labels = [answer.label for answer in answers if not isinstance(answer, sigmax.SigmaxError)]
    if len(labels) != len(rows):
        raise RuntimeError(f"expected {len(rows)} labels, got {len(labels)}")
    return len(labels)


if __name__ == "__main__":
    main()
