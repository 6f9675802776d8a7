"""Tokens from a file: who is let in by which, and what a new content of the file changes."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import (
    bearer,
    enter,
    refused,
    token,
    until_known,
    until_unknown,
    write_tokens,
)
from support.raw import Raw, block, data, framed, headers
from support.server import Serve, Server
from support.wire import Tensor, classify_request, infer_request, read_error, triton, typed
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

LONG = "x" * 8192
HASHED = "only-its-hash-is-in-the-file"
ALICE = f"Bearer {token('alice')}".encode()
METADATA = "/inference.GRPCInferenceService/ServerMetadata"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    files.save(files.softmax(), folder, "softmax")
    return folder


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Knows alice by two tokens, bob by a hash, and carol by a token of 8 kB."""
    folder = tmp_path_factory.mktemp("tokens")
    tokens = write_tokens(folder / "tokens", ["alice"])
    hashed = hashlib.sha256(HASHED.encode()).hexdigest()
    with tokens.open("a") as file:
        file.write(f"# more\n\nalice: {token('alice-new')}\nbob: sha256:{hashed}\ncarol: {LONG}\n")
    with Server(folder / "log", models, "--token-file", tokens) as server:
        yield server


@pytest.mark.parametrize("secret", [token("alice"), token("alice-new"), HASHED, LONG])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_lets_its_client_in(guarded: Server, secret: str, scheme: str) -> None:
    enter(guarded, (("authorization", f"{scheme} {secret}"),))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        f"Bearer {token('alice')[:-1]}",
        f"Bearer {token('alice')}x",
        f"Bearer {token('alice').upper()}",
        f"Bearer {token('alice')}, Bearer {token('alice')}",
        f"Bearer {LONG}x",
        f"Bearer {'x' * 40_000}",
        f"Bearer sha256:{hashlib.sha256(HASHED.encode()).hexdigest()}",
        f"Bearer {hashlib.sha256(HASHED.encode()).hexdigest()}",
        f"Basic {token('alice')}",
        token("alice"),
    ],
)
def test_a_wrong_token_is_refused(guarded: Server, value: str) -> None:
    found = refused(guarded, (("authorization", value),))
    assert found.reason == "BAD_TOKEN"
    assert "alice" not in found.message
    enter(guarded, bearer(token("alice")))


def test_no_token_is_told_from_a_wrong_one(guarded: Server) -> None:
    found = refused(guarded)
    assert found.reason == "NO_CREDENTIALS"
    assert "authorization: Bearer" in found.message


def test_two_headers_are_refused_though_both_are_right(guarded: Server) -> None:
    assert refused(guarded, 2 * bearer(token("alice"))).reason == "BAD_TOKEN"
    assert refused(guarded, bearer("wrong") + bearer(token("alice"))).reason == "BAD_TOKEN"


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300))
def test_no_other_text_is_a_token(guarded: Server, text: str) -> None:
    assert refused(guarded, (("authorization", text),)).reason == "BAD_TOKEN"
    assert refused(guarded, bearer(text)).reason == "BAD_TOKEN"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"Bearer ", ALICE[:-1]]), st.binary(max_size=70))
def test_no_other_bytes_are_a_token(guarded: Server, begin: bytes, rest: bytes) -> None:
    """Bytes that no header may have end the stream or the connection, and nothing else."""
    value = begin + rest
    assume(value.strip() != ALICE)
    literal = b"\x00" + b"".join(bytes([len(text)]) + text for text in (b"authorization", value))
    with Raw(guarded.grpc) as raw:
        stream = raw.next()
        raw.send(headers(stream, block(METADATA) + literal), *data(stream, framed(b"")))
        answer = raw.answer(stream)
        assert answer.status == "16" or answer.reset is not None or raw.goaway is not None
        assert answer.message == b""
    enter(guarded, bearer(token("alice")))


def resident(server: Server) -> int:
    """The server's memory in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) >> 10


def test_one_token_written_in_many_ways_takes_no_memory(guarded: Server) -> None:
    """What a shard keeps of a token is bounded in bytes, whatever blanks are around it."""
    enter(guarded, bearer(token("alice")))
    before = resident(guarded)
    for blanks in range(1000):
        # It may be refused, too.
        with suppress(grpc.RpcError):
            enter(guarded, bearer(" " * (60_000 - blanks) + token("alice")))
    assert resident(guarded) < before + 40


@pytest.mark.slow
def test_a_new_file_is_in_force_and_loses_no_request(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens", ["old", "steady"])
    server = serve(models, "--shards=2", "--token-file", tokens)
    stop, errors, count = threading.Event(), list[Exception](), 0

    def load() -> None:
        nonlocal count
        while not stop.is_set():
            try:
                enter(server, bearer(token("steady")))
                count += 1
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    for names in (["new", "steady"], ["old", "steady"], ["new", "steady"]):
        write_tokens(tmp_path / "next", names).rename(tokens)
        other = {"new": "old", "old": "new"}[names[0]]
        until_known(server, bearer(token(names[0])))
        until_unknown(server, bearer(token(other)))
    stop.set()
    thread.join()
    assert errors == []
    assert count > 0


@pytest.mark.parametrize("stream", ["ClassifyStream", "ModelStreamInfer"])
def test_an_open_stream_ends_with_its_callers_token(
    serve: Serve, models: Path, tmp_path: Path, stream: str
) -> None:
    """A token that is taken back lets nobody ask on, over a stream that was open before either."""
    tokens = write_tokens(tmp_path / "tokens", ["alice", "bob"])
    server = serve(models, "--token-file", tokens)
    x = Tensor.of("x", [[0.0] * 5])
    asked: SimpleQueue[Any] = SimpleQueue()
    metadata = bearer(token("alice"))
    if stream == "ClassifyStream":
        request: Any = pb.ClassifyStreamRequest(request=classify_request("softmax", x))
        answers: Any = typed(server).ClassifyStream(
            iter(asked.get, None), metadata=metadata, timeout=60
        )
    else:
        request = infer_request("softmax", x)
        answers = triton(server).ModelStreamInfer(
            iter(asked.get, None), metadata=metadata, timeout=60
        )

    def error() -> str:
        asked.put(request)
        try:
            answer = next(answers)
        except grpc.RpcError as ended:
            return read_error(ended).code
        return str(answer.error.reason if stream == "ClassifyStream" else answer.error_message)

    assert error() == ""
    write_tokens(tokens, ["bob"])
    until_unknown(server, bearer(token("alice")))
    found = error()
    asked.put(None)
    assert found != ""


def test_no_token_is_printed_or_logged(serve: Serve, models: Path, tmp_path: Path) -> None:
    table = tmp_path / "access.toml"
    table.write_text('[[rule]]\nwho = ["alice"]\nmay = ["classify", "control"]\n')
    tokens, audit = write_tokens(tmp_path / "tokens", ["alice"]), tmp_path / "audit"
    doors = ("--token-file", tokens, "--access", table, "--audit-log", audit)
    server = serve(models, *doors, "--allow-log-settings")
    everything = service_pb2.LogSettingsRequest()
    everything.settings["log_verbose_level"].uint32_param = 2
    triton(server).LogSettings(everything, metadata=bearer(token("alice")), timeout=60)
    enter(server, bearer(token("alice")))
    texts = [server.printed]
    for secret in ("wrong-" + token("alice"), token("alice")[:-1]):
        texts.append(repr(refused(server, bearer(secret))))
    texts += [server.get("/metrics")[1], server.get("/readyz")[1]]
    server.stop()
    texts += [server.log(), audit.read_text()]
    assert " TRACE " in texts[-2]
    assert "BAD_TOKEN" in texts[-1]
    assert [text for text in texts if token("alice")[:-1] in text] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alice: short", "line 1: token: expected 16 to 8192 characters, got 5; `openssl rand"),
        (f"# one\nalice: {LONG}x", "line 2: token: expected 16 to 8192 characters, got 8193"),
        ("alice secret-1234567890", "line 1: expected `name: token`"),
        ("alice: sha256:12", "line 1: sha256: expected 64 hexadecimal digits"),
        ("# nobody", "expected lines of `name: token`, got none"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start(
    serve: Serve, models: Path, tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(AssertionError) as told:
        serve(models, "--token-file", tmp_path / "tokens")
    assert f"{tmp_path / 'tokens'}: {problem}" in str(told.value)
    assert "secret-" not in str(told.value)
