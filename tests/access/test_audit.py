"""The audit log: refusals and orders, in lines of JSON; and the counts of refusals."""

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import bearer, enter, refused, token, write_tokens
from support.raw import INFER, Raw, block, headers, packed
from support.server import PATIENCE, Serve, Server
from support.wire import refusal, triton, typed
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

TABLE = (
    '[[rule]]\nwho = ["alice"]\nmay = ["classify"]\n[[rule]]\nwho = ["ops"]\nmay = ["control"]\n'
)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def start(serve: Serve, tmp_path: Path) -> Callable[..., Server]:
    """Starts a server with an audit log, and tokens of alice and ops."""
    files.save(files.softmax(), tmp_path / "models", "softmax")
    tokens = write_tokens(tmp_path / "tokens", ["alice", "ops"])
    (tmp_path / "access.toml").write_text(TABLE)

    def one(audit: Path | str, *arguments: str) -> Server:
        doors = ("--token-file", tokens, "--access", tmp_path / "access.toml")
        return serve(tmp_path / "models", *doors, "--audit-log", audit, *arguments)

    return one


def until_lines(path: Path, count: int) -> list[dict[str, Any]]:
    """Wait until the log has so many lines, and return them."""
    patience = time.monotonic() + PATIENCE
    while not path.exists() or path.read_text().count("\n") < count:
        assert time.monotonic() < patience, f"expected {count} lines, got {path.read_text()}"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == count
    return lines


def classify(server: Server, model: str, who: str) -> Any:
    request = pb.ClassifyRequest(model_name=model)
    return typed(server).Classify(request, metadata=bearer(token(who)), timeout=60)


def unload(server: Server, model: str, who: str) -> Any:
    request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
    call = triton(server).RepositoryModelUnload
    return call(request, metadata=bearer(token(who)), timeout=60)


def test_refusals_and_orders_have_a_line_each(start: Callable[..., Server], tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    server = start(audit, "--model-control=explicit", "--load-model=*")
    refused(server)
    refused(server, bearer("wrong-" + token("alice")))
    refusal(lambda: classify(server, "softmax", "ops"))
    refusal(lambda: unload(server, "softmax", "alice"))
    unload(server, "softmax", "ops")
    # Answers that are no refusals have no line.
    enter(server, bearer(token("alice")))
    assert refusal(lambda: classify(server, "softmax", "alice")).code != "PERMISSION_DENIED"
    lines = until_lines(audit, 5)
    for line in lines:
        assert TIME.fullmatch(line.pop("time"))
        assert re.fullmatch(r"127\.0\.0\.1:\d+", line.pop("peer"))
    metadata, control = (
        "/inference.GRPCInferenceService/ServerMetadata",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
    )
    question = "/sigmax.v1.ClassifierService/Classify"
    keys = ("identity", "call", "model", "outcome", "reason")
    assert lines == [
        dict(zip(keys, line, strict=True))
        for line in (
            (None, metadata, None, "UNAUTHENTICATED", "NO_CREDENTIALS"),
            (None, metadata, None, "UNAUTHENTICATED", "BAD_TOKEN"),
            ("ops", question, "softmax", "PERMISSION_DENIED", "NOT_ALLOWED"),
            ("alice", control, "softmax", "PERMISSION_DENIED", "NOT_ALLOWED"),
            ("ops", control, "softmax", "OK", None),
        )
    ]
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    assert server.metric("sigmax_unauthenticated_total", reason="NO_CREDENTIALS") == 1
    assert server.metric("sigmax_unauthenticated_total", reason="BAD_TOKEN") == 1
    assert server.metric("sigmax_permission_denied_total", right="classify") == 1
    assert server.metric("sigmax_permission_denied_total", right="control") == 1


def test_every_order_has_a_line_whether_or_not_it_succeeds(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    server = start(audit, "--model-control=explicit", "--shared-memory")
    metadata, stub = bearer(token("ops")), triton(server)
    change = {"log_info": service_pb2.LogSettingsRequest.SettingValue(bool_param=True)}
    wrong = {"log_info": service_pb2.LogSettingsRequest.SettingValue(string_param="fish")}
    orders: list[tuple[str, str | None, str, str | None, Any]] = [
        ("RepositoryModelLoad", "softmax", "OK", None, {"model_name": "softmax"}),
        ("RepositoryModelLoad", "fish", "INTERNAL", "NOT_IN_REPOSITORY", {"model_name": "fish"}),
        ("RepositoryModelUnload", "softmax", "OK", None, {"model_name": "softmax"}),
        (
            "SystemSharedMemoryRegister",
            None,
            "INTERNAL",
            "NO_SHARED_MEMORY",
            {"name": "r", "key": "/no-such-object", "byte_size": 4},
        ),
        ("SystemSharedMemoryUnregister", None, "OK", None, {"name": "r"}),
        ("CudaSharedMemoryRegister", None, "INVALID_ARGUMENT", "NO_GPU", {"name": "r"}),
        ("CudaSharedMemoryUnregister", None, "OK", None, {"name": "r"}),
        ("LogSettings", None, "OK", None, {"settings": change}),
        ("LogSettings", None, "INVALID_ARGUMENT", "BAD_FIELD", {"settings": wrong}),
    ]
    for method, _, outcome, _, fields in orders:
        request = getattr(service_pb2, method + "Request")(**fields)
        call = getattr(stub, method)
        if outcome == "OK":
            call(request, metadata=metadata, timeout=60)
        else:
            assert refusal(partial(call, request, metadata=metadata, timeout=60)).code == outcome
    # To look is no order.
    stub.SystemSharedMemoryStatus(
        service_pb2.SystemSharedMemoryStatusRequest(), metadata=metadata, timeout=60
    )
    stub.LogSettings(service_pb2.LogSettingsRequest(), metadata=metadata, timeout=60)
    lines = until_lines(audit, len(orders))
    keys = ("time", "peer", "identity", "call", "model", "outcome", "reason")
    assert {tuple(line) for line in lines} == {keys}
    assert {line["identity"] for line in lines} == {"ops"}
    assert [
        (line["call"].rpartition("/")[2], line["model"], line["outcome"], line["reason"])
        for line in lines
    ] == [order[:4] for order in orders]


@pytest.mark.parametrize("name", ["a\nb\r\x1b[2J\x00", "\u202e\U0001f41f" * 50, "x" * 1_000_000])
def test_a_line_is_one_whatever_a_client_names(
    start: Callable[..., Server], tmp_path: Path, name: str
) -> None:
    audit = tmp_path / "audit"
    server = start(audit)
    refusal(lambda: classify(server, name, "ops"))
    [line] = until_lines(audit, 1)
    assert line["model"] == name[:255]
    assert audit.read_bytes().isascii()
    assert audit.stat().st_size < 8192


def test_a_log_that_was_moved_away_is_begun_anew(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    server = start(audit)
    refused(server)
    until_lines(audit, 1)
    audit.rename(tmp_path / "audit.1")
    refused(server)
    until_lines(audit, 1)
    assert len((tmp_path / "audit.1").read_text().splitlines()) == 1


def test_a_log_is_gone_on_with_after_a_start(start: Callable[..., Server], tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    for count in (1, 2):
        server = start(audit)
        refused(server)
        until_lines(audit, count)
        server.stop()


def test_every_line_is_written_before_the_end(start: Callable[..., Server], tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    server = start(audit)
    for _ in range(100):
        refused(server)
    assert server.stop() == 0
    assert len(audit.read_text().splitlines()) == 100


def test_a_flood_hides_no_refusal_of_another_address(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    server = start(audit)
    host, _, port = server.grpc.rpartition(":")
    other = socket.create_connection((host, int(port)), 60, ("127.0.0.2", 0))
    with Raw(other) as raw, Raw(server.grpc) as stranger:
        for _ in range(3):
            streams = [stranger.next() for _ in range(1000)]
            head = block(INFER)
            stranger.send(
                packed([headers(each, head, "END_HEADERS", "END_STREAM") for each in streams])
            )
            assert {stranger.answer(each).status for each in streams} == {"16"}
            assert raw.answer(raw.ask(INFER, b"")).status == "16"
    assert server.stop() == 0
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert sum(line.get("peer", "").startswith("127.0.0.2:") for line in lines) == 3
    assert sum(line.get("dropped", 1) for line in lines) == 3003


def test_a_full_disk_harms_no_request(start: Callable[..., Server]) -> None:
    server = start("/dev/full")
    for _ in range(100):
        refused(server)
        enter(server, bearer(token("alice")))
    server.until(100, "sigmax_audit_lines_dropped_total")


def test_a_log_may_go_to_standard_error(start: Callable[..., Server]) -> None:
    server = start("-")
    refused(server)
    log = server.until_logged("NO_CREDENTIALS")
    [line] = [line for line in log.splitlines() if line.startswith("{")]
    assert json.loads(line)["outcome"] == "UNAUTHENTICATED"


def test_a_log_that_cannot_be_opened_ends_the_start(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, problem in (
        (tmp_path / "no" / "audit", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (pipe, "expected a reader of this named pipe, got none"),
    ):
        with pytest.raises(AssertionError, match="it never started") as told:
            start(path)
        assert f"sigmax serve: error: --audit-log: {path}: {problem}\n" in str(told.value)


@pytest.mark.slow
def test_what_nobody_reads_is_dropped_and_counted(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """The log is a pipe that stands still: requests go on, and the gap is told later."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    server = start(pipe)
    for _ in range(8000):
        refused(server)
    assert server.metric("sigmax_audit_lines_dropped_total") > 0
    enter(server, bearer(token("alice")))
    os.close(reader)
