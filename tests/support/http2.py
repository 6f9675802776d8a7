"""Connections by HTTP/2 alone, for what gRPC's own library hides."""

from typing import Any, Self

import h2.config
import h2.connection
import h2.events

from support.server import Server


class Connection:
    """A connection that has been greeted: the server's settings and window have come."""

    def __init__(self, server: Server) -> None:
        self.socket = server.grpc.connect()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        greeting: set[type] = set()
        while not {h2.events.RemoteSettingsChanged, h2.events.WindowUpdated} <= greeting:
            greeting |= {type(event) for event in self.events()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def events(self) -> list[Any]:
        """What comes next."""
        self.socket.sendall(self.h2.data_to_send())
        data = self.socket.recv(2**16)
        assert data, "the server has closed the connection"
        return list(self.h2.receive_data(data))

    def infer(self, request: Any, *headers: tuple[str, str]) -> list[tuple[str, str]]:
        """The last headers of ModelInfer's answer."""
        message = request.SerializeToString()
        path = "/inference.GRPCInferenceService/ModelInfer"
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        head += [("te", "trailers"), ("content-type", "application/grpc"), *headers]
        self.h2.send_headers(stream, head)
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        self.h2.send_data(stream, framed, end_stream=True)
        last: list[tuple[str, str]] = []
        while True:
            for event in self.events():
                last = getattr(event, "headers", last)
                if isinstance(event, h2.events.StreamEnded):
                    return last
