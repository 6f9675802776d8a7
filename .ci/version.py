"""Says whether the version is the same wherever it stands; with --set, writes it there.

It is server/Cargo.toml's: the server's wheel and `sigmax_server.__version__` take it from there.
The other two distributions cannot, and the lock files repeat it.
"""

import argparse
import datetime
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CARGO = "server/Cargo.toml"
PROJECTS = ("client/python/pyproject.toml", "models/pyproject.toml")
LOCKS = ("server/Cargo.lock", "uv.lock")  # Cargo and uv write these
OURS = ("sigmax", "sigmax-core", "sigmax-models", "sigmax-native", "sigmax-server")
CHANGELOG = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"
# Cargo and Python spell versions before a release differently, so there are none.
VERSION = re.compile(r"\d+\.\d+\.\d+")


def main(argv: list[str]) -> int:
    """Check or set the version; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="version", description=__doc__)
    parser.add_argument("--set", metavar="X.Y.Z", help="make this the version, released today")
    parser.add_argument("--tag", metavar="vX.Y.Z", help="check that this tag may name this tree")
    options = parser.parse_args(argv)
    if options.set:
        write(options.set)
        return 0
    faults = list(check(options.tag))
    for fault in faults:
        print(f"version: {fault}", file=sys.stderr)
    return 1 if faults else 0


def check(tag: str | None) -> Iterator[str]:
    """Everything that does not agree with server/Cargo.toml, and with a tag."""
    version = read(CARGO)["workspace"]["package"]["version"]
    if not VERSION.fullmatch(version):
        yield f"{CARGO}: expected three numbers, got {version!r}"
    found = {path: read(path)["project"]["version"] for path in PROJECTS}
    for path in LOCKS:
        for package in read(path)["package"]:
            # In uv's the server has none, as it takes it from Cargo.toml.
            if package["name"] in OURS and "version" in package:
                found[f"{path}, {package['name']}"] = package["version"]
    for place, other in found.items():
        if other != version:
            yield f"{place}: expected {version}, as in {CARGO}, got {other}"
    changes = (ROOT / CHANGELOG).read_text()
    released = re.search(rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes)
    if not released and UNRELEASED not in changes:
        yield f"{CHANGELOG}: expected a section [{version}] with its date, or [Unreleased]"
    if tag and tag != f"v{version}":
        yield f"expected the tag v{version}, got {tag}"
    if tag and not released:
        yield f"{CHANGELOG}: expected a section [{version}] with its date, for {tag}"


def write(version: str) -> None:
    """Make this the version, and what is unreleased its changes; the lock files stay behind.

    Raises:
        SystemExit: it is no version, or nothing is unreleased; nothing has been written.
    """
    if not VERSION.fullmatch(version):
        raise SystemExit(f"version: expected three numbers, such as 1.2.3, got {version!r}")
    changes = (ROOT / CHANGELOG).read_text()
    if UNRELEASED not in changes:
        raise SystemExit(f"version: {CHANGELOG} has no section [Unreleased]")
    heading = f"{UNRELEASED}\n## [{version}] - {datetime.date.today().isoformat()}\n"
    (ROOT / CHANGELOG).write_text(changes.replace(UNRELEASED, heading, 1))
    for path in (CARGO, *PROJECTS):
        file = ROOT / path
        line = re.compile(r'^version = ".*"$', re.MULTILINE)
        file.write_text(line.sub(f'version = "{version}"', file.read_text(), count=1))


def read(path: str) -> dict[str, Any]:
    """A TOML file of the repository."""
    return tomllib.loads((ROOT / path).read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
