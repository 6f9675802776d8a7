"""The clients of each language, run on the vectors that all of them have in common."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import exact
from support.server import Server

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors/clients"
LANGUAGES = ("python", "go", "typescript", "java", "rust", "cpp")
# The most seconds that a client takes to be built, for the first time, and to run.
PATIENCE = 1800

Found = dict[str, str]
"""What a client has found in place of the right answer, by the case's name; empty: it is right."""


def script(language: str) -> Path:
    """Return the script that builds a client, runs its own tests, and then asks every case."""
    return ROOT / "client" / language / "test"


def missing(language: str) -> str:
    """Return what this machine lacks to run a client; empty where it lacks nothing."""
    if not script(language).exists():
        return f"there is no client/{language}/test"
    command = [str(script(language)), "--toolchain"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    said = (done.stdout + done.stderr).strip()
    return "" if done.returncode == 0 else said or f"client/{language}/test --toolchain failed"


def environment(**variables: str | Path) -> dict[str, str]:
    """Return the environment of a client: this one's, this Python first, and no other server."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("SIGMAX_")}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    own["PYTHON"] = sys.executable
    return own | {name: str(value) for name, value in variables.items()}


@contextmanager
def served(folder: Path, *flags: str | Path, authority: Path | None = None) -> Iterator[Server]:
    """Serve the models of the vectors from an empty folder."""
    models = exact.save_all(folder / "models")
    with Server(folder / "log", models, *exact.FLAGS, *flags, authority=authority) as server:
        yield server


def ask(language: str, vectors: Path, server: Server, **variables: str | Path) -> Found:
    """Have a client ask every case in the folder `vectors`.

    Raises:
        AssertionError: The client cannot be built, fails its own tests, or breaks off.
    """
    done = subprocess.run(
        [script(language)],
        env=environment(SIGMAX_ADDRESS=server.grpc, SIGMAX_VECTORS=vectors, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"client/{language}/test: {done.stderr[-4000:]}"
    found: Found = {}
    for line in done.stdout.splitlines():
        said: dict[str, Any] = json.loads(line)
        assert said["name"] not in found, f"{said['name']} was asked twice"
        found[said["name"]] = "" if said["ok"] is True else said.get("found") or "nothing was said"
    return found


def cases(vectors: Path = VECTORS) -> dict[str, list[dict[str, Any]]]:
    """Return the cases of a folder, by the name of their file."""
    files = sorted(vectors.glob("*.json"))
    return {file.stem: json.loads(file.read_text())["cases"] for file in files}
