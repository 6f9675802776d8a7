"""The interface of the data plane, which is written in Rust.

Nothing in this module is stable; `sigmax_server` is the only user. Calls release the interpreter
while they work. Errors are `NativeError` unless stated otherwise; their message says what was
expected and what came. Arguments that are not of the stated type or range are a TypeError,
OverflowError or ValueError, as in any Python call.
"""

from pathlib import Path
from typing import Literal, final

DType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip
Task = Literal["binary", "multiclass", "multilabel"]

class NativeError(Exception):
    """A refusal or failure of the data plane; the message is for people."""

def print_output(text: str) -> None:
    """Print lines to standard output. A thread writes them, so the caller never waits."""

def print_error(text: str) -> None:
    """Print lines to standard error. A thread writes them, so the caller never waits.

    Lines that find no room in the thread's queue are dropped and counted. A line has at most 4096
    bytes; the rest of a longer line is left out.
    """

def finish_output(seconds: float) -> bool:
    """Wait at most so many seconds until all printed lines are written; return whether they are."""

def load_runtime(library: str) -> str:
    """Open ONNX Runtime's library at this absolute path, and return its version.

    A process may call this once.
    """

def providers() -> list[str]:
    """Return the names of the library's execution providers, such as CUDAExecutionProvider.

    The first is the one that the library prefers. `load_runtime` must have been called.
    """

def try_device(device: str) -> None:
    """Run a small network on a device, "cpu" or "cuda:N".

    `load_runtime` must have been called, and NVIDIA's libraries must have been loaded. The error
    has ONNX Runtime's own words.
    """

def read_file(path: str | Path, most_bytes: int) -> bytes:
    """Read a regular file of at most `most_bytes` bytes. The error does not name the file.

    Anything else, such as a folder, a device or a named pipe, is an error at once.
    """

def read_config(text: str) -> str:
    """Convert a `config.pbtxt` to JSON: the fields that are set, by their names in the proto."""

def canonical_config(json: str) -> str:
    """Convert any JSON form of a model configuration to the form that `read_config` returns."""

@final
class TensorInfo:
    """An input or output, as the graph declares it."""

    name: str
    dtype: DType
    dims: list[int]  # size of each axis, the batch axis included where there is one; -1: any
    any_rank: bool  # whether the graph has no shape for the tensor; dims is empty then
    optional: bool  # whether the graph has an initial value for this input

@final
class OpenedModel:
    """A model file that has been opened. `Server.load` takes it, and may do so once."""

    path: str  # path of the file, or the name given to `open_content`
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    metadata: dict[str, str]  # key-value metadata of the file

def open_model(path: str, most_bytes: int, seconds: float) -> OpenedModel:
    """Open an ONNX file of less than 2 GiB.

    All files of the model are read now, once; later changes to them have no effect. A broken file,
    an unknown operator, or an input or output that is no tensor of a known dtype is an error that
    names the file and the reason.

    Args:
        path: path of the ONNX file.
        most_bytes: most bytes of weights in other files beside it.
        seconds: time limit from now until the end of `Server.load`.
    """

def open_content(name: str, content: bytes, seconds: float) -> OpenedModel:
    """Open the content of an ONNX file that is in no folder. All weights must be inside it.

    Args:
        name: name of the file, for messages.
        content: content of the file.
        seconds: time limit from now until the end of `Server.load`.
    """

@final
class Report:
    """The results of warming a model up."""

    heavy: bool  # whether the model runs in workers of its own, and not in the shards' loops
    rows_independent: bool  # whether a row's answer depends on that row alone
    preferred_batch_size: int  # rows of a batch from which on a row gets no cheaper
    microseconds_per_batch: list[tuple[int, float]]  # (rows, microseconds of one run)
    device: str  # devices that run the model: "cpu", "cuda:0", "cuda:0, cuda:1"
    device_reason: str  # reason of the spec, or of the choice between alternatives; may be empty
    alternatives: list[Timed]  # speed of each alternative; empty where there was no choice
    graphs: str  # state of CUDA graphs: "on" or "off: reason"; empty where no GPU is used
    refusal: str  # why none of the rows tried ran; empty where some did
    warnings: list[str]  # findings that a user should know, for people

@final
class Timed:
    """The speed of a model on one set of engines."""

    device: str  # devices of the engines: "cpu", "cuda:0", "cuda:0, cuda:1"
    microseconds_per_row: float  # microseconds of a run of one row
    rows_per_second: float  # rows per second in full batches, on all engines together

@final
class Order:
    """A client's request to load or unload a model, or to list models.

    Exactly one of the methods is called, once; it answers the client.
    """

    action: Literal["load", "unload", "index"]  # index: list the names of models
    model: str  # name of the model; empty for an index
    config: str | None  # model configuration instead of the repository's, in any JSON form
    files: dict[str, bytes]  # files instead of the repository's, by path in the model's folder

    def done(self, names: list[str]) -> None:
        """Answer that the order is carried out; `names` are the models of an index."""

    def not_found(self, reason: str) -> None:
        """Answer that there is no such model, or that its configuration is wrong."""

    def failed(self, reason: str) -> None:
        """Answer that the model cannot be served."""

@final
class Server:
    """A running server. At first it has no models and is not ready."""

    def __init__(self, config: object) -> None:
        """Bind the ports and start the threads.

        Args:
            config: a `sigmax_server.config.ServerConfig`.

        Raises:
            OSError: a port cannot be bound; the message names the address.
        """

    @property
    def grpc_address(self) -> str: ...  # address of the gRPC port, such as "127.0.0.1:8001"
    @property
    def http_address(self) -> str: ...  # address of the HTTP port, such as "127.0.0.1:8000"
    @property
    def access(self) -> str: ...  # line for people that says who may do what
    def declare(self, name: str, version: int) -> None:
        """Make a version known, as LOADING: requests are answered UNAVAILABLE until it is loaded.

        A version that serves already goes on until its replacement is loaded.
        """

    def load(self, opened: OpenedModel, spec: object) -> Report:
        """Warm a declared model up, check its golden samples and serve it.

        Args:
            opened: the model file, which can be loaded once.
            spec: a `sigmax_server.model_spec.ModelSpec`.

        Raises:
            NativeError: the model cannot be served. It stays declared; the caller calls `fail`.
        """

    def fail(self, name: str, version: int, reason: str) -> None:
        """Mark a declared version as UNAVAILABLE, with this reason, unless it serves already."""

    def forget(self, name: str, version: int) -> None:
        """Drop a declared version that has never served, so that clients no longer see it."""

    def next_order(self) -> Order | None:
        """Wait for a client's next order; None where the server is ending and none will come."""

    def versions(self, name: str) -> list[int]:
        """Return the versions of a model that serve, and those that should serve and cannot."""

    def unload(self, name: str, version: int) -> None:
        """Take a version of a model out of service; accepted requests are still answered."""

    def finish_loading(self) -> None:
        """Tell the server that every model of the start has been loaded or has failed.

        From then on the server is ready when all of them serve (strict readiness), or when any
        does.
        """

    def is_ready(self) -> bool: ...  # whether the health check answers SERVING
    def drain(self) -> None:
        """Begin to end the server, and return at once.

        Health checks answer NOT_SERVING, no connection is accepted, open connections get GOAWAY and
        idle streams are ended. Accepted requests are still answered.
        """

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds until all accepted requests are answered.

        Returns whether they are. `drain` must have been called.
        """

    def stop(self) -> int:
        """End all threads now, but for those that hang in a run.

        Returns the number of accepted requests that were not answered.
        """
