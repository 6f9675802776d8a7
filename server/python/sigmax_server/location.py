"""The places that a server is given models by."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A path with models to serve.

    Attributes:
        path: repository folder, folder of one model, or .onnx file.
        name: name of the one model there; empty where the path names its models.
    """

    path: Path
    name: str = ""
