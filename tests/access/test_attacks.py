"""Strangers that try to be served, and clients that try to have the rights of others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.utils import base64url_encode
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import (
    AUDIENCE,
    ISSUER,
    Issuer,
    bearer,
    claims,
    enter,
    refused,
    token,
    write_keys,
    write_tokens,
)
from support.attack import MODEL
from support.raw import Answer, Raw, block, data, framed, headers
from support.server import Server
from support.wire import refusal, typed

LIST = "/sigmax.v1.ClassifierService/ListModels"
TRITON = "/inference.GRPCInferenceService"
ALICE = ("authorization", f"Bearer {token('alice')}")
WRONG = ("authorization", f"Bearer {token('nobody')}")
UNAUTHENTICATED = "16"
TABLE = f"""
[[rule]]
who = ["alice"]
may = ["classify"]
models = ["{MODEL}"]

[[rule]]
who = ["group:x"]
may = ["classify", "control"]
"""
ISSUES = Issuer("P-256", "key")
STRANGER = Issuer("P-256", "key")
# Every other way to name a method that asks for credentials, and some near one that is open.
PATHS = [
    f"/{LIST}",
    f"{LIST}/",
    f"{LIST}?x=1",
    f"{LIST};x",
    f"{LIST}%00",
    LIST.lower(),
    LIST.replace("L", "%4c"),
    LIST.replace("/L", "//L"),
    f"/grpc.health.v1.Health/..{LIST}",
    f"{TRITON}/ServerLive/../ServerMetadata",
    f"{TRITON}/ServerLive/",
    f"/{TRITON}/ServerLive",
    "*",
]
# Headers that are not the credentials of this protocol.
HEADERS = {
    "nothing": [],
    "right and wrong": [ALICE, WRONG],
    "wrong and right": [WRONG, ALICE],
    "two in one": [(ALICE[0], f"{ALICE[1]}, {ALICE[1]}")],
    "for a proxy": [("proxy-authorization", ALICE[1])],
    "in binary": [("authorization-bin", ALICE[1])],
    "a cookie": [("cookie", f"authorization={ALICE[1]}")],
    "what proxies say": [
        ("x-forwarded-user", "alice"),
        ("x-forwarded-client-cert", 'Subject="CN=alice"'),
        ("x-ssl-client-s-dn", "CN=alice"),
        ("forwarded", "for=127.0.0.1"),
    ],
    "other kinds": [("authorization", ALICE[1].replace("Bearer", "Basic"))],
    "a tab": [("authorization", ALICE[1].replace(" ", "\t"))],
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Knows alice by a token, and all whom an issuer names; one shard."""
    folder = tmp_path_factory.mktemp("attacks")
    files.save(files.softmax(), folder / "models", MODEL)
    files.save(files.softmax(), folder / "models", "secret")
    (folder / "access.toml").write_text(TABLE)
    arguments: list[str | Path] = [folder / "models", "--shards=1"]
    arguments += ["--token-file", write_tokens(folder / "tokens", ["alice"])]
    arguments += ["--jwt-jwks", write_keys(folder / "keys.json", ISSUES.jwk())]
    arguments += ["--jwt-audience", AUDIENCE, "--jwt-issuer", ISSUER]
    with Server(folder / "log", *arguments, "--access", folder / "access.toml") as server:
        yield server


def asked(server: Server, path: str, *more: tuple[str, str]) -> Answer:
    """Return the answer to a call of this path with these headers."""
    with Raw(server.grpc) as raw:
        return raw.answer(raw.ask(path, b"", *more))


def models_of(server: Server, secret: str) -> list[str]:
    """Return the models that who shows this token may see."""
    answer = typed(server).ListModels(pb.ListModelsRequest(), metadata=bearer(secret), timeout=60)
    return [model.name for model in answer.models]


def signed(issuer: Issuer, text: str, **head: Any) -> str:
    """Return a token of any text, signed by ES256, with these fields more in its head."""
    fields = {"alg": "ES256", "kid": issuer.kid, **head}
    first = b".".join(map(base64url_encode, (json.dumps(fields).encode(), text.encode())))
    numbers = decode_dss_signature(issuer.key.sign(first, ec.ECDSA(hashes.SHA256())))
    signature = b"".join(number.to_bytes(32, "big") for number in numbers)
    return (first + b"." + base64url_encode(signature)).decode()


@pytest.mark.parametrize("path", PATHS)
def test_no_other_spelling_of_a_path_is_open(guarded: Server, path: str) -> None:
    assert asked(guarded, path).status == UNAUTHENTICATED
    assert asked(guarded, LIST, ALICE).status == "0"


@pytest.mark.parametrize("kind", HEADERS)
def test_no_other_header_says_who_calls(guarded: Server, kind: str) -> None:
    assert asked(guarded, LIST, *HEADERS[kind]).status == UNAUTHENTICATED
    assert asked(guarded, LIST, ALICE).status == "0"


@pytest.mark.parametrize(
    "more", [("Authorization", ALICE[1]), (":authorization", ALICE[1]), (":path", LIST)]
)
def test_headers_that_http2_forbids_open_nothing(guarded: Server, more: tuple[str, str]) -> None:
    with Raw(guarded.grpc) as raw:
        stream = raw.ask("/grpc.health.v1.Health/Check", b"", more)
        raw.ping()
        answer = raw.answers.get(stream)
        assert raw.goaway == 1 or (answer is not None and answer.reset == 1)
    assert asked(guarded, LIST, ALICE).status == "0"


def test_trailers_are_no_credentials(guarded: Server) -> None:
    with Raw(guarded.grpc) as raw:
        stream = raw.next()
        raw.send(headers(stream, block(LIST)), *data(stream, framed(b""), end=False))
        trailers = b"\x00" + b"".join(bytes([len(part)]) + part.encode() for part in ALICE)
        raw.send(headers(stream, trailers, "END_HEADERS", "END_STREAM"))
        assert raw.answer(stream).status == UNAUTHENTICATED


def test_a_stranger_is_told_of_no_model(guarded: Server) -> None:
    answer = asked(guarded, "/grpc.health.v1.Health/List")
    assert answer.status == "0"
    assert b"inference.GRPCInferenceService" in answer.body
    assert b"secret" not in answer.body
    assert MODEL.encode() not in answer.body


@pytest.mark.parametrize(
    "head",
    [
        {"jwk": STRANGER.jwk()},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/certificate"},
        {"x5c": ["AAAA"]},
        {"kid": "../../../dev/null", "jwk": STRANGER.jwk()},
    ],
)
def test_a_token_brings_no_key_of_its_own(guarded: Server, head: dict[str, Any]) -> None:
    text = json.dumps(claims())
    assert refused(guarded, bearer(signed(STRANGER, text, **head))).reason == "BAD_TOKEN"
    enter(guarded, bearer(signed(ISSUES, text)))


@pytest.mark.parametrize("end", ["1e400", "1e300", "NaN", "-1", "9223372036854775808", '"never"'])
def test_an_end_that_never_comes_is_none(guarded: Server, end: str) -> None:
    right = claims()
    text = json.dumps(right).replace(str(right["exp"]), end)
    assert refused(guarded, bearer(signed(ISSUES, text))).reason == "BAD_TOKEN"


@pytest.mark.parametrize("issuers", [[ISSUER], ["https://other.test", ISSUER]])
def test_a_token_has_one_issuer(guarded: Server, issuers: list[str]) -> None:
    assert (
        refused(guarded, bearer(signed(ISSUES, json.dumps(claims(iss=issuers))))).reason
        == "BAD_TOKEN"
    )


@pytest.mark.parametrize("claim", ["exp", "aud", "iss", "sub"])
def test_a_claim_that_comes_twice_is_refused(guarded: Server, claim: str) -> None:
    right = claims()
    once, other = json.dumps(right), json.dumps({claim: 1 if claim == "exp" else "other"})
    enter(guarded, bearer(signed(ISSUES, once)))
    for twice in (f"{once[:-1]},{other[1:]}", f"{other[:-1]},{once[1:]}"):
        assert refused(guarded, bearer(signed(ISSUES, twice))).reason == "BAD_TOKEN"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ({"sub": "alice"}, [MODEL]),
        ({"sub": "a", "groups": ["x"]}, ["secret", MODEL]),
        ({"sub": "*"}, []),
        ({"sub": "group:x"}, []),
        ({"sub": "alice\n"}, []),
        ({"sub": "alice\0"}, []),
        ({"sub": "\u0430lice"}, []),
        ({"sub": "a", "groups": ["*", "alice", "group:x"]}, []),
        ({"sub": "a", "groups": "y,x"}, []),
    ],
)
def test_no_other_name_has_a_clients_rights(
    guarded: Server, said: dict[str, Any], seen: list[str]
) -> None:
    assert models_of(guarded, signed(ISSUES, json.dumps(claims(**said)))) == seen


@pytest.mark.parametrize(
    "name", ["secret", "*", f"{MODEL}\n", f"{MODEL}\0", f"./{MODEL}", f"{MODEL}/1", f"{MODEL} "]
)
def test_no_other_spelling_of_a_model_is_allowed(guarded: Server, name: str) -> None:
    def describe(model: str) -> None:
        request = pb.GetModelRequest(model_name=model)
        typed(guarded).GetModel(request, metadata=bearer(token("alice")), timeout=60)

    describe(MODEL)
    assert refusal(lambda: describe(name)).code == "PERMISSION_DENIED"


def test_a_model_that_is_named_twice_is_checked_as_it_is_used(guarded: Server) -> None:
    own, other = (
        pb.GetModelRequest(model_name=name).SerializeToString() for name in (MODEL, "secret")
    )
    with Raw(guarded.grpc) as raw:
        answer = raw.answer(raw.ask("/sigmax.v1.ClassifierService/GetModel", other + own, ALICE))
        assert pb.GetModelResponse.FromString(answer.message).model.name == MODEL
        answer = raw.answer(raw.ask("/sigmax.v1.ClassifierService/GetModel", own + other, ALICE))
        assert answer.status == "7"
