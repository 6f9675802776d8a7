"""The types of the generated stub and servicer, which have none; written by hand."""
# ruff: noqa: N802 (the names are those of the RPCs)

from collections.abc import Iterator
from typing import Generic, TypeAlias, overload

import grpc
import grpc.aio
from typing_extensions import TypeVar

from sigmax.v1 import classifier_pb2 as pb

_Classify = TypeVar(
    "_Classify",
    default=grpc.UnaryUnaryMultiCallable[pb.ClassifyRequest, pb.ClassifyResponse],
)
_ClassifyStream = TypeVar(
    "_ClassifyStream",
    default=grpc.StreamStreamMultiCallable[pb.ClassifyStreamRequest, pb.ClassifyStreamResponse],
)
_ListModels = TypeVar(
    "_ListModels",
    default=grpc.UnaryUnaryMultiCallable[pb.ListModelsRequest, pb.ListModelsResponse],
)
_GetModel = TypeVar(
    "_GetModel",
    default=grpc.UnaryUnaryMultiCallable[pb.GetModelRequest, pb.GetModelResponse],
)

class ClassifierServiceStub(Generic[_Classify, _ClassifyStream, _ListModels, _GetModel]):
    """Calls that are grpc's or grpc.aio's, as the channel is; unless said otherwise, grpc's."""

    Classify: _Classify
    ClassifyStream: _ClassifyStream
    ListModels: _ListModels
    GetModel: _GetModel

    @overload
    def __init__(self: ClassifierServiceStub, channel: grpc.Channel) -> None: ...
    @overload
    def __init__(self: ClassifierServiceAsyncStub, channel: grpc.aio.Channel) -> None: ...

# Exists for type checkers only: a ClassifierServiceStub made with a channel of grpc.aio.
ClassifierServiceAsyncStub: TypeAlias = ClassifierServiceStub[
    grpc.aio.UnaryUnaryMultiCallable[pb.ClassifyRequest, pb.ClassifyResponse],
    grpc.aio.StreamStreamMultiCallable[pb.ClassifyStreamRequest, pb.ClassifyStreamResponse],
    grpc.aio.UnaryUnaryMultiCallable[pb.ListModelsRequest, pb.ListModelsResponse],
    grpc.aio.UnaryUnaryMultiCallable[pb.GetModelRequest, pb.GetModelResponse],
]

class ClassifierServiceServicer:
    """Answers UNIMPLEMENTED to every RPC; to be overridden, for a server with threads."""

    def Classify(
        self, request: pb.ClassifyRequest, context: grpc.ServicerContext
    ) -> pb.ClassifyResponse: ...
    def ClassifyStream(
        self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ClassifyStreamResponse]: ...
    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse: ...
    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse: ...

def add_ClassifierServiceServicer_to_server(
    servicer: ClassifierServiceServicer, server: grpc.Server
) -> None: ...
