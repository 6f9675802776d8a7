"""A real `sigmax serve`, in a process of its own."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import grpc
import sigmax
from prometheus_client.parser import text_string_to_metric_families

from support.certificates import client_context

# Options for messages of any size, so that the server and not the client refuses them.
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
PATIENCE = 60.0  # most seconds that anything here takes, however busy the machine is
STARTED = re.compile(r"(not )?ready: gRPC (?P<grpc>\S+), HTTP (?P<http>[^;]+);")


Serve = Callable[..., "Server"]
"""A function that starts a server for one test, with these arguments of `sigmax serve`."""


def after(before: str, *command: str | Path) -> list[str | Path]:
    """Return a command that runs `command` in the process of a shell, after the text `before`."""
    return ["sh", "-c", f'{before}; exec "$@"', "sh", *command]


class Address(str):
    """The address of a gRPC port, `HOST:PORT`.

    Attributes:
        authority: File of the authority of the port's certificate; None where the port is plain.
    """

    __slots__ = ("authority",)
    authority: Path | None

    def __new__(cls, text: str, authority: Path | None = None) -> Self:
        address = super().__new__(cls, text)
        address.authority = authority
        return address

    def channel(self, options: Any = UNLIMITED) -> grpc.Channel:
        """Return a channel to the port, over TLS where the port is."""
        if self.authority is None:
            return grpc.insecure_channel(self, options=options)
        trusted = grpc.ssl_channel_credentials(self.authority.read_bytes())
        return grpc.secure_channel(self, trusted, options=options)

    def connect(self, context: ssl.SSLContext | None = None, **options: Any) -> socket.socket:
        """Return a connection to the port, over TLS where the port is.

        Args:
            context: How TLS is spoken; by default as gRPC does, trusting the authority.
            options: Options for `SSLContext.wrap_socket`.
        """
        host, _, port = self.rpartition(":")
        opened = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None and self.authority is None:
            return opened
        if context is None:
            assert self.authority is not None
            context = client_context(self.authority)
        try:
            return context.wrap_socket(opened, **{"server_hostname": "localhost", **options})
        except BaseException:
            opened.close()
            raise


class Server:
    """A server that has started, and is ready or not; by default on free ports.

    Args:
        log: File for the standard error.
        arguments: Arguments after `sigmax serve`.
        python: Python of the server's environment; by default this one.
        environment: Variables in addition to those of this process.
        authority: File of the authority of the server's certificate, where it speaks TLS.
        before: Shell commands that run in the server's process before, such as `ulimit -n 64`.

    Attributes:
        printed: Standard output up to the line that says whether the server is ready.
        grpc: Address of the gRPC port.
        http: Address of the HTTP port.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str | Path,
        python: Path = Path(sys.executable),
        environment: dict[str, str] | None = None,
        authority: Path | None = None,
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
                self.grpc = Address(started["grpc"], authority)
                self.http = started["http"]
                is_secure = "--http-tls" in arguments
                self._operators = ssl.create_default_context(cafile=authority)
                self._scheme = "https" if is_secure else "http"
                return
        self.kill()
        raise AssertionError(f"it never started: {self.printed}{self.log()}")

    @cached_property
    def channel(self) -> grpc.Channel:
        """Connection for the plain stubs."""
        return self.grpc.channel()

    @cached_property
    def client(self) -> sigmax.Client:
        """Client of the SDK, with a timeout that is long enough for a busy machine."""
        return sigmax.Client(self.grpc, timeout=60)

    def line(self, model: str) -> str:
        """Return the line of a model in the table printed at the start."""
        [line] = [line for line in self.printed.splitlines() if line.split()[:1] == [model]]
        return line

    def log(self) -> str:
        """Return the standard error so far."""
        return self._log.read_text()

    def until_logged(self, text: str) -> str:
        """Wait until a text is in the standard error, and return all of that.

        The server does not wait for its own output, so the text may come late.
        """
        patience = time.monotonic() + 60
        while text not in (log := self.log()):
            assert time.monotonic() < patience, f"expected {text!r} in the log, got {log}"
        return log

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a path of the HTTP port."""
        try:
            url = f"{self._scheme}://{self.http}{path}"
            with urllib.request.urlopen(url, timeout=30, context=self._operators) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all samples with these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def until(self, value: float, name: str, **labels: str) -> None:
        """Wait for at most PATIENCE until a metric has this value."""
        patience = time.monotonic() + PATIENCE
        while (found := self.metric(name, **labels)) != value:
            assert time.monotonic() < patience, f"{name} is {found}, expected {value}"

    def until_queued(self, rows: int, model: str) -> None:
        """Wait until exactly `rows` rows wait for a model."""
        self.until(rows, "sigmax_queued_rows", model=model)

    def stop(self) -> int:
        """End the server by SIGTERM, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def hang_up(self) -> None:
        """Close the connections to the server; the next use of one opens it again."""
        for opened in ("channel", "client"):
            if opened in self.__dict__:
                self.__dict__.pop(opened).close()

    def kill(self) -> None:
        """Kill the server, and close the connections to it."""
        self.hang_up()
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
