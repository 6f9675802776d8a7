"""Says whether the version is the same wherever it stands; with --set, writes it there.

It is server/Cargo.toml's: the server's wheel and `sigmax_server.__version__` take it from there.
The other distributions and the clients of other languages cannot, and the lock files repeat it.
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
TOML = r'(?m)^(version = ")(.*)(")'
MAVEN = r"(<artifactId>sigmax-client</artifactId>\n *<version>)(.*)(</version>)"
# Files that repeat it by hand, wherever the pattern's second group finds it.
REPEATS = {
    "client/cpp/CMakeLists.txt": r"(?m)^(project\(sigmax VERSION )(\S+)( )",
    "client/java/README.md": MAVEN,
    "client/java/pom.xml": MAVEN,
    "client/python/pyproject.toml": TOML,
    "client/rust/Cargo.toml": TOML,
    "client/typescript/package-lock.json": r'("name": "sigmax",\n *"version": ")(.*)(")',
    "client/typescript/package.json": r'("name": "sigmax",\n *"version": ")(.*)(")',
    "models/pyproject.toml": TOML,
}
LOCKS = ("client/rust/Cargo.lock", "server/Cargo.lock", "uv.lock")  # Cargo and uv write these
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
    found = {}
    for path, pattern in REPEATS.items():
        places = re.findall(pattern, (ROOT / path).read_text())
        if not places:
            yield f"{path}: expected the version, found it nowhere"
        found[path] = next((other for _, other, _ in places if other != version), version)
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
    for path, pattern in {CARGO: TOML, **REPEATS}.items():
        file = ROOT / path
        file.write_text(re.sub(pattern, rf"\g<1>{version}\g<3>", file.read_text()))


def read(path: str) -> dict[str, Any]:
    """A TOML file of the repository."""
    return tomllib.loads((ROOT / path).read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
