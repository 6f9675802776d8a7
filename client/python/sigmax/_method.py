"""A method of a server, and its answers as bytes.

The generated stub would have gRPC parse the answers. A malformed answer would then be logged with a
traceback, and under asyncio be None. `Method.parse` returns MALFORMED instead.
"""

from typing import Final, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from sigmax._errors import ServerFault

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class Malformed:
    """The bytes of an answer that are no message of its type."""


MALFORMED: Final = Malformed()


class Method(Generic[Request, Reply]):
    """A method by its path, with the messages that it takes and returns.

    Attributes:
        path: Path of the method over HTTP.
        serialize: Function that turns a request into bytes.
    """

    def __init__(self, path: str, request: type[Request], reply: type[Reply]) -> None:
        self.path = path
        self.serialize = request.SerializeToString
        self._reply = reply

    def parse(self, raw: bytes) -> Reply | Malformed:
        """Parse an answer."""
        try:
            return self._reply.FromString(raw)
        except DecodeError:
            return MALFORMED


def received(reply: Reply | Malformed | None) -> Reply:
    """Return an answer that could be parsed.

    Raises:
        ServerFault: The answer is MALFORMED, or there is none though the call has succeeded.
    """
    if isinstance(reply, Malformed):
        raise ServerFault.malformed("its bytes are no message of the expected type")
    if reply is None:
        raise ServerFault.malformed("the call has succeeded without an answer")
    return reply
