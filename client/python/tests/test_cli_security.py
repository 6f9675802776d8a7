"""The command's flags and variables of TLS and tokens, and `sigmax health`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sigmax
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from sigmax import _cli

SECRET = "s3cret-of-the-client"  # a token that no text may show
COMMANDS = [
    ["models"],
    ["model", "animal"],
    ["classify", "animal", "[0, 1, 0]"],
    ["health"],
    ["health", "animal"],
]


@pytest.fixture
def secured(peer: Any, listen: Any, authority: Any) -> dict[str, str]:
    """Variables of a server with a name of its own, which wants a certificate and a token."""
    peer.tokens = {SECRET}
    address = listen(authority.server("sigmax.test", client_ca=authority.file))
    certificate, key = authority.issue("me@sigmax.test")
    token = authority.file.with_name("token")
    token.write_text(SECRET + "\n")
    return {
        "SIGMAX_ADDRESS": address,
        "SIGMAX_CLIENT_TLS_CA": str(authority.file),
        "SIGMAX_CLIENT_TLS_CERTIFICATE": str(certificate),
        "SIGMAX_CLIENT_TLS_KEY": str(key),
        "SIGMAX_CLIENT_TLS_SERVER_NAME": "sigmax.test",
        "SIGMAX_CLIENT_TOKEN_FILE": str(token),
    }


def flags(variables: dict[str, str]) -> list[str]:
    """Return the flags that say the same."""
    return [
        "--" + name.split("_", 1)[1].removeprefix("CLIENT_").lower().replace("_", "-") + f"={value}"
        for name, value in variables.items()
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_flags_and_variables(
    secured: dict[str, str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _cli.main([*command, *flags(secured)]) == 0
    # The server's own variables have other meanings, and may be set on the same machine.
    for name in ("TLS_CERTIFICATE", "TLS_KEY", "TLS_CLIENT_CA", "TOKEN_FILE"):
        monkeypatch.setenv(f"SIGMAX_{name}", "/of/the/server")
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    assert _cli.main(command) == 0
    monkeypatch.delenv("SIGMAX_CLIENT_TOKEN_FILE")
    monkeypatch.setenv("SIGMAX_CLIENT_TOKEN", SECRET)
    assert _cli.main(command) == 0


def test_flags_win_over_variables(
    secured: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in secured:
        monkeypatch.setenv(name, "/wrong")
    monkeypatch.setenv("SIGMAX_CLIENT_TLS", "false")
    monkeypatch.delenv("SIGMAX_CLIENT_TOKEN_FILE")
    monkeypatch.setenv("SIGMAX_CLIENT_TOKEN", "wrong")
    assert _cli.main(["models", *flags(secured)]) == 0
    assert _cli.main(["health", "--address", secured["SIGMAX_ADDRESS"], "--tls"]) == 1
    assert "cannot read /wrong" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["models"], ["health"]], ids=" ".join)
def test_errors_are_one_line(
    secured: dict[str, str],
    peer: Any,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free_address: str,
) -> None:
    away = dict.fromkeys(secured, "") | {"SIGMAX_ADDRESS": secured["SIGMAX_ADDRESS"]}
    for changed, said in (
        (away, "the server may want TLS: tls=, or --tls"),
        ({"SIGMAX_ADDRESS": peer.address}, "the server does not speak TLS at this port"),
        ({"SIGMAX_ADDRESS": free_address}, "Connection refused"),
        ({"SIGMAX_CLIENT_TLS_SERVER_NAME": ""}, "for another name"),
        ({"SIGMAX_CLIENT_TLS_CA": "", "SIGMAX_CLIENT_TLS": "true"}, "is not trusted here"),
        ({"SIGMAX_CLIENT_TLS_CA": "no.pem"}, "cannot read no.pem: No such file or directory"),
        ({"SIGMAX_CLIENT_TLS_KEY": ""}, "got the certificate without key"),
        (
            {"SIGMAX_CLIENT_TLS_KEY": "", "SIGMAX_CLIENT_TLS_CERTIFICATE": ""},
            "may want a certificate of the client",
        ),
        ({"SIGMAX_CLIENT_TLS": "yes"}, "expected SIGMAX_CLIENT_TLS=true or false, got 'yes'"),
        ({"SIGMAX_CLIENT_TOKEN_FILE": ""}, "has sent no token: give token=, or --token-file"),
        ({"SIGMAX_CLIENT_TOKEN": "x"}, "got both variables"),
        ({"SIGMAX_CLIENT_TOKEN_FILE": "no"}, "cannot read no: No such file or directory"),
        (away | {"SIGMAX_ADDRESS": "sigmax.test", "SIGMAX_CLIENT_TOKEN": SECRET}, "expected TLS"),
        ({"SIGMAX_ADDRESS": "a,b"}, "gRPC looks up one name only"),
    ):
        with monkeypatch.context() as environment:
            for name, value in (secured | changed).items():
                environment.setenv(name, value)
            assert _cli.main(command) == 1, changed
        error = capsys.readouterr().err
        assert said in error
        assert error.startswith("sigmax: ")
        assert error.count("\n") == 1
        assert SECRET not in error


def test_nowhere_is_a_secret_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _cli.main(["health", "--help"])
    shown = capsys.readouterr().out
    assert "--token-file" in shown
    assert "--token " not in shown


@pytest.mark.parametrize("tls", ["false", "true"])
def test_a_client_from_the_environment(
    secured: dict[str, str], peer: Any, tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SIGMAX_CLIENT_TLS", tls)
    with sigmax.Client.from_environment(retries=0, timeout=60) as client:
        if tls == "true":
            assert client.models()
            return
        with pytest.raises(sigmax.Unavailable, match="may want TLS"):
            client.models()
    with sigmax.Client(peer.address, timeout=60) as client, pytest.raises(sigmax.AccessDenied):
        client.models()  # reads no variable


@pytest.mark.parametrize(
    ("status", "name"), [(0, "UNKNOWN"), (1, "SERVING"), (2, "NOT_SERVING"), (7, "7")]
)
def test_health(
    ask: Any, peer: Any, status: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.health[0] = [status]
    code = 0 if name == "SERVING" else 1
    assert ask("health", "--output", "table") == code
    assert capsys.readouterr().out == f"{name}\n"
    assert ask("health", "animal") == code
    assert json.loads(capsys.readouterr().out) == {"model": "animal", "status": name}
    assert ask("health", "--output", "csv") == code
    assert capsys.readouterr().out == f"model,status\n,{name}\n"
    asked = [call for call in peer.calls if isinstance(call, health_pb2.HealthCheckRequest)]
    assert [call.service for call in asked] == ["", "animal", ""]


def test_health_of_an_unknown_model(
    ask: Any, peer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("health", "pl\nant\x1b[2J") == 1
    error = capsys.readouterr().err
    assert error == f"sigmax: {peer.address}: no model is named 'pl\\nant\\x1b[2J'\n"


def test_health_with_a_wrong_timeout(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("health", "--timeout", "nan") == 1
    assert "timeout: expected at most" in capsys.readouterr().err
    assert ask("health", "--timeout", "inf") == 0


def test_health_loads_little(peer: Any) -> None:
    code = (
        "import sys; from sigmax import _cli; code = _cli.main(['health']);"
        "print(code, sorted({'numpy', 'google.rpc', 'sigmax._client'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"SIGMAX_ADDRESS": peer.address, "PATH": str(Path(sys.executable).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"
