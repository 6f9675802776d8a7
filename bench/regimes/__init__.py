"""The regimes. Each file measures one, with its peers and its goals, in the same minute."""

from collections.abc import Callable, Mapping

from bench.measure import Settings
from bench.regimes import (
    connections,
    cores,
    gpu,
    gpu_answers,
    heavy,
    large,
    latency,
    mixed,
    overload,
    polling,
    python,
    small,
    start,
    tls,
)
from bench.report import Line

ALL: Mapping[str, Callable[[Settings], list[Line]]] = {
    "start": start.measure,
    "small": small.measure,
    "latency": latency.measure,
    "polling": polling.measure,
    "large": large.measure,
    "cores": cores.measure,
    "connections": connections.measure,
    "tls": tls.measure,
    "heavy": heavy.measure,
    "mixed": mixed.measure,
    "overload": overload.measure,
    "python": python.measure,
    "gpu": gpu.measure,
    "gpu-answers": gpu_answers.measure,
}
