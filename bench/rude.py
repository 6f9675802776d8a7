"""Clients without manners: they give calls up, vanish in the middle of them, and come back."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator

import h2.config
import h2.connection

from bench.questions import Question
from bench.servers import Server

CALLS = 100  # of one connection
WINDOW = 65_535  # bytes that may be sent before the server says more (RFC 9113, section 6.9.2)
PAUSE = 0.05  # seconds between two connections


@contextlib.contextmanager
def beside(server: Server, question: Question) -> Iterator[None]:
    """Have such clients come and go, one after the other, until this ends.

    Raises:
        RuntimeError: the server has taken no more of them.
    """
    end, failure = threading.Event(), list[Exception]()

    def come_and_go() -> None:
        try:
            while not end.wait(PAUSE):
                visit(server.address, question)
        except Exception as error:  # the main thread tells it
            failure.append(error)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    if failure:
        raise RuntimeError("clients without manners were kept out") from failure[0]


def visit(address: str, question: Question) -> None:
    """Begin many calls; reset some, half send others, and go without a word."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", question.path),
            (":authority", address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        for _ in range(CALLS):
            call = client.get_next_available_stream_id()
            client.send_headers(call, head)
            size = min(len(question.request), WINDOW // CALLS)
            part = question.request[: random.choice((size, size // 2))]
            client.send_data(call, part, end_stream=len(part) == len(question.request))
            if random.random() < 0.5:
                client.reset_stream(call)
        with contextlib.suppress(ConnectionError):
            stream.sendall(client.data_to_send())
            if random.random() < 0.5:
                stream.recv(4096)
        if random.random() < 0.5:  # the system resets the connection then
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
