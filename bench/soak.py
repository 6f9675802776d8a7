"""Runs a long mixed load, under which no answer may be wrong and nothing may grow: `make soak`.

    python -m bench.soak SECONDS [--times-may-vary]

Every answer is compared with ONNX Runtime's own, bit for bit. Some clients reset their calls or
vanish during them, and come back. Memory, open files and times are sampled a hundred times. The
first tenth is the warm-up. The exit code is 1 where the last tenth is above the second.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sigmax

from bench import load, options, questions, rude, servers
from bench.load import Load
from bench.questions import Model
from bench.servers import Server

SAMPLES = 100
# (model, rows of a request, requests per second): together about a third of a core's capacity.
MIX = [
    ("light", 1, 2000.0),
    ("light", 17, 200.0),
    ("light", 1024, 50.0),
    ("wide", 1, 100.0),
    ("wide", 9, 20.0),
]
# Most that the last tenth may be above the second: a share of the second, plus a fixed amount for
# noise, in MiB, in files and in microseconds.
MEMORY = (0.02, 2.0)
FILES = (0.0, 2.0)
P99 = (0.5, 500.0)


@dataclass(frozen=True)
class Sample:
    """The measurements of one interval.

    Attributes:
        answers: Number of requests answered in the interval.
        mib: Resident memory of the server at the end of the interval, in MiB.
        files: Number of the server's file descriptors at the end of the interval.
        p99_us: 99th percentile of the times of one-row requests to the light model, in
            microseconds.
    """

    answers: int
    mib: float
    files: int
    p99_us: float

    def __str__(self) -> str:
        return (
            f"{self.answers:>9,} answers   {self.mib:6.1f} MiB   {self.files:3} files   "
            f"p99 {self.p99_us:7,.0f} us"
        )


def main() -> None:
    """Run the load, and print whether anything grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seconds", type=float, help="duration of the load")
    parser.add_argument(
        "--times-may-vary", action="store_true", help="for a machine that does other things too"
    )
    given = parser.parse_args()
    servers.build_examples()
    samples = soak(given.seconds)
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    print(f"{sum(sample.answers for sample in samples):,} answers, every one right")
    flat = [
        grown("MiB", [it.mib for it in early], [it.mib for it in late], *MEMORY),
        grown("files", [it.files for it in early], [it.files for it in late], *FILES),
    ]
    times = grown("us at p99", [it.p99_us for it in early], [it.p99_us for it in late], *P99)
    sys.exit(not all(flat) or not (times or given.times_may_vary))


def soak(seconds: float) -> list[Sample]:
    """Load a server for `seconds`, and return the samples of that time.

    Raises:
        RuntimeError: An answer was wrong or missing.
    """
    server_core, load_core = options.cores()
    models = {name: Model(name) for name, _, _ in MIX}
    repositories = [model.repository for model in models.values()]
    samples: list[Sample] = []
    with servers.sigmax(repositories, server_core) as server:
        loads = [
            Load(questions.model_infer(server, models[name], rows), connections=4, rate=rate)
            for name, rows, rate in MIX
        ]
        idle = server.open_files()
        count, gone = min(SAMPLES, round(seconds)), 0
        for number in range(count):
            with rude.beside(server.address, loads[0].question) as others:
                outcomes = load.send(server, loads, load_core, seconds / count)
            gone += others.count
            answers = sum(outcome.clean().right for outcome in outcomes)
            answers += sum(classified(server, model, number) for model in models.values())
            assert outcomes[0].times is not None
            mib = server.resident_bytes() / 2**20
            samples.append(Sample(answers, mib, files_at_rest(server, idle), outcomes[0].times.p99))
            print(f"{(number + 1) * seconds / count:7,.0f} s   {samples[-1]}", flush=True)
        print(f"{gone:,} other clients have reset their calls or vanished")
    return samples


def classified(server: Server, model: Model, seed: int) -> int:
    """Classify new rows by the SDK, and return the number of right answers.

    Raises:
        RuntimeError: An answer was wrong.
    """
    chance = np.random.default_rng(seed)
    width = model.input.shape[1]
    with sigmax.Client(server.address, timeout=60) as client:
        for count in (1, 2, 31):
            rows = chance.normal(size=(count, width)).astype(np.float32)
            found = client.classify(model.name, rows).probabilities
            if found.tobytes() != model.answer(rows).tobytes():
                raise RuntimeError(f"{model.name} answers {count} rows unlike ONNX Runtime itself")
    return 3


def files_at_rest(server: Server, idle: int) -> int:
    """Return the server's file descriptors once they are down to `idle`, or after five seconds.

    The server needs a moment to notice that clients have gone.
    """
    patience = time.monotonic() + 5
    while server.open_files() > idle and time.monotonic() < patience:
        time.sleep(0.01)
    return server.open_files()


def grown(
    what: str, early: Sequence[float], late: Sequence[float], share: float, noise: float
) -> bool:
    """Print the medians of both tenths, and return whether the figure is flat, and not grown."""
    before, after = statistics.median(early), statistics.median(late)
    flat = after <= before * (1 + share) + noise
    print(f"{what}: {before:,.1f} at first, {after:,.1f} in the end: {'flat' if flat else 'GROWN'}")
    return flat


if __name__ == "__main__":
    main()
