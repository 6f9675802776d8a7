"""Runs Triton's perf_analyzer, unmodified, against the server in every mode.

The binary is in the wheel of tritonclient 2.50.0, the last that has it. It needs CUDA's runtime
library, which is in a wheel, too, and libb64 (Debian: `apt-get install libb64-0d`). The exit code
is 1 where a mode fails, or prints no statistics of the server.
"""

import ctypes.util
import os
import re
import subprocess
import sys
from pathlib import Path

from bench import models, servers
from bench.servers import BUILD, ROOT

REQUIREMENTS = ROOT / "tests/foreign/python/perf_analyzer.txt"
MODEL = "sequential"
MODES = {
    "sync": ["--sync"],
    "async": ["--async"],
    "streaming": ["--async", "--streaming"],
    "shared memory": ["--shared-memory=system", "--output-shared-memory-size=4096"],
}


def main() -> None:
    """Run every mode, and print the results in one table."""
    if ctypes.util.find_library("b64") is None:
        sys.exit("perf_analyzer needs libb64; on Debian: apt-get install libb64-0d")
    binary, environment = installed(BUILD / "perf_analyzer")
    repository = models.repository(MODEL)
    cores = os.sched_getaffinity(0)
    print("| mode | exit code | requests/s | server: requests | server: queue us, compute us |")
    print("| :-- | --: | --: | --: | --: |")
    failed = False
    with servers.sigmax([repository], {min(cores)}, "--shared-memory") as server:
        for mode, flags in MODES.items():
            command = [str(binary), "-m", MODEL, "-i", "grpc", "-u", server.address, "-p", "1000"]
            command += ["-r", "5", "-s", "50", "--concurrency-range", "4", *flags]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            said = numbers(done.stdout)
            failed |= done.returncode != 0 or said is None
            print(f"| {mode} | {done.returncode} | {said or done.stderr.strip()} |", flush=True)
    sys.exit(failed)


def installed(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return the binary and its environment variables; install it into `folder` where missing."""
    if not folder.exists():
        uv = os.environ.get("UV", "uv")
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*install, "-r", str(REQUIREMENTS)], check=True)
    binary = folder / "bin/perf_analyzer"
    binary.chmod(0o755)
    library = folder / "nvidia/cuda_runtime/lib"
    return binary, os.environ | {"LD_LIBRARY_PATH": str(library)}


def numbers(report: str) -> str | None:
    """Return the cells of a report: the client's throughput and the server's own statistics.

    Returns None where the report lacks them.
    """
    pattern = (
        r"Throughput: ([\d.]+) infer/sec[\s\S]*Successful request count: ([1-9]\d*)\s+"
        r"Avg request latency: .*\+ queue (\d+) usec.*compute infer (\d+) usec"
    )
    found = re.search(pattern, report)
    return "{} | {} | {}, {}".format(*found.groups()) if found else None


if __name__ == "__main__":
    main()
