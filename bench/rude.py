"""Clients that reset their calls or vanish during them, and come back."""

import itertools
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.errors

from bench.questions import Question

CALLS = 20
"""Calls that each client makes at once."""
PAUSE = 0.02
"""Seconds between two clients."""
PATIENCE = 10.0
"""Most seconds that a client waits for the server."""


class Rude(threading.Thread):
    """A thread that runs one rude client after another, until it is stopped.

    Attributes:
        count: Number of clients so far.
    """

    def __init__(self, address: str, question: Question) -> None:
        super().__init__(daemon=True)
        self._address, self._question = address, question
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Run the clients."""
        kinds = itertools.cycle(
            (self._resets, self._vanishes_half_sent, self._reads_one, self._dies)
        )
        while not self._over.wait(PAUSE):
            host, _, port = self._address.rpartition(":")
            with socket.create_connection((host, int(port)), PATIENCE) as client:
                http2 = h2.connection.H2Connection(h2.config.H2Configuration())
                http2.initiate_connection()
                next(kinds)(client, http2)
            self.count += 1

    def stop(self) -> None:
        """Stop after the client that is running, and wait for it."""
        self._over.set()
        self.join()

    def _ask(self, http2: h2.connection.H2Connection, part: float = 1.0) -> list[int]:
        streams = []
        body = self._question.request
        for _ in range(CALLS):
            stream = http2.get_next_available_stream_id()
            head = [(":method", "POST"), (":scheme", "http"), (":authority", "rude")]
            head += [(":path", self._question.path), ("te", "trailers")]
            http2.send_headers(stream, [*head, ("content-type", "application/grpc")])
            http2.send_data(stream, body[: int(len(body) * part)], end_stream=part == 1)
            streams.append(stream)
        return streams

    def _resets(self, client: socket.socket, http2: h2.connection.H2Connection) -> None:
        for stream in self._ask(http2):
            http2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.sendall(http2.data_to_send())

    def _vanishes_half_sent(self, client: socket.socket, http2: h2.connection.H2Connection) -> None:
        self._ask(http2, 0.5)
        client.sendall(http2.data_to_send())

    def _reads_one(self, client: socket.socket, http2: h2.connection.H2Connection) -> None:
        self._ask(http2)
        client.sendall(http2.data_to_send())
        client.recv(1)

    def _dies(self, client: socket.socket, http2: h2.connection.H2Connection) -> None:
        """Close with unread answers and no linger, so that the kernel resets the connection."""
        self._ask(http2)
        client.sendall(http2.data_to_send())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def beside(address: str, question: Question) -> Iterator[Rude]:
    """Run rude clients, one after the other, until the end of the context."""
    rude = Rude(address, question)
    rude.start()
    try:
        yield rude
    finally:
        rude.stop()
