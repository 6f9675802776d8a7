"""The Docker engine, by its command line."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a server needs of its container: nothing.
LOCKED_DOWN = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def docker(*arguments: str | Path) -> str:
    """What a docker command prints on standard output.

    Raises:
        SystemExit: it failed; the message is its complaint.
    """
    buildkit = os.environ | {"DOCKER_BUILDKIT": "1"}  # the default since 23.0
    done = subprocess.run(["docker", *arguments], env=buildkit, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def require() -> str:
    """The engine's version.

    Raises:
        SystemExit: there is none.
    """
    try:
        done = subprocess.run(
            ["docker", "version", "--format={{.Server.Version}}"], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise SystemExit("make docker needs a Docker engine: there is no command docker") from None
    if done.returncode != 0:
        raise SystemExit(f"make docker needs a Docker engine: {done.stderr.strip()}")
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    [found] = json.loads(docker("inspect", name))
    return dict(found)


@dataclass(frozen=True)
class Container:
    """A container that has been started."""

    name: str

    def address(self, port: int) -> str:
        """Where one of its ports is published on this machine."""
        [binding, *_] = inspect(self.name)["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return f"127.0.0.1:{binding['HostPort']}"

    def wait_until_healthy(self, seconds: float = 90) -> None:
        """Wait until the image's own health check says so.

        Raises:
            SystemExit: it does not, or the server ended; the message has its log.
        """
        until = time.monotonic() + seconds
        while (state := inspect(self.name)["State"])["Health"]["Status"] != "healthy":
            if not state["Running"] or time.monotonic() > until:
                said = [each["Output"] for each in state["Health"]["Log"]]
                raise SystemExit(f"it did not become healthy: {said}\n{self.log()}")
            time.sleep(0.2)

    def log(self) -> str:
        """All that it has printed."""
        done = subprocess.run(
            ["docker", "logs", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def stop(self) -> int:
        """End it as an operator does, with the grace that Docker gives; its exit code."""
        docker("stop", self.name)
        return int(inspect(self.name)["State"]["ExitCode"])


@contextmanager
def running(
    image: str, folder: Path, mounted: str, options: Sequence[str] = ()
) -> Iterator[Container]:
    """A locked-down container with a folder of models, on free ports; removed at the end."""
    name = docker(
        "run",
        "--detach",
        *LOCKED_DOWN,
        *options,
        "--publish=127.0.0.1::8001",
        "--publish=127.0.0.1::8000",
        f"--volume={folder}:{mounted}:ro",
        image,
    )
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name)


if __name__ == "__main__":
    print(f"Docker engine {require()}")
