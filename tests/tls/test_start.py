"""Files of TLS that cannot be used: the server says which and why, and does not start."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from support.certificates import Authority, Pair

Break = Callable[[Pair, Path], Pair]


def error(models: Path, pair: Pair, *arguments: str) -> str:
    """The only line of a start that fails."""
    command = str(Path(sys.executable).with_name("sigmax"))
    ports = {"SIGMAX_GRPC_PORT": "0", "SIGMAX_HTTP_PORT": "0"}
    done = subprocess.run(
        [command, "serve", str(models), *pair.flags, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **ports},
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("sigmax serve: error: ")
    return line.removeprefix("sigmax serve: error: ")


def encrypted(key: bytes, form: PrivateFormat) -> bytes:
    secret = BestAvailableEncryption(b"secret")
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, form, secret)


def test_a_key_that_does_not_fit(models: Path, authority: Authority) -> None:
    pair = replace(authority.issue(), key=authority.issue().key)
    assert error(models, pair) == (
        f"{pair.key}: the key does not fit the first certificate in {pair.certificate}"
    )


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key(models: Path, authority: Authority, form: str) -> None:
    pair = authority.issue()
    pair.key.write_bytes(encrypted(pair.key.read_bytes(), getattr(PrivateFormat, form)))
    assert error(models, pair) == (
        f"{pair.key}: expected a private key in PEM (BEGIN PRIVATE KEY), got an encrypted one; "
        "`openssl pkey -in FILE -out FILE` decrypts it"
    )


@pytest.mark.parametrize("which", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize(
    ("kind", "got"),
    [
        ("missing", "No such file or directory"),
        ("folder", "expected a file, got a folder"),
        ("empty", "got an empty file"),
        ("text", "got a file without PEM"),
        ("half", "got one without its end"),
        ("large", "expected at most 1048576 bytes, got 2097152"),
    ],
)
def test_what_is_no_file_of_its_kind(
    models: Path, authority: Authority, tmp_path: Path, which: str, kind: str, got: str
) -> None:
    pair, path = authority.issue(), tmp_path / "broken"
    good = authority.path if which == "client_ca" else getattr(pair, which)
    contents = {
        "empty": b"",
        "text": b"a text",
        "half": good.read_bytes()[:-30],
        "large": bytes(2**21),
    }
    if kind == "folder":
        path.mkdir()
    elif kind in contents:
        path.write_bytes(contents[kind])
    if which == "client_ca":
        told = error(models, pair, f"--tls-client-ca={path}")
    else:
        told = error(models, replace(pair, **{which: path}))
    # An error of a file that cannot be read names the flag, too: the path may be wrong.
    flag = f"--tls-{which.replace('_', '-')}: " if kind in ("missing", "folder", "large") else ""
    assert told.startswith(f"{flag}{path}: ")
    assert told.endswith(got)


def test_files_that_are_mistaken_for_each_other(models: Path, authority: Authority) -> None:
    pair = authority.issue()
    assert error(models, replace(pair, certificate=pair.key)) == (
        f"{pair.key}: expected certificates in PEM (BEGIN CERTIFICATE), got EC PRIVATE KEY"
    )
    assert error(models, replace(pair, key=pair.certificate)) == (
        f"{pair.certificate}: expected a private key in PEM (BEGIN PRIVATE KEY), got CERTIFICATE"
    )


def test_a_certificate_that_cannot_be_read(models: Path, authority: Authority) -> None:
    pair = authority.issue()
    lines = pair.certificate.read_text().splitlines(keepends=True)
    pair.certificate.write_text("".join([lines[0], *lines[2:]]))
    assert error(models, pair).startswith(f"{pair.certificate}: certificate 1 of ")
