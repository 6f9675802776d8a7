"""Floods of wrong tokens, whose signatures take long to check."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from support.access import (
    AUDIENCE,
    ISSUER,
    Issuer,
    bearer,
    claims,
    token,
    write_keys,
    write_tokens,
)
from support.attack import Target, attacked, scaled
from support.raw import INFER, Raw, block, headers, packed

pytestmark = pytest.mark.slow

CALLS = 1000
UNAUTHENTICATED = "16"
ISSUES, STRANGER = Issuer("P-256", "key"), Issuer("P-256", "key")


def calls(streams: list[int], asked: bytes) -> bytes:
    """Return the frames of calls without a message."""
    return packed([headers(each, asked, "END_HEADERS", "END_STREAM") for each in streams])


@pytest.mark.parametrize("connections", [1, 20])
def test_a_flood_of_wrong_tokens(target: Target, tmp_path: Path, connections: int) -> None:
    """Send wrong tokens in as many calls as may be open; good clients with tokens go on."""
    server = target(
        *("--token-file", write_tokens(tmp_path / "tokens", ["alice"])),
        *("--jwt-jwks", write_keys(tmp_path / "keys", ISSUES.jwk())),
        *("--jwt-audience", AUDIENCE, "--jwt-issuer", ISSUER),
    )
    [(name, wrong)] = bearer(STRANGER.sign("ES256", claims()))
    asked = block(INFER, (name, str(wrong)))
    good = bearer(token("alice"))
    with attacked(server, metadata=good) as beside, ExitStack() as clients:
        raws = [clients.enter_context(Raw(server.grpc)) for _ in range(connections)]
        for _ in range(scaled(3)):
            streams = [[raw.next() for _ in range(CALLS)] for raw in raws]
            for raw, own in zip(raws, streams, strict=True):
                raw.send(calls(own, asked))
            beside.goes_on()
            for raw, own in zip(raws, streams, strict=True):
                assert {raw.answer(stream).status for stream in own} == {UNAUTHENTICATED}


def test_new_tokens_beside_a_flood_of_wrong_ones(target: Target, tmp_path: Path) -> None:
    """A client whose tokens are new each time has its checks beside those of the flood."""
    server = target(
        *("--jwt-jwks", write_keys(tmp_path / "keys", ISSUES.jwk())),
        *("--jwt-audience", AUDIENCE, "--jwt-issuer", ISSUER),
    )
    [(name, wrong)] = bearer(STRANGER.sign("ES256", claims()))
    asked = block(INFER, (name, str(wrong)))
    right = bearer(ISSUES.sign("ES256", claims()))
    with attacked(server, metadata=right) as beside, Raw(server.grpc) as flood:
        for turn in range(scaled(3)):
            streams = [flood.next() for _ in range(CALLS)]
            flood.send(calls(streams, asked))
            with Raw(server.grpc) as good:
                for number in range(20):
                    [(name, new)] = bearer(ISSUES.sign("ES256", claims(jti=f"{turn} {number}")))
                    answer = good.answer(good.ask(INFER, b"", (name, str(new))))
                    # The caller is known; the request has no model.
                    assert answer.status not in (None, UNAUTHENTICATED)
            beside.goes_on()
            assert {flood.answer(each).status for each in streams} == {UNAUTHENTICATED}
