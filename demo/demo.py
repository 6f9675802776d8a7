"""The demo: trains and exports seven networks, serves them, classifies with them, and reports.

`make demo` runs it. The exit code is 1 where an answer is wrong.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import sigmax
from sigmax_models import networks
from sigmax_models.cli import train_main
from sigmax_models.network import Network, Sample
from sigmax_models.networks import linear
from sigmax_models.parity import EXACT, answer_torch
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
)

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = ROOT / "build/demo/repository"
SIGMAX = Path(sys.executable).with_name("sigmax")
BURST_SECONDS = 2.0
BURST_ROWS = 2**16
Answer = sigmax.Result | sigmax.Classification | sigmax.SigmaxError


def main() -> int:
    """Run the demo, and return the exit code."""
    heading("Train and export")
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    if train_main(["--repository", str(REPOSITORY)]) != 0:
        return 1
    heading("Serve")
    with serving() as (server, address), sigmax.Client(address, timeout=60) as client:
        client.wait_until_ready()
        heading("Ask what no training has seen")
        wrong = ask_linear(address)
        for network in networks.all_networks():
            if network.declaration.task is not None:
                wrong += ask(client, network)
        heading("A quick burst")
        burst(client, server)
        heading("Stop")
        wrong += stop(server)
    return conclude(wrong)


@contextmanager
def serving() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a server of the repository on free ports; yield its process and its gRPC address."""
    command = [str(SIGMAX), "serve", str(REPOSITORY), "--grpc-port=0", "--http-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server, address_of(server)
        finally:
            server.kill()


def address_of(server: "subprocess.Popen[str]") -> str:
    """Print the server's output until it is ready, and return its gRPC address."""
    assert server.stdout is not None
    for line in server.stdout:
        print(line, end="")
        if found := re.match(r"ready: gRPC ([^,]+),", line):
            return found[1]
        if line.startswith("not ready: "):
            raise SystemExit("the server cannot serve every network")
    raise SystemExit(f"the server ended before it was ready, with exit code {server.wait()}")


def ask(client: sigmax.Client, network: Network) -> list[str]:
    """Classify all unseen samples of a network as one batch, and return the faults."""
    samples = network.unseen()
    rows = np.stack([sample.row for sample in samples])
    result = client.classify(network.name, rows)
    served = network.load(network.weights_path(REPOSITORY))
    by_torch = answer_torch(served, {network.input: rows})
    # A binary model's two probabilities are 1 - p and p; torch answers p.
    by_server = result.probabilities[:, -by_torch.shape[1] :]
    difference = float(np.abs(by_server - by_torch).max())

    title(network)
    print_pictures(samples)
    table(
        ("input", "expected", "answer", "probability"),
        [
            (sample.description, str(sample.expected), row.label, f"{row.probability:.4f}")
            for sample, row in zip(samples, result, strict=True)
        ],
    )
    print(f"  torch's answers differ by {difference:.1e} at most")
    wrong = [
        f"{network.name}: {sample.description}: expected {sample.expected}, got {row.label}"
        for sample, row in zip(samples, result, strict=True)
        if row.label != sample.expected
    ]
    if not difference <= EXACT:
        wrong.append(f"{network.name}: torch's answers differ by {difference}, over {EXACT}")
    return wrong


def ask_linear(address: str) -> list[str]:
    """Query the network without a task by Triton's own client, and return the faults.

    The answer is checked against W x + b, which is calculated here.
    """
    [sample] = linear.unseen()
    tensor = InferInput("input", [1, 3], "FP32")
    tensor.set_data_from_numpy(sample.row[np.newaxis])
    with InferenceServerClient(address) as client:
        scores = client.infer("linear", [tensor]).as_numpy("scores")[0]

    title(linear.NETWORK)
    print("  ModelInfer, from Triton's client, and W x + b by hand:")
    wrong = []
    for score, weights, bias in zip(scores, linear.WEIGHT, linear.BIAS, strict=True):
        terms = [f"{weight:+.5g} * {x:+.4f}" for weight, x in zip(weights, sample.row, strict=True)]
        by_hand = sum(w * float(x) for w, x in zip(weights, sample.row, strict=True)) + bias
        print(f"  {' '.join(terms)} {bias:+.5f} = {by_hand:+.6f}   answer {score:+.6f}")
        if not abs(score - by_hand) <= EXACT:
            wrong.append(f"linear: expected {by_hand}, got {score}")
    return wrong


def burst(client: sigmax.Client, server: "subprocess.Popen[str]") -> None:
    """Query `sequential` as fast as this process can, and print the rates."""
    rows = np.random.default_rng(0).normal(size=(BURST_ROWS, 10)).astype(np.float32)
    ways: dict[str, Callable[[], Iterator[Answer]]] = {
        "classify, 1 row a call": lambda: (
            client.classify("sequential", row, top_k=1, return_probabilities=False) for row in rows
        ),
        "classify_many": lambda: client.classify_many(
            "sequential", rows, top_k=1, return_probabilities=False
        ),
    }
    for name, ask_all in ways.items():
        before = cpu_seconds(server)
        count, seconds = hurry(ask_all)
        busy = (cpu_seconds(server) - before) / seconds
        print(
            f"  {name:>22}: {count / seconds:9,.0f} rows/s; "
            f"the server was busy {busy:.0%} of one core"
        )
    print(
        "  One thread of one Python process: it is the limit here, not the server,"
        "\n  which `make bench` measures."
    )


def hurry(ask_all: Callable[[], Iterator[Answer]]) -> tuple[int, float]:
    """Ask until `BURST_SECONDS` have passed; return the number of rows, and the seconds."""
    started = time.monotonic()
    labels = []
    while True:
        for answer in ask_all():
            if isinstance(answer, sigmax.SigmaxError):
                raise answer
            labels.append(answer.label)
            seconds = time.monotonic() - started
            if seconds >= BURST_SECONDS:
                return len(labels), seconds


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    """Return the CPU seconds that all threads of a process have used.

    They are the sum of utime and stime, which are in clock ticks (proc(5)).
    """
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(server: "subprocess.Popen[str]") -> list[str]:
    """End the server by SIGTERM, as an operator would, and return the faults."""
    server.send_signal(signal.SIGTERM)
    code = server.wait(timeout=60)
    print(f"  SIGTERM, exit code {code}", flush=True)
    return [] if code == 0 else [f"the server ended with exit code {code}, expected 0"]


def conclude(wrong: Sequence[str]) -> int:
    """Print the faults or the success, and return the exit code."""
    print()
    for fault in wrong:
        print(f"DISAGREES: {fault}")
    if wrong:
        return 1
    command = " ".join([short(SIGMAX), "serve", short(REPOSITORY)])
    print(f"Everything agrees. To serve these networks yourself:\n\n    {command}")
    return 0


def short(path: Path) -> str:
    """Return a path relative to the current folder, where it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def heading(text: str) -> None:
    """Print the heading of a part of the report."""
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def title(network: Network) -> None:
    """Print the name and the summary of a network."""
    print(f"\n{network.name}: {network.summary}")


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell."""
    widths = [max(map(columns, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [
            cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        print(f"  {'   '.join(cells)}".rstrip())


def columns(text: str) -> int:
    """Return a text's width in columns of a terminal; Chinese and Japanese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def print_pictures(samples: Sequence[Sample]) -> None:
    """Print the pictures of the samples that have one, side by side."""
    pictures = [sample.picture.split("\n") for sample in samples if sample.picture]
    for lines in zip(*pictures, strict=True):
        print(f"  {'   '.join(lines)}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
