"""Every method of every service, held against every right."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import bearer, token, write_tokens
from support.server import Serve, Server
from support.wire import (
    Refusal,
    Tensor,
    classify_request,
    infer_request,
    read_error,
    triton,
    typed,
)
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

SIGMAX, TRITON = "/sigmax.v1.ClassifierService/", "/inference.GRPCInferenceService/"
HEALTH, REFLECTION = "/grpc.health.v1.Health/", "/grpc.reflection."
TABLE = """
[[rule]]
who = ["describer"]
may = ["describe"]
models = ["seen", "absent"]

[[rule]]
who = ["classifier"]
may = ["classify"]
models = ["s??n", "absent"]

[[rule]]
who = ["inferrer"]
may = ["infer"]
models = ["seen", "abs*"]

[[rule]]
who = ["loader"]
may = ["control"]
models = ["seen", "absent"]

[[rule]]
who = ["chief"]
may = ["control"]
"""
# What each client of the table may do, with "seen" and "absent".
RIGHTS = {
    "describer": {"describe"},
    "classifier": {"classify", "describe"},
    "inferrer": {"infer", "describe"},
    "loader": {"control"},
    "chief": {"control", "server"},
    "nobody": set[str](),
}
MODELS = ["seen", "absent", "hidden", "neither"]

# What a call of each method asks of its caller: "open": nothing; "known": to have shown who it is;
# "server": the right to control every model; else a right with the model that is named.
ASKS = {
    SIGMAX + "Classify": "classify",
    SIGMAX + "ClassifyStream": "known",
    SIGMAX + "GetModel": "describe",
    SIGMAX + "ListModels": "known",
    TRITON + "ModelInfer": "infer",
    TRITON + "ModelStreamInfer": "known",
    TRITON + "ModelConfig": "describe",
    TRITON + "ModelMetadata": "describe",
    TRITON + "ModelReady": "describe",
    TRITON + "ModelStatistics": "describe",
    TRITON + "RepositoryIndex": "known",
    TRITON + "RepositoryModelLoad": "control",
    TRITON + "RepositoryModelUnload": "control",
    TRITON + "ServerLive": "open",
    TRITON + "ServerReady": "open",
    TRITON + "ServerMetadata": "known",
    TRITON + "LogSettings": "known",
    TRITON + "TraceSetting": "server",
    TRITON + "SystemSharedMemoryStatus": "server",
    TRITON + "SystemSharedMemoryRegister": "server",
    TRITON + "SystemSharedMemoryUnregister": "server",
    TRITON + "CudaSharedMemoryStatus": "server",
    TRITON + "CudaSharedMemoryRegister": "server",
    TRITON + "CudaSharedMemoryUnregister": "server",
    HEALTH + "Check": "describe",
    HEALTH + "List": "open",
    HEALTH + "Watch": "describe",
    REFLECTION + "v1.ServerReflection/ServerReflectionInfo": "known",
    REFLECTION + "v1alpha.ServerReflection/ServerReflectionInfo": "known",
}
STREAMS = {path for path in ASKS if path.endswith(("Stream", "StreamInfer", "Watch", "Info"))}
BY_MODEL = [path for path, asks in ASKS.items() if asks not in ("open", "known", "server")]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the table of rights, and with every kind of control switched on."""
    folder = tmp_path_factory.mktemp("methods")
    for name in ("seen", "hidden"):
        files.save(files.softmax(), folder / "models", name)
    (folder / "access.toml").write_text(TABLE)
    arguments = ("--model-control=explicit", "--load-model=*", "--shared-memory")
    tokens = write_tokens(folder / "tokens", RIGHTS)
    doors = ("--token-file", tokens, "--access", folder / "access.toml")
    with Server(folder / "log", folder / "models", *arguments, *doors) as server:
        yield server


def message(path: str, model: str) -> bytes:
    """The request of a method, with a model where it names one. None of them changes a model."""
    method = path.rpartition("/")[2]
    named: dict[str, Any] = {
        "Classify": lambda: pb.ClassifyRequest(model_name=model),
        "GetModel": lambda: pb.GetModelRequest(model_name=model),
        "ModelInfer": lambda: service_pb2.ModelInferRequest(model_name=model),
        "Check": lambda: health_pb2.HealthCheckRequest(service=model),
        "Watch": lambda: health_pb2.HealthCheckRequest(service=model),
    }
    if method in named:
        return bytes(named[method]().SerializeToString())
    if method.startswith("RepositoryModel"):
        # A parameter that there is not: who may control is told so.
        request = getattr(service_pb2, method + "Request")(model_name=model)
        request.parameters["fish"].bool_param = True
        return bytes(request.SerializeToString())
    if path in BY_MODEL:
        return bytes(getattr(service_pb2, method + "Request")(name=model).SerializeToString())
    return b""


@dataclass(frozen=True)
class Answer:
    """What came of a call: its first answer, or its error."""

    reply: bytes | None
    error: Refusal | None

    @property
    def code(self) -> str:
        return self.error.code if self.error else "OK"

    @property
    def is_let_in(self) -> bool:
        return self.code not in ("PERMISSION_DENIED", "UNAUTHENTICATED")


def call(server: Server, path: str, content: bytes, who: str | None) -> Answer:
    metadata = bearer(token(who)) if who else None
    channel: Any = server.channel
    try:
        if path in STREAMS:
            answers = channel.stream_stream(path)(iter([content]), metadata=metadata, timeout=60)
            reply = next(iter(answers), None)
            answers.cancel()
            return Answer(reply, None)
        return Answer(channel.unary_unary(path)(content, metadata=metadata, timeout=60), None)
    except grpc.RpcError as error:
        return Answer(None, read_error(error))


def test_every_method_has_a_row(server: Server) -> None:
    """The server's own reflection tells its methods. A new one fails here until it has a row."""
    found = set()
    # Each version of reflection describes itself and not the other.
    for version in ("v1", "v1alpha"):
        ask: Any = server.channel.stream_stream(
            f"{REFLECTION}{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

        def one(ask: Any = ask, **question: str) -> Any:
            [reply] = ask(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=60)
            return reply

        for listed in one(list_services="").list_services_response.service:
            raw = one(file_containing_symbol=listed.name).file_descriptor_response
            for described in map(FileDescriptorProto.FromString, raw.file_descriptor_proto):
                for service in described.service:
                    name = f"{described.package}.{service.name}"
                    found |= {f"/{name}/{method.name}" for method in service.method}
    assert found == set(ASKS)


@pytest.mark.parametrize("path", ASKS)
def test_who_is_not_known_gets_in_where_it_is_open_alone(guarded: Server, path: str) -> None:
    for who in (None, "stranger"):
        found = call(guarded, path, message(path, "seen"), who)
        if ASKS[path] == "open":
            assert found.code == "OK"
        else:
            assert found.error is not None
            reason = "NO_CREDENTIALS" if who is None else "BAD_TOKEN"
            assert (found.error.code, found.error.reason) == ("UNAUTHENTICATED", reason)


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("who", RIGHTS)
def test_every_right_opens_its_methods_alone(guarded: Server, path: str, who: str) -> None:
    asks = ASKS[path]
    if path in BY_MODEL:
        for model in MODELS:
            may = asks in RIGHTS[who] and (who == "chief" or model in ("seen", "absent"))
            assert call(guarded, path, message(path, model), who).is_let_in == may, model
    else:
        may = asks != "server" or "server" in RIGHTS[who]
        assert call(guarded, path, message(path, ""), who).is_let_in == may


@pytest.mark.parametrize("path", BY_MODEL)
def test_a_refusal_does_not_tell_whether_there_is_the_model(guarded: Server, path: str) -> None:
    """The errors are the same but for the name, whose length is the same."""
    hidden = call(guarded, path, message(path, "hidden"), "nobody").error
    absent = call(guarded, path, message(path, "absent"), "nobody").error
    assert hidden is not None
    assert absent is not None
    assert hidden.code == "PERMISSION_DENIED"
    assert hidden.reason == "NOT_ALLOWED"
    assert "'nobody'" in hidden.message
    assert "'hidden'" in hidden.message
    assert repr(absent) == repr(hidden).replace("hidden", "absent")


@pytest.mark.parametrize("version", ["", "1", "7", "fish"])
def test_a_refusal_does_not_tell_whether_there_is_the_version(
    guarded: Server, version: str
) -> None:
    for path, request in {
        SIGMAX + "Classify": pb.ClassifyRequest(model_name="hidden", model_version=version),
        SIGMAX + "GetModel": pb.GetModelRequest(model_name="hidden", model_version=version),
        TRITON + "ModelReady": service_pb2.ModelReadyRequest(name="hidden", version=version),
        TRITON + "ModelMetadata": service_pb2.ModelMetadataRequest(name="hidden", version=version),
        TRITON + "ModelConfig": service_pb2.ModelConfigRequest(name="hidden", version=version),
        TRITON + "ModelStatistics": service_pb2.ModelStatisticsRequest(
            name="hidden", version=version
        ),
        TRITON + "ModelInfer": service_pb2.ModelInferRequest(
            model_name="hidden", model_version=version
        ),
    }.items():
        content = request.SerializeToString()
        assert call(guarded, path, content, "nobody").code == "PERMISSION_DENIED"
        found = call(guarded, path, content, "nobody").error
        plain = call(guarded, path, message(path, "hidden"), "nobody").error
        assert found == plain, path


def test_metrics_do_not_tell_whether_there_is_a_model_that_was_refused(guarded: Server) -> None:
    """Refusals are counted by their right, and under no model."""
    name = "sigmax_permission_denied_total"
    for path, right in ((path, ASKS[path]) for path in BY_MODEL):
        before = guarded.metric(name, right=right)
        for model in ("hidden", "absent"):
            call(guarded, path, message(path, model), "nobody")
        assert guarded.metric(name, right=right) == before + 2, path
    for model in ("hidden", "absent"):
        assert guarded.metric("sigmax_requests_total", model=model, code="PERMISSION_DENIED") == 0


def test_lists_name_what_may_be_described_alone(guarded: Server) -> None:
    def names(who: str) -> list[set[str]]:
        listed = call(guarded, SIGMAX + "ListModels", b"", who).reply or b""
        index = call(guarded, TRITON + "RepositoryIndex", b"", who).reply or b""
        health = call(guarded, HEALTH + "List", b"", who).reply or b""
        statistics = call(guarded, TRITON + "ModelStatistics", b"", who).reply or b""
        text = health.decode(errors="replace")
        return [
            {model.name for model in pb.ListModelsResponse.FromString(listed).models},
            {model.name for model in service_pb2.RepositoryIndexResponse.FromString(index).models},
            {name for name in ("seen", "hidden") if re.search(name, text)},
            {
                model.name
                for model in service_pb2.ModelStatisticsResponse.FromString(statistics).model_stats
            },
        ]

    for who in ("describer", "classifier", "inferrer"):
        assert names(who) == [{"seen"}] * 4
    for who in ("nobody", "chief"):
        assert names(who) == [set()] * 4, "control is no right to see"
    for stranger in (None, "stranger"):
        found = call(guarded, HEALTH + "List", b"", stranger).reply
        assert found is not None
        assert b"seen" not in found
        assert b"hidden" not in found
        assert b"sigmax.v1" in found


@pytest.mark.parametrize(
    "name", ["", "sigmax.v1.ClassifierService", "inference.GRPCInferenceService"]
)
@pytest.mark.parametrize("who", [None, "stranger", "nobody"])
def test_the_servers_health_is_open(guarded: Server, name: str, who: str | None) -> None:
    content = health_pb2.HealthCheckRequest(service=name).SerializeToString()
    for method in ("Check", "Watch"):
        reply = call(guarded, HEALTH + method, content, who).reply
        assert reply is not None
        assert health_pb2.HealthCheckResponse.FromString(reply).status == 1


def test_an_unknown_method_is_told_to_who_is_known_alone(guarded: Server) -> None:
    for path in ("/fish.Tank/Feed", TRITON + "Feed", SIGMAX + "Classify/", "/"):
        assert call(guarded, path, b"", None).code == "UNAUTHENTICATED"
        assert call(guarded, path, b"", "nobody").code == "UNIMPLEMENTED"


def test_to_change_the_log_is_to_control_the_server(guarded: Server) -> None:
    request = service_pb2.LogSettingsRequest()
    request.settings["log_info"].bool_param = False
    content = request.SerializeToString()
    for who, rights in RIGHTS.items():
        expected = "OK" if "server" in rights else "PERMISSION_DENIED"
        assert call(guarded, TRITON + "LogSettings", content, who).code == expected


def test_shared_memory_is_for_who_controls_the_server(guarded: Server) -> None:
    """Whoever may infer may still not read or write a region: it may be another client's."""
    request = service_pb2.ModelInferRequest(model_name="seen")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 5])
    tensor.parameters["shared_memory_region"].string_param = "fish"
    tensor.parameters["shared_memory_byte_size"].int64_param = 20
    asked = service_pb2.ModelInferRequest(model_name="seen")
    output = asked.outputs.add(name="y")
    output.parameters["shared_memory_region"].string_param = "fish"
    output.parameters["shared_memory_byte_size"].int64_param = 20
    for content in (request.SerializeToString(), asked.SerializeToString()):
        found = call(guarded, TRITON + "ModelInfer", content, "inferrer").error
        assert found is not None
        assert (found.code, found.reason) == ("PERMISSION_DENIED", "NOT_ALLOWED")


def test_a_streams_requests_are_refused_one_by_one(guarded: Server) -> None:
    x = Tensor.of("x", [[0.0] * 5])
    models = ["seen", "hidden", "neither", "seen"]
    requests = [
        pb.ClassifyStreamRequest(id=str(place), request=classify_request(model, x))
        for place, model in enumerate(models)
    ]
    metadata = bearer(token("classifier"))
    replies = typed(guarded).ClassifyStream(iter(requests), metadata=metadata, timeout=60)
    reasons = {reply.id: reply.error.reason for reply in replies}
    assert reasons == {"0": "", "1": "NOT_ALLOWED", "2": "NOT_ALLOWED", "3": ""}

    metadata = bearer(token("inferrer"))
    replies = triton(guarded).ModelStreamInfer(
        iter([infer_request(model, x) for model in models]), metadata=metadata, timeout=60
    )
    texts = [reply.error_message for reply in replies]
    assert texts[0] == texts[3] == ""
    assert texts[1].replace("hidden", "?") == texts[2].replace("neither", "?") != ""


def test_reflection_can_be_left_out(serve: Serve, tmp_path: Path) -> None:
    files.save(files.softmax(), tmp_path / "models", "softmax")
    server = serve(tmp_path / "models", "--reflection=false")
    for path in (path for path in ASKS if path.startswith(REFLECTION)):
        assert call(server, path, b"", None).code == "UNIMPLEMENTED"
