"""The command `sigmax doctor`: prints what can run models here, what is missing, and its remedy."""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Sequence

from sigmax_server import __version__
from sigmax_server._native import NativeError, load_runtime, providers
from sigmax_server.device import Choice, Cuda, Devices, Problem
from sigmax_server.machine import core_quota, machine_memory, usable_cores, usable_memory
from sigmax_server.runtime import RuntimeLibraryError, find_runtime
from sigmax_server.text import plain

# The findings, by their names for people; a list where there may be several of a kind.
Facts = dict[str, str | list[str]]


def main(argv: list[str]) -> int:
    """Print the findings.

    Args:
        argv: the arguments after `sigmax doctor`.

    Returns:
        The exit code: 0 where a server can run here, if only on the CPU; 1 where none can.

    Raises:
        SystemExit: with 2 where the command line is wrong, with 0 after `--help`.
    """
    parser = argparse.ArgumentParser(
        prog="sigmax doctor",
        description="Print what a server has to run models on, what is missing, and what mends it.",
        epilog="It exits with 0 where a server can run here, be it on the CPU, otherwise with 1.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print it as a JSON object")
    options = parser.parse_args(argv)
    facts, can_run = examine()
    print(json.dumps(facts, indent=2) if options.json else _lines(facts))
    return 0 if can_run else 1


def examine() -> tuple[Facts, bool]:
    """Collect the findings, and whether a server can run here."""
    facts: Facts = {
        "sigmax-server": __version__,
        "Python": f"{platform.python_version()}, {sys.executable}",
        **_machine(),
    }
    try:
        library = find_runtime()
        version = load_runtime(str(library))
    except (RuntimeLibraryError, NativeError) as error:
        return {**facts, "ONNX Runtime": str(error)}, False
    cuda = Cuda(library)
    facts |= {"ONNX Runtime": f"{version}, {library}", "providers": providers(), **_cuda(cuda)}
    return {**facts, **_verdict(Devices("auto", cuda).choice, list(cuda.problems()))}, True


def _machine() -> Facts:
    quota = core_quota()
    limit = f"{quota:g} by the control groups' quota" if quota < math.inf else "no quota"
    return {
        "cores": f"{usable_cores()} usable: {os.cpu_count()} in the machine, "
        f"{len(os.sched_getaffinity(0))} by affinity, {limit}",
        "memory": f"{_gibibytes(usable_memory())} usable, {_gibibytes(machine_memory())} in the "
        "machine",
    }


def _cuda(cuda: Cuda) -> Facts:
    driver = cuda.driver
    runs = f"runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda[0] else ""
    said = ", ".join(filter(None, [driver.version, runs, driver.problem]))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    facts: Facts = {
        "NVIDIA's driver": said,
        "GPUs": [
            f"{gpu.device}: {gpu.name}, {_gibibytes(gpu.memory)}, compute capability "
            f"{gpu.capability}{_broken(cuda.problem(gpu.device))}"
            for gpu in driver.gpus
        ],
    }
    if visible is not None:
        facts["CUDA_VISIBLE_DEVICES"] = visible
    if cuda.major:
        facts["CUDA's libraries"] = [
            f"{each.name}: {each.path or f'{each.problem}; {_need(each.use)}'}"
            for each in cuda.libraries
        ]
        facts["looked for in"] = [*map(str, cuda.folders), "the folders of the system's loader"]
    return facts


def _broken(problem: str) -> str:
    return f"; cannot be used: {problem}" if problem else ""


def _need(use: str) -> str:
    return f"some networks need it, for {use}" if use else "nothing runs on a GPU without it"


def _verdict(choice: Choice, problems: Sequence[Problem]) -> Facts:
    facts: Facts = {"--device auto": str(choice)}
    if problems:
        facts["for a GPU"] = [str(problem) for problem in problems]
    return facts


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _lines(facts: Facts) -> str:
    return "\n".join(line for name, said in facts.items() for line in _fact(name, said))


def _fact(name: str, said: str | list[str]) -> Iterator[str]:
    width = 22
    several = [said] if isinstance(said, str) else said
    for label, text in zip([name, *[""] * len(several)], several or ["none"], strict=False):
        yield f"{label:{width}}{plain(text)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
