"""The place of ONNX Runtime's shared library."""

import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from sigmax_server.installed import record


class RuntimeLibraryError(Exception):
    """An error for a missing or unusable ONNX Runtime; the message has the command to repair it."""


def find_runtime(path: Sequence[str] | None = None) -> Path:
    """Find the library inside the installed wheel, without importing that wheel.

    Importing `onnxruntime` would load a second, complete copy of the runtime (and NumPy).

    Args:
        path: folders to look in; None for those that Python imports from.

    Returns:
        The absolute path of `libonnxruntime.so.<version>`.

    Raises:
        RuntimeLibraryError: ONNX Runtime is not installed, or damaged, or both distributions are
            installed. Those have files of the same names, so that the folder is a mixture of both.
    """
    path = sys.path if path is None else path
    installed = [found for name in _DISTRIBUTIONS if (found := record(name, path))]
    if len(installed) > 1:
        raise RuntimeLibraryError(
            f"expected one of onnxruntime and onnxruntime-gpu, but both are installed "
            f"({' and '.join(installed)}), and each has overwritten files of the other; "
            f"mend it with: {mend('cpu')}"
        )
    spec = PathFinder.find_spec("onnxruntime", path)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeLibraryError(f"ONNX Runtime is not installed; install it with: {_INSTALL}")
    folder = Path(spec.submodule_search_locations[0]).resolve() / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so.*"))
    if len(libraries) != 1:
        came = ", ".join(library.name for library in libraries) or "none"
        raise RuntimeLibraryError(
            f"expected exactly one libonnxruntime.so.* in {folder}, found {came}; "
            f"mend it with: {mend('cpu')}"
        )
    return libraries[0]


def mend(extra: str) -> str:
    """Return the command that reinstalls ONNX Runtime; `extra` is "cpu" or "gpu"."""
    return f'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "sigmax-server[{extra}]"'


_DISTRIBUTIONS = ("onnxruntime", "onnxruntime_gpu")
_INSTALL = 'pip install "sigmax-server[cpu]"'
