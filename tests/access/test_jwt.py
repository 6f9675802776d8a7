"""JSON Web Tokens: who is let in by which, and what new keys change."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support import files
from support.access import (
    AUDIENCE,
    ISSUER,
    Issuer,
    bearer,
    claims,
    enter,
    refused,
    until_known,
    until_unknown,
    write_keys,
)
from support.server import Serve, Server
from support.wire import classify_request, refusal, typed

KINDS = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "EdDSA": "Ed25519",
}
ISSUERS = {kind: Issuer(kind, f"key-{kind}") for kind in dict.fromkeys(KINDS.values())}
RSA = ISSUERS["RSA"]
STRANGER = Issuer("RSA", RSA.kid)
TAKEN = ("--jwt-audience", AUDIENCE, "--jwt-issuer", ISSUER, "--jwt-leeway-seconds=0")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    files.save(files.softmax(), folder, "softmax")
    return folder


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes tokens of every kind of key."""
    folder = tmp_path_factory.mktemp("jwt")
    keys = write_keys(folder / "keys.json", *(issuer.jwk() for issuer in ISSUERS.values()))
    algorithms = "--jwt-algorithms=" + ",".join(KINDS)
    with Server(folder / "log", models, "--jwt-jwks", keys, algorithms, *TAKEN) as server:
        yield server


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_signed_token_lets_its_client_in(guarded: Server, algorithm: str) -> None:
    issuer = ISSUERS[KINDS[algorithm]]
    enter(guarded, bearer(issuer.sign(algorithm, claims())))
    enter(guarded, bearer(issuer.sign(algorithm, claims(aud=["other", AUDIENCE]))))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 10}, "TOKEN_EXPIRED"),
        ({"exp": None}, "BAD_TOKEN"),
        ({"exp": "9999999999"}, "BAD_TOKEN"),
        ({"exp": -1}, "BAD_TOKEN"),
        ({"exp": 1e300}, "BAD_TOKEN"),
        ({"nbf": 9_999_999_999}, "BAD_TOKEN"),
        ({"nbf": "9999999999"}, "BAD_TOKEN"),
        ({"aud": "other"}, "BAD_TOKEN"),
        ({"aud": ["other"]}, "BAD_TOKEN"),
        ({"aud": []}, "BAD_TOKEN"),
        ({"aud": None}, "BAD_TOKEN"),
        ({"aud": AUDIENCE + "x"}, "BAD_TOKEN"),
        ({"iss": "https://other.test"}, "BAD_TOKEN"),
        ({"iss": None}, "BAD_TOKEN"),
        ({"sub": None}, "BAD_TOKEN"),
        ({"sub": ""}, "BAD_TOKEN"),
        ({"sub": 7}, "BAD_TOKEN"),
        ({"sub": "x" * 300}, "BAD_TOKEN"),
        ({"groups": ["x"] * 1001}, "BAD_TOKEN"),
        ({"groups": ["x" * 300]}, "BAD_TOKEN"),
        ({"groups": {"x": 1}}, "BAD_TOKEN"),
    ],
)
def test_wrong_claims_are_refused(guarded: Server, changes: dict[str, Any], reason: str) -> None:
    assert refused(guarded, bearer(RSA.sign("RS256", claims(**changes)))).reason == reason


def test_another_signature_is_refused(guarded: Server) -> None:
    right = RSA.sign("RS256", claims())
    head, body, signature = right.split(".")
    other = encoded(json.dumps(claims(sub="bob")).encode()).decode()
    for token in (
        STRANGER.sign("RS256", claims()),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-4]}",
        f"{right}.{signature}",
    ):
        assert refused(guarded, bearer(token)).reason == "BAD_TOKEN"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_a_token_without_a_signature_is_refused(guarded: Server, algorithm: str) -> None:
    head = encoded(json.dumps({"alg": algorithm, "kid": RSA.kid}).encode())
    body = encoded(json.dumps(claims()).encode())
    for signature in (b"", encoded(b"x" * 256)):
        token = b".".join((head, body, signature)).decode()
        assert refused(guarded, bearer(token)).reason == "BAD_TOKEN"


@pytest.mark.parametrize("issuer", ISSUERS.values(), ids=ISSUERS)
def test_a_public_key_is_no_secret(guarded: Server, issuer: Issuer) -> None:
    """A token that is signed by HS256 with the public key as the secret is refused."""
    public = issuer.key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), der, json.dumps(issuer.jwk()).encode()):
        signed = b".".join(
            encoded(json.dumps(part).encode())
            for part in ({"alg": "HS256", "kid": issuer.kid}, claims())
        )
        mac = encoded(hmac.new(secret, signed, hashlib.sha256).digest())
        assert refused(guarded, bearer((signed + b"." + mac).decode())).reason == "BAD_TOKEN"


def test_a_key_is_chosen_by_its_id(guarded: Server) -> None:
    found = refused(guarded, bearer(RSA.sign("RS256", claims(), kid="fish")))
    assert (found.reason, "does not know" in found.message) == ("BAD_TOKEN", True)
    found = refused(guarded, bearer(RSA.sign("RS256", claims(), kid=None)))
    assert found.reason == "BAD_TOKEN", "there are several keys"
    other = ISSUERS["P-256"]
    assert (
        refused(guarded, bearer(RSA.sign("RS256", claims(), kid=other.kid))).reason == "BAD_TOKEN"
    )


def test_an_algorithm_that_is_not_allowed_is_refused(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    """Though the key is known, and could sign so."""
    keys = write_keys(tmp_path / "keys.json", RSA.jwk(), ISSUERS["P-256"].jwk())
    server = serve(models, "--jwt-jwks", keys, "--jwt-algorithms=PS256", *TAKEN)
    enter(server, bearer(RSA.sign("PS256", claims())))
    for issuer, algorithm in ((RSA, "RS256"), (RSA, "PS512"), (ISSUERS["P-256"], "ES256")):
        assert refused(server, bearer(issuer.sign(algorithm, claims()))).reason == "BAD_TOKEN"
    over = claims(exp=int(time.time()) - 10)
    assert refused(server, bearer(RSA.sign("PS256", over))).reason == "TOKEN_EXPIRED"
    counts = {"BAD_TOKEN": 3, "TOKEN_EXPIRED": 1, "NO_CREDENTIALS": 0}
    name = "sigmax_unauthenticated_total"
    assert {reason: server.metric(name, reason=reason) for reason in counts} == counts


def test_a_head_that_asks_for_more_is_refused(guarded: Server) -> None:
    token = RSA.sign("RS256", claims(), crit=["fish"], fish=1)
    assert refused(guarded, bearer(token)).reason == "BAD_TOKEN"
    # Keys and addresses in a head are of the sender's own choice.
    found = refused(guarded, bearer(STRANGER.sign("RS256", claims(), jwk=STRANGER.jwk())))
    assert found.reason == "BAD_TOKEN"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_no_garbage_is_a_token(guarded: Server, parts: list[bytes]) -> None:
    token = b".".join(map(encoded, parts)).decode()
    assert refused(guarded, bearer(token)).reason == "BAD_TOKEN"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_changed_token_is_a_token(guarded: Server, data: st.DataObject) -> None:
    right = RSA.sign("RS256", claims())
    parts = [
        bytearray(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in right.split(".")
    ]
    part = data.draw(st.sampled_from(parts))
    place = data.draw(st.integers(0, len(part) - 1))
    part[place] ^= data.draw(st.integers(1, 255))
    changed = b".".join(encoded(bytes(part)) for part in parts).decode()
    assert refused(guarded, bearer(changed)).reason == "BAD_TOKEN"


def test_a_token_that_is_kept_ends_in_time(guarded: Server) -> None:
    metadata = bearer(RSA.sign("RS256", claims(exp=int(time.time()) + 3)))
    enter(guarded, metadata)
    until_unknown(guarded, metadata)
    assert refused(guarded, metadata).reason == "TOKEN_EXPIRED"


def test_claims_name_the_client_and_its_groups(serve: Serve, models: Path, tmp_path: Path) -> None:
    table = tmp_path / "access.toml"
    table.write_text(
        '[[rule]]\nwho = ["group:vision"]\nmay = ["classify"]\n'
        '[[rule]]\nwho = ["dora"]\nmay = ["classify"]\n'
    )
    keys = write_keys(tmp_path / "keys.json", RSA.jwk())
    names = ("--jwt-name-claim=email", "--jwt-groups-claim=roles")
    server = serve(models, "--jwt-jwks", keys, "--access", table, *TAKEN, *names)

    def code(**who: Any) -> str:
        metadata = bearer(RSA.sign("RS256", claims(**who)))
        call = typed(server).Classify
        found = refusal(lambda: call(classify_request("softmax"), metadata=metadata, timeout=60))
        return found.code

    let_in = "INVALID_ARGUMENT"  # the request lacks its input
    assert code(email="dora") == let_in
    assert code(email="eve", roles="vision") == let_in
    assert code(email="eve", roles=["other", "vision"]) == let_in
    for who in (
        {"email": "eve"},
        {"email": "eve", "roles": []},
        {"email": "eve", "groups": ["vision"]},
        {"email": "group:vision"},
        {"email": "*"},
        {"email": "eve", "roles": ["dora", "group:vision", "*"]},
    ):
        assert code(**who) == "PERMISSION_DENIED", who
    assert code(sub="dora") == "UNAUTHENTICATED"


@pytest.mark.slow
def test_new_keys_are_in_force(serve: Serve, models: Path, tmp_path: Path) -> None:
    old, new = Issuer("P-256", "old"), Issuer("P-256", "new")
    keys = write_keys(tmp_path / "keys.json", old.jwk())
    server = serve(models, "--jwt-jwks", keys, "--jwt-algorithms=ES256", *TAKEN)
    by_old, by_new = (bearer(issuer.sign("ES256", claims())) for issuer in (old, new))
    enter(server, by_old)
    refused(server, by_new)
    write_keys(tmp_path / "next", old.jwk(), new.jwk()).rename(keys)
    until_known(server, by_new)
    enter(server, by_old)
    write_keys(tmp_path / "next", new.jwk()).rename(keys)
    until_unknown(server, by_old)
    enter(server, by_new)


@pytest.mark.parametrize("kind", ["RSA", "P-256", "P-384", "Ed25519"])
def test_one_key_may_come_in_pem(serve: Serve, models: Path, tmp_path: Path, kind: str) -> None:
    issuer = ISSUERS[kind]
    key = tmp_path / "key.pem"
    pem = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key.write_bytes(pem)
    server = serve(models, "--jwt-public-key", key, "--jwt-algorithms=" + ",".join(KINDS), *TAKEN)
    algorithm = next(name for name, of in KINDS.items() if of == kind)
    enter(server, bearer(issuer.sign(algorithm, claims())))
    enter(server, bearer(issuer.sign(algorithm, claims(), kid=None)))
    other = ISSUERS["P-256" if kind == "RSA" else "RSA"]
    name = "ES256" if kind == "RSA" else "RS256"
    assert refused(server, bearer(other.sign(name, claims()))).reason == "BAD_TOKEN"


def unlike(kid: str, **key: Any) -> dict[str, Any]:
    return {"kid": kid, **key}


def test_keys_of_other_kinds_and_uses_are_left_out(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    other, wrong = Issuer("RSA", "enc"), Issuer("RSA", "alg")
    keys = write_keys(
        tmp_path / "keys.json",
        RSA.jwk(use="sig", alg="RS256"),
        other.jwk(use="enc"),
        wrong.jwk(alg="RS512"),
        unlike("x", kty="OKP", crv="X25519", x="A" * 43),
        unlike("448", kty="OKP", crv="Ed448", x="A" * 76),
        unlike("k", kty="EC", crv="secp256k1", x="A" * 43, y="A" * 43),
        unlike("pq", kty="AKP", alg="ML-DSA-44", pub="AAAA"),
    )
    server = serve(models, "--jwt-jwks", keys, "--jwt-algorithms=RS256,PS256", *TAKEN)
    enter(server, bearer(RSA.sign("RS256", claims())))
    for issuer, algorithm in ((RSA, "PS256"), (other, "RS256"), (wrong, "RS256")):
        assert refused(server, bearer(issuer.sign(algorithm, claims()))).reason == "BAD_TOKEN"


def private() -> bytes:
    return bytes(RSA.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def weak() -> dict[str, Any]:
    issuer = Issuer("RSA", "weak")
    issuer.key = rsa.generate_private_key(65537, 1024)
    return issuer.jwk()


@pytest.mark.parametrize(
    ("flag", "content", "problem"),
    [
        ("--jwt-jwks", {"keys": [{"kty": "oct", "k": "AAAA"}]}, "expected a public key"),
        (
            "--jwt-jwks",
            {"keys": [json.loads(RSA.algorithm.to_jwk(RSA.key))]},
            "expected a public key",
        ),
        ("--jwt-jwks", {"keys": [weak()]}, "at least 2048 bits, got 1024"),
        ("--jwt-jwks", {"keys": [RSA.jwk(), RSA.jwk()]}, "expected keys with an own `kid`"),
        ("--jwt-jwks", {"keys": []}, "got none"),
        ("--jwt-jwks", {}, "expected a JWK set"),
        ("--jwt-public-key", private(), "expected a public key in PEM"),
        ("--jwt-public-key", b"fish", "expected a public key in PEM"),
    ],
)
def test_wrong_keys_are_refused_at_the_start(
    serve: Serve, models: Path, tmp_path: Path, flag: str, content: Any, problem: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(AssertionError, match="it never started") as told:
        serve(models, flag, keys, *TAKEN)
    assert str(keys) in str(told.value)
    assert problem in str(told.value)
