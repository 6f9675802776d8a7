"""The methods of a server that the clients call.

The generated stub would have gRPC parse the answers. A malformed answer would then be logged with a
traceback, and under asyncio be None. `Method.parse` returns MALFORMED instead.
"""

from typing import Final, Generic, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sigmax import inference_pb2
from sigmax._errors import ServerFault
from sigmax.v1 import classifier_pb2 as pb

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


_CLASSIFIER: Final = "/sigmax.v1.ClassifierService"
CLASSIFY: Final = Method(f"{_CLASSIFIER}/Classify", pb.ClassifyRequest, pb.ClassifyResponse)
CLASSIFY_STREAM: Final = Method(
    f"{_CLASSIFIER}/ClassifyStream", pb.ClassifyStreamRequest, pb.ClassifyStreamResponse
)
LIST_MODELS: Final = Method(
    f"{_CLASSIFIER}/ListModels", pb.ListModelsRequest, pb.ListModelsResponse
)
GET_MODEL: Final = Method(f"{_CLASSIFIER}/GetModel", pb.GetModelRequest, pb.GetModelResponse)
INFER: Final = Method(
    "/inference.GRPCInferenceService/ModelInfer",
    inference_pb2.ModelInferRequest,
    inference_pb2.ModelInferResponse,
)
# grpc.health.v1.Health/Watch takes a message whose field 1 is a string, and returns messages whose
# field 1 is an enum. Protobuf's well-known wrappers have the same bytes. Stubs of our own for
# that service could clash with a caller's.
WATCH: Final = Method("/grpc.health.v1.Health/Watch", StringValue, Int32Value)
