"""The start of a server that asks who calls: its line of who may do what, and files that end it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.access import AUDIENCE, ISSUER, Issuer, token, write_keys, write_tokens
from support.certificates import Authority
from support.server import Serve

SECRET = "secret-in-a-wrong-file-0123456789"
TABLE = '[[rule]]\nwho = ["alice"]\nmay = ["classify"]\n'
ISSUES = Issuer("P-256", "key")
NO_TABLE = "all may ask every model, none may control"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of right files: a repository, tokens, keys, a table and certificates."""
    folder = tmp_path_factory.mktemp("start")
    files.save(files.softmax(), folder / "models", "softmax")
    write_tokens(folder / "one", ["alice"])
    write_tokens(folder / "two", ["alice", "bob"])
    write_keys(folder / "keys", ISSUES.jwk())
    (folder / "access.toml").write_text(TABLE)
    (folder / "more.toml").write_text(2 * TABLE)
    return folder


def summary(printed: str) -> str:
    """The line of who may do what."""
    [line] = [line for line in printed.splitlines() if line.startswith("access: ")]
    return line.removeprefix("access: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "anybody who reaches this server"),
        (["--token-file={}/one"], f"1 token; {NO_TABLE}"),
        (["--token-file={}/two", "--model-control=explicit"], f"2 tokens; {NO_TABLE}"),
        (
            ["--token-file={}/one", "--access={}/access.toml"],
            "1 token; rights by 1 rule in access.toml",
        ),
        (
            ["--token-file={}/two", "--access={}/more.toml"],
            "2 tokens; rights by 2 rules in more.toml",
        ),
        (
            ["--jwt-jwks={}/keys", f"--jwt-audience={AUDIENCE}"],
            f"JSON Web Tokens by 1 key; {NO_TABLE}",
        ),
        (
            [
                "--token-file={}/one",
                "--jwt-jwks={}/keys",
                f"--jwt-audience={AUDIENCE}",
                f"--jwt-issuer={ISSUER}",
            ],
            f"1 token, JSON Web Tokens of {ISSUER} by 1 key; {NO_TABLE}",
        ),
    ],
)
def test_one_line_says_who_may_do_what(
    serve: Serve, folder: Path, arguments: list[str], expected: str
) -> None:
    server = serve(folder / "models", *(each.format(folder) for each in arguments))
    assert summary(server.printed) == expected
    assert token("alice") not in server.printed + server.log()


def test_the_line_tells_of_certificates(serve: Serve, folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    flags = (*authority.issue().flags, f"--tls-client-ca={authority.path}")
    server = serve(folder / "models", *flags, authority=authority.path)
    assert summary(server.printed) == f"certificates of clients; {NO_TABLE}"
    tokens = f"--token-file={folder / 'one'}"
    server = serve(folder / "models", *flags, tokens, authority=authority.path)
    assert summary(server.printed) == f"1 token, certificates of clients; {NO_TABLE}"


def ended(folder: Path, flag: str, path: Path) -> str:
    """The only line of a start that ends by this file, and must."""
    command = Path(sys.executable).with_name("sigmax")
    audience = dict.fromkeys(["--jwt-jwks", "--jwt-public-key"], "--jwt-audience=a")
    beside = {**audience, "--access": f"--token-file={folder / 'one'}"}
    arguments = [f"{flag}={path}", *filter(None, [beside.get(flag)])]
    done = subprocess.run(
        [command, "serve", folder / "models", "--grpc-port=0", "--http-port=0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    [line] = done.stderr.splitlines()
    assert SECRET not in done.stdout + done.stderr
    return line


@pytest.mark.parametrize(
    ("flag", "content", "problem"),
    [
        ("--token-file", f"alice: {SECRET}\nbob {SECRET}", "line 2: expected `name: token`"),
        ("--token-file", f"alice: {SECRET} {SECRET}", "line 1: token: expected printable ASCII"),
        ("--token-file", b"alice: \xff" + SECRET.encode(), "expected text in UTF-8"),
        ("--jwt-jwks", f"alice: {SECRET}", "expected a JWK set"),
        ("--jwt-jwks", json.dumps(SECRET), "expected an object with a list `keys`"),
        ("--jwt-jwks", json.dumps({"token": SECRET}), "expected an object with a list `keys`"),
        ("--jwt-jwks", json.dumps({"keys": SECRET}), "expected an object with a list `keys`"),
        ("--jwt-jwks", json.dumps({"keys": [SECRET]}), "key 1: expected an object"),
        ("--jwt-jwks", json.dumps({"keys": [{"kty": "oct", "k": SECRET}]}), "key 1: expected a"),
        ("--jwt-jwks", json.dumps({"keys": [ISSUES.jwk(), {"d": SECRET}]}), "key 2: expected a"),
        ("--jwt-jwks", json.dumps({"keys": [{"kty": SECRET}]}), "got none"),
        ("--jwt-jwks", json.dumps({"keys": [ISSUES.jwk(x=[SECRET])]}), "got none"),
        ("--access", f"alice: {SECRET}", "line 1: "),
        ("--access", f'[[rule]]\nwho = ["a"]\nmay = ["infer"]\nkey = "{SECRET}"', "line 4: "),
        ("--access", "", "expected at least one [[rule]], got none"),
    ],
)
def test_a_wrong_file_ends_the_start_with_a_line_that_quotes_no_secret(
    folder: Path, tmp_path: Path, flag: str, content: Any, problem: str
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = ended(folder, flag, wrong)
    assert line.startswith(f"sigmax serve: error: {wrong}: ")
    assert problem in line


@pytest.mark.parametrize("flag", ["--token-file", "--jwt-jwks", "--jwt-public-key", "--access"])
def test_a_file_that_is_not_there_ends_the_start(folder: Path, tmp_path: Path, flag: str) -> None:
    gone = tmp_path / "gone"
    problem = f"{flag}: {gone}: No such file or directory"
    assert ended(folder, flag, gone) == f"sigmax serve: error: {problem}"
