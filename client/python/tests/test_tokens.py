"""The token of a client: sent with every call, renewed when it ends, and never shown."""

import asyncio
import base64
import itertools
import json
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import sigmax
from sigmax._token import Token

SECRET = "s3cret-of-the-client"  # a token that no text may show


def jwt(**claims: Any) -> str:
    """A JSON Web Token that nobody has signed."""
    parts = ({"alg": "none"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts]
    return ".".join(part.decode().rstrip("=") for part in encoded) + ".c2lnbmF0dXJl"


class Issuer:
    """A callable that returns one token after another, and the last for ever."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


def test_it_goes_with_every_call(make: Any, peer: Any) -> None:
    peer.tokens = {SECRET}
    client = make(peer.address, token=SECRET, metadata={"team": "zoo"}, timeout=60.0)
    client.wait_until_ready()
    assert client.models()
    assert client.classify("animal", [0, 1, 0]).label == "mammal"
    assert [key for key, _ in client.classify_stream("animal", [("k", [0, 1, 0])])] == ["k"]
    assert {brought["authorization"] for brought in peer.metadata} == {f"Bearer {SECRET}"}
    assert {brought["team"] for brought in peer.metadata} == {"zoo"}


def test_one_of_8_kb(make: Any, peer: Any) -> None:
    token = jwt(groups="g" * 6000)
    assert len(token) > 8000
    peer.tokens = {token}
    assert make(peer.address, token=token, timeout=60.0).models()


def test_a_wrong_one_is_denied(make: Any, peer: Any) -> None:
    peer.tokens = {"another"}
    with pytest.raises(sigmax.AccessDenied) as caught:
        make(peer.address, token=SECRET, timeout=60.0).models()
    assert str(caught.value) == "expected a token that is known"
    with pytest.raises(sigmax.AccessDenied, match="has sent no token: give token=") as caught:
        make(peer.address, timeout=60.0).models()
    assert caught.value.code == "UNAUTHENTICATED"
    assert len(peer.calls) == 2  # a token that is always the same is not tried again


def test_a_right_that_is_missing_is_final(make: Any, peer: Any) -> None:
    peer.failures.append(peer.failure(grpc.StatusCode.PERMISSION_DENIED, message="not yours"))
    issuer = Issuer("a", "b")
    with pytest.raises(sigmax.AccessDenied, match="not yours") as caught:
        make(peer.address, token=issuer, timeout=60.0).models()
    assert (caught.value.code, issuer.asked) == ("PERMISSION_DENIED", 1)


@pytest.mark.parametrize("address", ["sigmax.test", "10.0.0.1:8001", "127.0.0.1:1,10.0.0.1:1"])
def test_it_is_never_sent_in_plaintext(make: Any, address: str) -> None:
    insecure = grpc.experimental.insecure_channel_credentials()  # type: ignore[attr-defined]
    for arguments in (
        {"token": SECRET},
        {"token": lambda: SECRET},
        {"metadata": {"authorization": SECRET}},
        {"token": SECRET, "credentials": insecure},
    ):
        with pytest.raises(sigmax.InvalidCredentials) as caught:
            make(address, **arguments)
        assert "expected TLS to " in str(caught.value)
        assert "give tls=True or the file of a CA" in str(caught.value)
        assert SECRET not in str(caught.value)
    tls = sigmax.Tls(server_name="sigmax.test")
    make(address, token=SECRET, tls=tls)  # nothing is sent yet


def test_to_this_machine_it_is_sent(make: Any, peer: Any, tmp_path: Path) -> None:
    server = peer.server()
    server.add_insecure_port(f"unix:{tmp_path / 'socket'}")
    server.start()
    for address in (peer.address, f"unix:{tmp_path / 'socket'}"):
        assert make(address, token=SECRET, timeout=60.0).models()
        assert peer.metadata[-1]["authorization"] == f"Bearer {SECRET}"
    server.stop(None).wait()


def test_a_callable_is_asked_once(make: Any, peer: Any) -> None:
    issuer = Issuer("a", "b")
    client = make(peer.address, token=issuer, timeout=60.0)
    assert issuer.asked == 0  # a client that is not used needs none
    for _ in range(3):
        assert client.models()
    assert issuer.asked == 1


def test_a_json_web_token_is_renewed_before_its_end(
    make: Any, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    clock = [now]
    monkeypatch.setattr("sigmax._token.time.time", lambda: clock[0])
    first, second = jwt(exp=now + 1000), jwt(exp=now + 2000)
    client = make(peer.address, token=Issuer(first, second), timeout=60.0)
    for later, expected in ((0, first), (960, first), (980, second), (1500, second)):
        clock[0] = now + later
        assert client.models()
        assert peer.metadata[-1]["authorization"] == f"Bearer {expected}"


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b.c",
        jwt(),
        jwt(exp="soon"),
        jwt(exp=None),
        jwt(exp=1),  # it has ended, or this clock is wrong: a server decides
        jwt(exp=10**400),
        "a." + base64.urlsafe_b64encode(b"[" * 30000).decode().rstrip("=") + ".c",
        "a." + base64.urlsafe_b64encode(b"[1]").decode().rstrip("=") + ".c",
    ],
)
def test_one_without_an_end_is_kept_until_it_is_refused(make: Any, peer: Any, token: str) -> None:
    issuer = Issuer(token, "next")
    client = make(peer.address, token=issuer, timeout=60.0)
    assert client.models()
    assert client.models()
    assert issuer.asked == 1
    peer.tokens = {"next"}
    assert client.models()
    assert client.classify("animal", [0, 1, 0])
    assert issuer.asked == 2


def test_a_second_refusal_is_final(make: Any, peer: Any) -> None:
    issuer = Issuer("a", "b", "c")
    peer.tokens = set()
    client = make(peer.address, token=issuer, timeout=60.0)
    with pytest.raises(sigmax.AccessDenied):
        client.models()
    assert (issuer.asked, len(peer.calls)) == (2, 2)
    with pytest.raises(sigmax.AccessDenied):
        client.models()
    assert issuer.asked == 3


def test_what_a_callable_raises_reaches_the_caller(make: Any, peer: Any) -> None:
    broken = RuntimeError("the issuer is away")

    def issue() -> str:
        raise broken

    client = make(peer.address, token=issue, timeout=60.0)
    for call in (client.models, lambda: list(client.classify_stream("animal", []))):
        with pytest.raises(RuntimeError) as caught:
            call()
        assert caught.value is broken
    assert peer.calls == []


@pytest.mark.parametrize("answer", [None, 7, b"bytes", "", "two words", "line\n", "\N{SNOWMAN}"])
def test_what_is_no_token(make: Any, peer: Any, answer: Any) -> None:
    client = make(peer.address, token=lambda: answer, timeout=60.0)
    with pytest.raises(sigmax.InvalidCredentials, match="expected a token of visible ASCII"):
        client.models()
    if answer is not None:
        with pytest.raises(sigmax.InvalidCredentials) as caught:
            make(peer.address, token=answer)
        assert str(caught.value).isprintable()
        assert not answer or str(answer) not in str(caught.value)


def test_threads_ask_one_at_a_time(peer: Any) -> None:
    inside = threading.Semaphore(1)
    asked = itertools.count()

    def issue() -> str:
        assert inside.acquire(blocking=False)
        try:
            return f"t{next(asked)}"
        finally:
            inside.release()

    peer.tokens = {"t1"}
    with (
        sigmax.Client(peer.address, token=issue, timeout=60) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        assert all(pool.map(lambda _: bool(client.models()), range(64)))
    assert next(asked) == 2


def test_an_asynchronous_callable_is_for_asyncio(peer: Any) -> None:
    tokens = Issuer("a", "b")
    peer.tokens = {"b"}

    async def issue() -> str:
        return tokens()

    async def ask() -> None:
        async with sigmax.AsyncClient(peer.address, token=issue, timeout=60) as client:
            assert all(await asyncio.gather(*(client.models() for _ in range(8))))

    asyncio.run(ask())
    assert tokens.asked == 2
    with pytest.raises(sigmax.InvalidCredentials, match="not asynchronous"):
        sigmax.Client(peer.address, token=issue)  # type: ignore[arg-type]


def test_a_callable_does_not_hold_up_the_event_loop(peer: Any) -> None:
    threads = []

    def issue() -> str:
        threads.append(threading.current_thread())
        return "a"

    async def ask() -> None:
        async with sigmax.AsyncClient(peer.address, token=issue, timeout=60) as client:
            assert await client.models()

    asyncio.run(ask())
    assert threads[0] is not threading.current_thread()


def rewrite(file: Path, token: str) -> None:
    file.write_text(token + "\n")


def replace(file: Path, token: str) -> None:
    new = file.with_name("new")
    new.write_text(token)
    new.replace(file)


def swap(file: Path, token: str) -> None:
    """Point a link elsewhere, as Kubernetes does with its projected tokens."""
    folder = file.with_name(f"..{token}")
    folder.mkdir()
    (folder / "token").write_text(token)
    link = file.with_name("..new")
    link.symlink_to(folder / "token")
    link.replace(file)


@pytest.mark.parametrize("change", [rewrite, replace, swap])
def test_a_file_is_read_again_when_it_has_changed(
    make: Any, peer: Any, tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    file = tmp_path / "token"
    file.write_text("\n first\n")
    client = make(peer.address, token=sigmax.token_file(file), timeout=60.0)
    for token in ("first", "second-one", "third"):
        if token != "first":
            change(file, token)
        peer.tokens = None
        assert client.models()
        assert peer.metadata[-1]["authorization"] == f"Bearer {token}"
    # A change that the file's facts do not show is found when the token is refused.
    facts = file.stat()
    file.write_text("THIRD")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    peer.tokens = {"THIRD"}
    assert client.models()
    file.unlink()
    with pytest.raises(sigmax.InvalidCredentials, match=f"cannot read {file}: No such file"):
        client.models()


def test_a_file_that_is_being_written_keeps_its_last_token(
    make: Any, peer: Any, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    client = make(peer.address, token=sigmax.token_file(file), timeout=60.0)
    for content, token in (("", "first"), ("second", "second"), ("\n", "second")):
        file.write_text(content)
        assert client.models()
        assert peer.metadata[-1]["authorization"] == f"Bearer {token}"
    file.write_text("two words")
    with pytest.raises(sigmax.InvalidCredentials, match=f"{file}: expected a token"):
        client.models()


def test_files_that_hold_no_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for content in (b"", b"\n", b"two words", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(sigmax.InvalidCredentials, match=f"{file}: expected a token"):
            sigmax.token_file(file)
    with pytest.raises(sigmax.InvalidCredentials, match=f"cannot read {tmp_path}: Is a directory"):
        sigmax.token_file(tmp_path)


def test_no_text_and_no_pickle_shows_it(peer: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    source = sigmax.token_file(file)
    assert SECRET not in repr(source)
    assert SECRET.encode() not in pickle.dumps(source)
    assert pickle.loads(pickle.dumps(source))() == SECRET
    with pytest.raises(TypeError, match="make a client in each process"):
        pickle.dumps(Token(SECRET))
    metadata = {"api-key": SECRET}
    with sigmax.Client(peer.address, token=SECRET, metadata=metadata) as client:
        assert SECRET not in repr(client) + repr(vars(client))
        with pytest.raises(TypeError):
            pickle.dumps(client)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"Team": "zoo"}, "keys of lower-case letters"),
        ({":path": "/"}, "keys of lower-case letters"),
        ({"": "zoo"}, "keys of lower-case letters"),
        ({7: "zoo"}, "keys of lower-case letters"),
        ({"grpc-timeout": "1S"}, "which is gRPC's own"),
        ({"team": "\N{SNOWMAN}"}, "printable ASCII as the value of 'team'"),
        ({"team": "zoo\r\nx: y"}, "printable ASCII as the value of 'team'"),
        ({"team": b"zoo"}, "a text as the value of 'team', got bytes"),
        ({"team-bin": "zoo"}, "bytes as the value of 'team-bin', got str"),
        ([("team",)], "pairs of a key and a value"),
        (7, "pairs of a key and a value, got int"),
    ],
)
def test_metadata_are_checked(make: Any, metadata: Any, said: str) -> None:
    with pytest.raises(sigmax.InvalidInput) as caught:
        make("localhost", metadata=metadata)
    assert said in str(caught.value).replace(";", ",")
    assert caught.value.fields == {"metadata": str(caught.value)}


def test_metadata_of_bytes_and_repeated_keys(make: Any, peer: Any) -> None:
    pairs = [("team", "zoo"), ("team", "park"), ("trace-bin", b"\0\xff")]
    assert make(peer.address, metadata=pairs, timeout=60.0).models()
    assert peer.metadata[-1]["trace-bin"] == b"\0\xff"
    assert peer.metadata[-1]["team"] == "park"


def test_authorization_beside_a_token(make: Any) -> None:
    with pytest.raises(sigmax.InvalidCredentials, match="no 'authorization' beside token="):
        make("localhost", token="a", metadata={"authorization": "b"})
