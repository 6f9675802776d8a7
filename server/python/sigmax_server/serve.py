"""One run of a server, from the scan of its repositories to its exit code."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from sigmax_server._native import NativeError, Server, load_runtime
from sigmax_server.config import ServerConfig
from sigmax_server.control import Control
from sigmax_server.device import Choice, Cuda, DeviceError, Devices
from sigmax_server.load import load
from sigmax_server.location import Location
from sigmax_server.repository import Found, RepositoryError, scan
from sigmax_server.runtime import RuntimeLibraryError, find_runtime
from sigmax_server.say import finish, say, warn_of_unused
from sigmax_server.table import Failed, Served, table

_ENDING = (signal.SIGINT, signal.SIGTERM)
# SIGHUP, which a closed terminal sends, begins the end, too, unless `nohup` has it ignored. Because
# a terminal may send it twice, SIGHUP never counts as the second signal.
_HANGUP = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
_BEGINNING = (*_ENDING, *_HANGUP)
_SLICE = 0.1  # most seconds until a signal is noticed, while the main thread waits for other things


def serve(locations: Sequence[Location], config: ServerConfig) -> int:
    """Serve the models in `locations` until a signal, as the only job of a process.

    After the first SIGINT, SIGTERM or SIGHUP the server answers the accepted requests and ends. A
    second signal, SIGINT or SIGTERM, ends it at once. The signals stay blocked to the end, because
    a late one must not turn a clean end into a traceback.

    Returns:
        The exit code 1 where the server could not start. Once it runs, this function ends the
        process: with 0 after a clean end, with 1 where it could not answer all accepted requests,
        or where a model cannot be served and `exit_on_error` is set.
    """
    # Signals are blocked before any thread starts, because threads inherit the mask. Only
    # `sigwait` and its like, in this thread, then receive them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _BEGINNING)
    try:
        models = _chosen(scan(locations, may_be_empty=config.model_control == "explicit"), config)
        runtime = find_runtime()
        load_runtime(str(runtime))
        devices = Devices(config.device, Cuda(runtime))
        chosen = devices.choice
        server = Server(config)
    except (RepositoryError, RuntimeLibraryError, DeviceError, NativeError, OSError) as error:
        say(f"error: {error}")
        return 1
    _warn(models, config, devices)
    outcomes = _load_all(server, models, config, devices)
    if outcomes is None:
        return _stop(server, config.grace_seconds)
    print(_uses(config, chosen))
    print(server.access)
    print(table(outcomes))
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if failures and config.exit_on_error:
        for failure in failures:
            say(f"error: {failure.name} cannot be served: {failure.reason}")
        server.stop()
        _end(1)
    if config.model_control == "explicit":
        Control(server, locations, config, devices).start()
    print(_state(server, len(outcomes), len(failures)))
    signal.sigwait(_BEGINNING)
    return _stop(server, config.grace_seconds)


def _chosen(models: list[Found], config: ServerConfig) -> list[Found]:
    """Return the models to load at the start: all, or with model control those of --load-model."""
    if config.model_control == "none" or config.load_model == "*":
        return models
    names = set(filter(None, config.load_model.split(",")))
    if missing := sorted(names - {found.name for found in models}):
        raise RepositoryError(
            f"--load-model: expected models of the repositories, got {', '.join(missing)}"
        )
    return [found for found in models if found.name in names]


def _load_all(
    server: Server, models: Sequence[Found], config: ServerConfig, devices: Devices
) -> list[Served | Failed] | None:
    """Load every model, and return the outcomes; None where a signal came in the meantime."""
    for found in models:
        server.declare(found.name, found.version)
    outcomes: list[Served | Failed] = []
    errors: list[BaseException] = []

    def load_all() -> None:
        try:
            outcomes.extend(load(server, found, config, devices) for found in models)
        except BaseException as error:
            errors.append(error)

    # Models are loaded in another thread, so that signals are noticed during a long load.
    loading = threading.Thread(target=load_all, name="load", daemon=True)
    loading.start()
    while loading.is_alive():
        if signal.sigpending() & set(_BEGINNING):
            signal.sigwait(_BEGINNING)
            return None
        loading.join(_SLICE)
    if errors:
        raise errors[0]
    server.finish_loading()
    return outcomes


def _warn(models: Iterable[Found], config: ServerConfig, devices: Devices) -> None:
    if risks := config.risks:
        say(f"warning: --insecure: {', and '.join(risks)}")
    for warning in devices.warnings():
        say(f"warning: {warning}")
    warn_of_unused(models)


def _uses(config: ServerConfig, chosen: Choice) -> str:
    """Return a line on the cores, the memory and the devices that the server uses."""
    one = min(config.max_message_bytes, config.memory_budget // 2) / 2**20
    return (
        f"uses: shards {config.shards} of {os.cpu_count()} cores, "
        f"{config.memory_budget / 2**20:.0f} MiB for requests and answers of at most "
        f"{one:.0f} MiB; {chosen}"
    )


def _state(server: Server, models: int, failures: int) -> str:
    """Return one line with the server's addresses that says whether it is ready."""
    addresses = f"gRPC {server.grpc_address}, HTTP {server.http_address}"
    if not server.is_ready():
        return f"not ready: {addresses}; {failures} of {models} models cannot be served"
    return f"ready: {addresses}; after {_age() * 1e3:.0f} ms"


def _age() -> float:
    """Return the age of this process in seconds, in steps of the kernel's clock tick (10 ms)."""
    # The name in parentheses may hold any character. The start time is the 20th field after it
    # (proc(5)).
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _stop(server: Server, grace: float) -> NoReturn:
    """Let the server answer the accepted requests, for at most `grace` seconds; end the process."""
    server.drain()
    say(
        f"stopping: what was accepted is answered, for at most {grace:g} seconds; "
        "a second signal ends it at once"
    )
    deadline = time.monotonic() + grace
    # The wait is cut into slices, so that a second signal is noticed soon.
    while not server.wait(min(_SLICE, max(0.0, deadline - time.monotonic()))):
        if signal.sigtimedwait(_ENDING, 0):
            say("ending at once, by a second signal")
            break
        if time.monotonic() >= deadline:
            say(f"ending, because --grace-seconds, which is {grace:g}, are over")
            break
    lost = server.stop()
    if lost:
        say(f"error: {lost} accepted requests were not answered")
    _end(1 if lost else 0)


def _end(code: int) -> NoReturn:
    """End the process without running the libraries' destructors.

    A thread may still be inside ONNX Runtime, loading a model or hanging in a run.
    """
    finish()
    os._exit(code)
