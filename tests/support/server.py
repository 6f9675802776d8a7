"""A real `sigmax serve`, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

import grpc
import sigmax
from prometheus_client.parser import text_string_to_metric_families

# A message of any size: what is refused must be refused by the server.
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
PATIENCE = 60.0  # seconds: more than anything here takes, however busy the machine is
STARTED = re.compile(r"(not )?ready: gRPC (?P<grpc>\S+), HTTP (?P<http>[^;]+);")


Serve = Callable[..., "Server"]
"""Starts a server with these arguments of `sigmax serve`, for one test."""


def after(before: str, *command: str | Path) -> list[str | Path]:
    """A command that a shell becomes, after it has done something else to its process."""
    return ["sh", "-c", f'{before}; exec "$@"', "sh", *command]


class Server:
    """A server that has said whether it is ready; by default on free ports.

    Args:
        log: Where its standard error goes.
        arguments: After `sigmax serve`.
        python: That of its environment; by default of this one.
        environment: Variables that it has besides those of this process.
        before: What a shell does in the server's process before, such as `ulimit -n 64`.

    Attributes:
        printed: Its standard output up to the line that says whether it is ready.
        grpc: The address of its gRPC port.
        http: The address of its HTTP port.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str | Path,
        python: Path = Path(sys.executable),
        environment: dict[str, str] | None = None,
        before: str = ":",
    ) -> None:
        self._log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                after(before, python.with_name("sigmax"), "serve", *arguments),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={
                    **os.environ,
                    "SIGMAX_GRPC_PORT": "0",
                    "SIGMAX_HTTP_PORT": "0",
                    **(environment or {}),
                },
            )
        self.printed = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if started := STARTED.match(line):
                self.grpc, self.http = started["grpc"], started["http"]
                return
        self.kill()
        raise AssertionError(f"it never started: {self.printed}{self.log()}")

    @cached_property
    def channel(self) -> grpc.Channel:
        """One connection, for the plain stubs."""
        return grpc.insecure_channel(self.grpc, options=UNLIMITED)

    @cached_property
    def client(self) -> sigmax.Client:
        """The SDK's client, with time enough for a busy machine."""
        return sigmax.Client(self.grpc, timeout=60)

    def line(self, model: str) -> str:
        """What the table printed at the start says of a model."""
        [line] = [line for line in self.printed.splitlines() if line.split()[:1] == [model]]
        return line

    def log(self) -> str:
        """Its standard error so far."""
        return self._log.read_text()

    def until_logged(self, text: str) -> str:
        """Wait until this is in its standard error, which nothing in it waits for; all of it."""
        patience = time.monotonic() + 60
        while text not in (log := self.log()):
            assert time.monotonic() < patience, f"expected {text!r} in the log, got {log}"
        return log

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a path of its HTTP port."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over everything that has these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def until(self, value: float, name: str, **labels: str) -> None:
        """Wait until a metric has this value, with more patience than it can need."""
        patience = time.monotonic() + PATIENCE
        while (found := self.metric(name, **labels)) != value:
            assert time.monotonic() < patience, f"{name} is {found}, expected {value}"

    def until_queued(self, rows: int, model: str) -> None:
        """Wait until so many rows wait for a model."""
        self.until(rows, "sigmax_queued_rows", model=model)

    def stop(self) -> int:
        """Ask it to end, wait until it has, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def hang_up(self) -> None:
        """Close the connections to it; the next use of one opens it anew."""
        for opened in ("channel", "client"):
            if opened in self.__dict__:
                self.__dict__.pop(opened).close()

    def kill(self) -> None:
        """End it, whatever it does, and close the connections to it."""
        self.hang_up()
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
