"""Classifier networks in PyTorch, and their export to self-describing ONNX files.

`export` writes a torch module as an ONNX file that describes itself by a `Declaration`.
`networks` holds seven networks to read, train and serve.
"""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime sends telemetry unless this is set before its library is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from sigmax_models.declaration import Declaration
    from sigmax_models.errors import ExportError, ExportNotice, InexactWarning
    from sigmax_models.exporter import Export, export

__all__ = ["Declaration", "Export", "ExportError", "ExportNotice", "InexactWarning", "export"]

_HOMES = {
    "Declaration": "sigmax_models.declaration",
    "Export": "sigmax_models.exporter",
    "ExportError": "sigmax_models.errors",
    "ExportNotice": "sigmax_models.errors",
    "InexactWarning": "sigmax_models.errors",
    "export": "sigmax_models.exporter",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, and `--help` should not."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
