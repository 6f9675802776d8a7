"""Reflection in both versions, as grpcurl and similar tools use it."""

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from support.server import Server
from support.wire import refusal

SERVICES = {
    "sigmax.v1.ClassifierService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
}


@pytest.fixture(params=["v1", "v1alpha"])
def ask(request: pytest.FixtureRequest, server: Server) -> Any:
    """Asks one question; both versions have the same messages."""
    call: Any = server.channel.stream_stream(
        f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )

    def one(**question: str) -> Any:
        [reply] = call(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=60)
        return reply

    return one


def test_all_services_are_listed(ask: Any) -> None:
    reply = ask(list_services="")
    listed = {service.name for service in reply.list_services_response.service}
    assert listed >= SERVICES
    assert {name for name in listed - SERVICES if not name.startswith("grpc.reflection.")} == set()


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_is_described(ask: Any, service: str) -> None:
    raw = ask(file_containing_symbol=service).file_descriptor_response.file_descriptor_proto
    described = [FileDescriptorProto.FromString(file) for file in raw]
    names = {f"{file.package}.{each.name}" for file in described for each in file.service}
    assert service in names


def test_an_unknown_symbol_is_not_found(ask: Any) -> None:
    found = refusal(lambda: ask(file_containing_symbol="fish.Tank"))
    assert (found.code, found.message) == ("NOT_FOUND", "symbol 'fish.Tank' not found")


def test_the_details_of_errors_are_described(ask: Any) -> None:
    for message in ("ErrorInfo", "BadRequest", "RetryInfo"):
        raw = ask(file_containing_symbol=f"google.rpc.{message}").file_descriptor_response
        [file, *_] = map(FileDescriptorProto.FromString, raw.file_descriptor_proto)
        assert message in {each.name for each in file.message_type}
