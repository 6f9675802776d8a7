"""Loads models into a running server."""

from sigmax_server import model_config
from sigmax_server._native import OpenedModel, Report, Server, open_content, open_model
from sigmax_server.config import ServerConfig
from sigmax_server.describe import describe
from sigmax_server.device import Devices
from sigmax_server.graph import ContradictionError
from sigmax_server.machine import usable_memory
from sigmax_server.model_spec import ModelSpec
from sigmax_server.repository import Found
from sigmax_server.table import Failed, Served
from sigmax_server.text import why


def load(server: Server, found: Found, config: ServerConfig, devices: Devices) -> Served | Failed:
    """Load a declared version of a model, and return the outcome.

    A failure is reported to the server, too, and raises nothing.
    """
    try:
        spec, report = load_or_raise(server, found, config, devices)
    # Any fault of one model leaves the other models alone.
    except Exception as error:
        reason = why(error)
        server.fail(found.name, found.version, reason)
        return Failed(found.name, found.version, reason)
    return Served(
        found.name,
        found.version,
        _inputs(spec),
        ", ".join(head.task for head in spec.heads) or "none",
        report.device,
        report.heavy,
        report.rows_independent,
        report.preferred_batch_size,
        _notes(spec, report),
    )


def load_or_raise(
    server: Server, found: Found, config: ServerConfig, devices: Devices
) -> tuple[ModelSpec, Report]:
    """Load a declared version of a model, and return its configuration and its warm-up's results.

    Raises:
        Exception: the model cannot be served; `text.why` gives the reason.
    """
    opened = _open(found, config.load_timeout_seconds)
    choice = devices.place(model_config.groups(found.config))
    spec = describe(opened, found, config.max_batch_size, choice)
    if spec.max_batch_size > config.queue_rows:
        raise ContradictionError(
            f"max_batch_size: expected at most --queue-rows, which is {config.queue_rows}, "
            f"got {spec.max_batch_size}"
        )
    return spec, server.load(opened, spec)


def _notes(spec: ModelSpec, report: Report) -> tuple[str, ...]:
    """Return the warnings, the speed and failures of alternatives, and why CUDA graphs are off."""
    timings = [
        f"{each.device}: {each.microseconds_per_row:,.0f} us for a row, "
        f"{each.rows_per_second:,.0f} rows/s in full batches"
        for each in report.alternatives
    ]
    failed = 1 < len(spec.placements) > len(report.alternatives)
    graphs = [f"CUDA graphs {report.graphs}"] if report.graphs.startswith("off") else []
    return (*report.warnings, *timings, *([report.device_reason] if failed else []), *graphs)


def _open(found: Found, seconds: float) -> OpenedModel:
    if found.problem or found.file is None:
        raise ContradictionError(found.problem)
    if found.content is not None:
        return open_content(str(found.file), found.content, seconds)
    return open_model(str(found.file), usable_memory(), seconds)


def _inputs(spec: ModelSpec) -> str:
    return ", ".join(f"{each.name} {each.dtype}{list(each.dims)}" for each in spec.inputs)
