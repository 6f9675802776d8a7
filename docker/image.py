"""What is in an image: its layers, what must not be in them, and its bill of materials."""

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from engine import docker

ROOT = Path(__file__).resolve().parents[1]

# No server needs these, in any layer.
_TOOLS = re.compile(r"(^|/)s?bin/(sh|bash|dash|busybox|pip[\d.]*|apt|dpkg|gcc|cc|ld|uv|cargo)$")
_PACKAGES = re.compile(r"-packages/(numpy|torch|grpc|pip|setuptools)/")
# Nobody needs these from us; certificates are the base image's.
_PRIVATE = re.compile(
    r"(\.(pem|crt|cer|key|p12)|/\.netrc|/\.npmrc|/pip\.conf|/\.gitconfig|/id_\w+|/\.(git|cargo|ssh)(/.*)?)$"
)
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s")
_MAY_BE_SECRET = re.compile(r"TOKEN|SECRET|PASSW|_KEY$|INDEX_URL|PROXY|_REGISTR")


@dataclass
class Layer:
    """One layer: who made it, and its regular files."""

    name: str
    ours: bool
    files: dict[str, int] = field(default_factory=dict)  # size by path
    faults: list[str] = field(default_factory=list)
    records: dict[str, str] = field(default_factory=dict)  # what the bill of materials is made of

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def layers(image: str, scratch: Path) -> list[Layer]:
    """Read every layer of an image, and look for what must not be there."""
    archive = scratch / "image.tar"
    docker("save", "--output", archive, image)
    with tarfile.open(archive) as saved:

        def member(name: str) -> Any:
            return saved.extractfile(name)

        [manifest] = json.load(member("manifest.json"))
        config = member(manifest["Config"]).read()
        history = json.loads(config)["history"]
        made_by = [each.get("created_by", "") for each in history if not each.get("empty_layer")]
        found = []
        for by, name in zip(made_by, manifest["Layers"], strict=True):
            # The Dockerfile copies everything from /image/<layer>; all else is the base image.
            ours = re.match(r"COPY /image/(\w+)", by)
            layer = Layer(ours[1] if ours else "base", ours is not None)
            with tarfile.open(fileobj=member(name)) as tar:
                _read(layer, tar)
            found.append(layer)
        found[-1].faults += _leaks("the configuration", config)
    archive.unlink()
    return found


def _read(layer: Layer, tar: tarfile.TarFile) -> None:
    for entry in tar:
        path = "/" + entry.name.removeprefix("./")
        if _TOOLS.search(path) or _PACKAGES.search(path):
            layer.faults.append(f"{path} is not for serving")
        if not entry.isfile():
            continue
        layer.files[path] = entry.size
        opened = tar.extractfile(entry)
        assert opened is not None
        content = opened.read()
        if layer.ours:
            layer.faults += _leaks(path, content)
            if entry.mode & 0o6022:
                layer.faults.append(f"{path} has mode {entry.mode:o}")
        if re.search(r"/status\.d/[^/]+$|\.dist-info/METADATA$|/sboms/[^/]+\.json$", path):
            layer.records[path] = content.decode()


def _leaks(path: str, content: bytes) -> Iterator[str]:
    """What a file tells of the machine that built it."""
    if _PRIVATE.search(path):
        yield f"{path} must not be shipped"
    # A library may hold the certificates that it trusts: ONNX Runtime's does.
    if _KEY.search(content) or (".so" not in path and _CERTIFICATE.search(content)):
        yield f"{path} holds a key or a certificate"
    for what, text in _machine().items():
        if text.encode() in content:
            yield f"{path} names where it was built: {what}"


def _machine() -> dict[str, str]:
    """Texts that only this machine or the build would put into a file."""
    variables = {
        f"${name}": value
        for name, value in os.environ.items()
        if _MAY_BE_SECRET.search(name) and len(value) >= 8
    }
    folders = {
        "this folder": str(ROOT),
        "Cargo's folder": "/usr/local/cargo",
        "the sources' folder": "/sources/",
    }
    return folders | variables


def bill(name: str, version: str, found: list[Layer]) -> dict[str, Any]:
    """The CycloneDX document of an image.

    maturin has put one of all Rust crates into the wheel. To it come Python's distributions and
    Debian's packages, as the image itself records them.
    """
    records = {path: text for layer in found for path, text in sorted(layer.records.items())}
    [document] = [json.loads(text) for path, text in records.items() if "/sboms/" in path]
    components = document["components"]
    components.append(document["metadata"]["component"])
    document["metadata"]["component"] = _component("container", name, version, "pkg:oci")
    for path, text in records.items():
        fields = Parser().parsestr(text, headersonly=True)
        if "/status.d/" in path and fields["Package"]:  # not the checksums beside it
            debian = (fields["Package"], fields["Version"], "pkg:deb/debian")
            components.append(_component("library", *debian))
        elif path.endswith("/METADATA"):
            distribution = (fields["Name"].lower(), fields["Version"], "pkg:pypi")
            components.append(_component("library", *distribution))
    return dict(document)


def _component(kind: str, name: str, version: str, registry: str) -> dict[str, str]:
    purl = f"{registry}/{name}@{quote(version)}"
    return {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}


def biggest(layer: Layer) -> str:
    """The file of a layer that weighs most."""
    path = max(layer.files, key=lambda path: layer.files[path])
    return f"{PurePosixPath(path).name} {layer.files[path] / 1e6:.1f} MB"
