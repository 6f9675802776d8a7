"""The Rust data plane, as Python sees it.

Nothing here is stable: `sigmax_server` is the interface, this is its engine room.
Every call releases the interpreter while it works. Errors are `NativeError` with a message
that says what was expected and what came, unless stated otherwise.
"""

from pathlib import Path
from typing import Literal, final

DType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Task = Literal["binary", "multiclass", "multilabel"]

class NativeError(Exception):
    """The data plane refused or failed; the message is for people."""

def print_output(text: str) -> None:
    """Print lines to standard output, by a thread of its own: nobody waits for who reads it."""

def print_error(text: str) -> None:
    """Print lines to standard error, in the same way; what finds no room is dropped and counted.

    A line has at most 4096 bytes; the rest of a longer one is left out.
    """

def finish_output(seconds: float) -> bool:
    """Wait at most so long until all that was printed is written; whether it is."""

def load_runtime(library: str) -> str:
    """Open ONNX Runtime's library at this absolute path, once a process; returns its version."""

def providers() -> list[str]:
    """Return the providers that the library has been built with, such as CUDAExecutionProvider.

    The first is the one that the library would rather have. After `load_runtime`.
    """

def try_device(device: str) -> None:
    """Run a small network on a device, cpu or cuda:N, after `load_runtime`.

    The error has ONNX Runtime's own words. NVIDIA's libraries must have been loaded before.
    """

def read_file(path: str | Path, most_bytes: int) -> bytes:
    """Read a regular file of at most so many bytes; the error does not name it.

    Anything else, such as a folder, a device or a named pipe, is an error and not waited for.
    """

def read_config(text: str) -> str:
    """Turn a `config.pbtxt` into JSON: the fields that are set, by their own names."""

def canonical_config(json: str) -> str:
    """Turn any JSON that protobuf maps to a model configuration into that of `read_config`."""

@final
class TensorInfo:
    """One input or output, as the graph declares it."""

    name: str
    dtype: DType
    dims: list[int]  # the batch axis included where there is one; -1: any
    optional: bool  # the graph has a value of its own for this input

@final
class OpenedModel:
    """A model file that has been opened once; `Server.load` serves this very session."""

    path: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    metadata: dict[str, str]  # the file's own key-value metadata

def open_model(path: str, most_bytes: int, seconds: float) -> OpenedModel:
    """Open an ONNX file of less than 2 GiB, with weights of at most so many bytes beside it.

    All of it is read now, once: what happens to the files later changes nothing. It is to be loaded
    within so many seconds from now.

    A broken one, an unknown operator, an input or output that is no tensor of a known dtype are
    errors that name the file and the reason.
    """

def open_content(name: str, content: bytes, seconds: float) -> OpenedModel:
    """Open the content of an ONNX file that lies nowhere; `name` is for messages.

    All its weights must be inside. It is to be loaded within so many seconds from now.
    """

@final
class Report:
    """What warming a model up has shown."""

    heavy: bool  # served by workers of its own, not in the shards' loops
    rows_independent: bool
    preferred_batch_size: int  # rows
    microseconds_per_batch: list[tuple[int, float]]  # (rows, run time of one batch)
    device: str  # what it runs on: "cpu", "cuda:0", "cuda:0, cuda:1"
    device_reason: str  # the spec's, or how the choice between alternatives came out; may be empty
    alternatives: list[Timed]  # what was to choose from; empty where there was no choice
    graphs: str  # CUDA graphs: "on", "off: reason"; "" where it runs on no GPU

@final
class Timed:
    """How fast a model is somewhere."""

    device: str  # "cpu", "cuda:0", "cuda:0, cuda:1"
    microseconds_per_row: float  # of a run of one row
    rows_per_second: float  # in full batches, on all engines

@final
class Order:
    """What a client wants done with a model. Exactly one of its methods is called, once."""

    action: Literal["load", "unload", "index"]
    model: str  # empty for an index
    config: str | None  # replaces the repository's; any JSON of a model configuration
    files: dict[str, bytes]  # replace the repository's, by their paths in the model's folder

    def done(self, names: list[str]) -> None:
        """Say that it is done; `names` are those of an index."""

    def not_found(self, reason: str) -> None:
        """Say that there is no such model, or that its configuration is none."""

    def failed(self, reason: str) -> None:
        """Say that the model cannot be served."""

@final
class Server:
    """A running server: ports bound, threads started, no model yet and not ready."""

    def __init__(self, config: object) -> None:
        """Bind both ports and start the threads.

        `config` is a sigmax_server.config.Config, and server_name: str and server_version: str.
        OSError where a port cannot be bound, naming the address.
        """

    @property
    def grpc_address(self) -> str: ...  # "127.0.0.1:8001"
    @property
    def http_address(self) -> str: ...
    def declare(self, name: str, version: int) -> None:
        """Make a model known, as LOADING: requests are answered UNAVAILABLE until it is loaded.

        A version that serves already goes on until it is replaced.
        """

    def load(self, opened: OpenedModel, spec: object) -> Report:
        """Warm a declared model up, check its golden samples and serve it.

        `spec` has: name: str, version: int, max_batch_size: int (0: no batch axis),
        inputs and outputs: Sequence of values with name: str, dims: Sequence[int], meaning: str,
        labels: Sequence[str], optional: bool; task: Task | None, labels: Sequence[str],
        thresholds: Sequence[float], tolerance: float,
        golden: Sequence[str] (folders test_data_set_*), queue_timeout: float | None (seconds),
        allow_timeout_override: bool, config: str (JSON),
        placements: Sequence[Sequence[value with device: str, count: int (0: as many as serve it
        best)]]: sets of engines, of which the one with the better throughput serves, the first on a
        tie; device_reason: str, why these.
        Consumes `opened`. On an error the model is left declared; call `fail`.
        """

    def fail(self, name: str, version: int, reason: str) -> None:
        """Mark a declared model as UNAVAILABLE, for this reason, unless it serves already."""

    def forget(self, name: str, version: int) -> None:
        """Drop a declared model that has never served, and all that is known of it."""

    def next_order(self) -> Order | None:
        """Wait for a client's next order; None where none will come any more."""

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model that serve, or should and cannot."""

    def unload(self, name: str, version: int) -> None:
        """Serve a version of a model no more; what was accepted is still answered."""

    def finish_loading(self) -> None:
        """Say that every model of the start has been loaded or has failed.

        From now on the server is ready when all of them are (strict readiness), or any.
        """

    def is_ready(self) -> bool: ...
    def drain(self) -> None:
        """Begin the end, and return at once.

        NOT_SERVING, no new connections, GOAWAY on the open ones, idle streams ended; what was
        accepted is still answered.
        """

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for a draining server to answer everything; whether it has."""

    def stop(self) -> int:
        """End all threads now; returns the number of accepted requests that were not answered."""
