import re
from pathlib import Path

import pytest
from sigmax_server import cli
from sigmax_server.config import SETTINGS, ServerConfig
from sigmax_server.location import Location
from sigmax_server.machine import usable_cores
from sigmax_server.model_spec import ModelSpec
from sigmax_server.setting import ConfigError, Setting

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"

# Of every setting a value that is not its default, as text and as read.
OTHER = {
    "host": ("127.0.0.2", "127.0.0.2"),
    "http_host": ("0.0.0.0", "0.0.0.0"),
    "insecure": ("true", True),
    "tls_certificate": ("a.pem", "a.pem"),
    "tls_key": ("b.pem", "b.pem"),
    "tls_client_ca": ("c.pem", "c.pem"),
    "tls_client_auth": ("request", "request"),
    "http_tls": ("true", True),
    "token_file": ("tokens", "tokens"),
    "jwt_jwks": ("keys.json", "keys.json"),
    "jwt_public_key": ("key.pem", "key.pem"),
    "jwt_audience": ("sigmax", "sigmax"),
    "jwt_issuer": ("https://issuer.example", "https://issuer.example"),
    "jwt_algorithms": ("ES256,EdDSA", "ES256,EdDSA"),
    "jwt_leeway_seconds": ("5", 5.0),
    "jwt_name_claim": ("email", "email"),
    "jwt_groups_claim": ("roles", "roles"),
    "access": ("access.toml", "access.toml"),
    "audit_log": ("audit.jsonl", "audit.jsonl"),
    "reflection": ("false", False),
    "max_connection_age_seconds": ("300", 300.0),
    "max_connection_age_grace_seconds": ("10", 10.0),
    "grpc_port": ("0", 0),
    "http_port": ("9090", 9090),
    "shards": ("3", 3),
    "max_batch_size": ("16", 16),
    "queue_rows": ("2048", 2048),
    "max_message_bytes": ("1048576", 1048576),
    "memory_budget": ("2097152", 2097152),
    "stall_seconds": ("1.5", 1.5),
    "max_run_seconds": ("2.5", 2.5),
    "model_memory_limit": ("1000000", 1_000_000),
    "load_timeout_seconds": ("45.5", 45.5),
    "max_connections": ("12", 12),
    "handshake_seconds": ("2.5", 2.5),
    "max_metadata_bytes": ("8192", 8192),
    "busy_poll_microseconds": ("50", 50),
    "listen": ("unix:/run/sigmax.sock", "unix:/run/sigmax.sock"),
    "device": ("cuda:0,1", "cuda:0,1"),
    "gpu_memory_limit": ("1073741824", 1073741824),
    "tf32": ("true", True),
    "server_name": ("mine", "mine"),
    "grace_seconds": ("0.5", 0.5),
    "strict_readiness": ("false", False),
    "shared_memory": ("true", True),
    "model_name": ("animal", "animal"),
    "model_control": ("explicit", "explicit"),
    "load_model": ("a,b", "a,b"),
    "allow_model_upload": ("true", True),
    "allow_log_settings": ("true", True),
    "exit_on_error": ("true", True),
}
CREDENTIALS = "--token-file or --jwt-jwks or --jwt-public-key or --tls-client-ca"
ALGORITHMS = "each of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
# Settings that some others need beside them.
BESIDE = {
    "SIGMAX_MODEL_CONTROL": "explicit",
    "SIGMAX_TLS_CERTIFICATE": "certificate.pem",
    "SIGMAX_TLS_KEY": "key.pem",
    "SIGMAX_TLS_CLIENT_CA": "authorities.pem",
    "SIGMAX_TOKEN_FILE": "tokens.txt",
    "SIGMAX_JWT_AUDIENCE": "audience",
}


def beside(setting: Setting) -> dict[str, str]:
    """The settings that this one needs beside it."""
    keys = {} if setting.name == "jwt_public_key" else {"SIGMAX_JWT_JWKS": "jwks.json"}
    return {**BESIDE, **keys}


each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


def config(*argv: str, **environment: str) -> ServerConfig:
    return cli.read([*argv, "repository"], environment)[1]


def refused(capsys: pytest.CaptureFixture[str], *argv: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.read(list(argv), environment)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("sigmax serve: error: ")


def test_defaults() -> None:
    default = config()
    assert default == ServerConfig()
    assert default.host == "127.0.0.1"
    assert (default.grpc_port, default.http_port) == (8001, 8000)
    assert default.shards == usable_cores()
    assert (default.max_batch_size, default.queue_rows) == (1024, 65536)
    assert (default.max_message_bytes, default.max_connections) == (67108864, 4096)
    assert (default.device, default.server_name, default.grace_seconds) == ("auto", "triton", 30.0)
    assert (default.strict_readiness, default.exit_on_error) == (True, False)


def test_several_paths_are_read_around_flags() -> None:
    paths, _ = cli.read(["a", "--grpc-port", "0", "b.onnx"], {})
    assert paths == [Location(Path("a")), Location(Path("b.onnx"))]


def test_a_path_may_come_with_a_name() -> None:
    locations, _ = cli.read(["a=b/c.onnx", "d=e=f", "./a=b", "c/d=e"], {})
    assert locations == [
        Location(Path("b/c.onnx"), "a"),
        Location(Path("e=f"), "d"),
        Location(Path("./a=b")),
        Location(Path("c/d=e")),
    ]


@pytest.mark.parametrize("text", ["=a", "a=", " =a", "a\nb=c", "..=a", "n" * 256 + "=a"])
def test_a_name_that_no_model_can_have_is_refused(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    problem = refused(capsys, text)
    assert problem == f"argument REPOSITORY_OR_FILE: expected PATH or NAME=PATH, got {text!r}"


def test_the_name_of_a_model_goes_to_its_path() -> None:
    for argv, environment in ((["--model-name=m"], {}), ([], {"SIGMAX_MODEL_NAME": "m"})):
        locations, _ = cli.read([*argv, "a"], environment)
        assert locations == [Location(Path("a"), "m")]


def test_the_name_of_a_model_needs_one_path(capsys: pytest.CaptureFixture[str]) -> None:
    problem = refused(capsys, "--model-name=m", "a", "b")
    assert problem == "--model-name: expected one path to serve beside it, got 2"
    problem = refused(capsys, "n=a", SIGMAX_MODEL_NAME="m")
    assert problem == "SIGMAX_MODEL_NAME: expected a path without a name beside it, got 'n'"


@each_setting
def test_every_setting_is_a_flag(setting: Setting) -> None:
    text, value = OTHER[setting.name]
    assert getattr(config(f"{setting.flag}={text}", **beside(setting)), setting.name) == value


@each_setting
def test_every_setting_is_a_variable(setting: Setting) -> None:
    text, value = OTHER[setting.name]
    assert getattr(config(**{**beside(setting), setting.variable: text}), setting.name) == value


def test_a_flag_wins_over_its_variable() -> None:
    assert config("--grpc-port", "1", SIGMAX_GRPC_PORT="2").grpc_port == 1


def test_an_empty_variable_counts_as_unset() -> None:
    assert config(SIGMAX_GRPC_PORT="").grpc_port == 8001


def test_a_bare_switch_means_true_and_takes_no_path() -> None:
    paths, read = cli.read(["--exit-on-error", "--strict-readiness", "repository"], {})
    assert paths == [Location(Path("repository"))]
    assert read.exit_on_error
    assert read.strict_readiness


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("grpc_port", "70000", "expected a whole number from 0 to 65535, got 70000"),
        ("http_port", "http", "expected a whole number from 0 to 65535, got 'http'"),
        ("shards", "0", "expected a whole number from 1 to 1024, got 0"),
        ("max_batch_size", "-1", "expected a whole number from 1 to 2147483647, got -1"),
        ("queue_rows", "1e3", "expected a whole number from 1 to 2147483647, got '1e3'"),
        (
            "max_message_bytes",
            "2147483648",
            "expected a whole number from 1 to 2147483647, got 2147483648",
        ),
        ("host", "a\nb", r"expected printable text, got 'a\nb'"),
        ("grace_seconds", "inf", "expected a finite number of seconds, 0 or more, got inf"),
        ("grace_seconds", "-1", "expected a finite number of seconds, 0 or more, got -1.0"),
        ("grace_seconds", "nan", "expected a finite number of seconds, 0 or more, got nan"),
        ("load_model", "a", "expected it only where model_control is explicit, got 'a'"),
        (
            "model_name",
            "a/b",
            "expected a printable name of at most 255 characters, without / and .., got 'a/b'",
        ),
        ("strict_readiness", "maybe", "expected true or false, got 'maybe'"),
        (
            "device",
            "cuda:1,1",
            "expected auto, cpu, cuda, cuda:N, or several as cuda:0,1, got 'cuda:1,1'",
        ),
    ],
)
def test_a_bad_value_names_the_flag_or_variable_what_was_expected_and_what_came(
    capsys: pytest.CaptureFixture[str], name: str, text: str, expected: str
) -> None:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    assert refused(capsys, f"{setting.flag}={text}", "x") == f"{setting.flag}: {expected}"
    assert refused(capsys, "x", **{setting.variable: text}) == f"{setting.variable}: {expected}"


def test_a_queue_that_holds_no_full_batch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "expected at least max_batch_size, which is 100000, got"
    problem = refused(capsys, "--max-batch-size=100000", "x")
    assert problem == f"--queue-rows: {expected} 65536"
    problem = refused(capsys, "--max-batch-size=100000", "x", SIGMAX_QUEUE_ROWS="99999")
    assert problem == f"SIGMAX_QUEUE_ROWS: {expected} 99999"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--tls-key=k"], "--tls-key: expected --tls-certificate beside it, got 'k'"),
        (["--tls-certificate=c"], "--tls-certificate: expected --tls-key beside it, got 'c'"),
        (["--tls-client-ca=c"], "--tls-client-ca: expected --tls-certificate beside it, got 'c'"),
        (
            ["--tls-client-auth=require", "--tls-certificate=c", "--tls-key=k"],
            "--tls-client-auth: expected --tls-client-ca beside it, got 'require'",
        ),
        (["--http-tls"], "--http-tls: expected --tls-certificate beside it, got True"),
        (["--jwt-jwks=j"], "--jwt-jwks: expected --jwt-audience beside it, got 'j'"),
        (
            ["--jwt-issuer=i"],
            "--jwt-issuer: expected --jwt-jwks or --jwt-public-key beside it, got 'i'",
        ),
        (
            ["--jwt-jwks=j", "--jwt-public-key=k", "--jwt-audience=a"],
            "--jwt-public-key: expected it only without --jwt-jwks, got 'k'",
        ),
        (
            ["--access=a"],
            f"--access: expected {CREDENTIALS} beside it, got 'a'",
        ),
        (
            ["--jwt-algorithms=HS256", "--jwt-jwks=j", "--jwt-audience=a"],
            f"--jwt-algorithms: expected names separated by commas, {ALGORITHMS}, got 'HS256'",
        ),
    ],
)
def test_a_setting_that_lacks_another_is_refused(
    capsys: pytest.CaptureFixture[str], argv: list[str], problem: str
) -> None:
    assert refused(capsys, *argv, "x") == problem


@pytest.mark.parametrize("argv", [[], ["--token-file=t"], ["--tls-certificate=c", "--tls-key=k"]])
def test_an_address_that_others_reach_needs_tls_and_credentials(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    problem = refused(capsys, "--host=0.0.0.0", *argv, "x")
    assert problem == (
        "--host: expected a loopback address, or TLS (--tls-certificate) and credentials "
        f"({CREDENTIALS}) beside it, or --insecure, got '0.0.0.0'"
    )
    assert config("--host=0.0.0.0", "--insecure", *argv).risks


def test_an_address_with_tls_and_credentials_has_no_risks() -> None:
    tls = ("--tls-certificate=c", "--tls-key=k")
    assert not config("--host=0.0.0.0", *tls, "--token-file=t").risks
    assert not config("--host=0.0.0.0", *tls, "--tls-client-ca=a").risks
    assert not config("--host=127.0.0.1").risks


def test_nothing_to_serve_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "REPOSITORY_OR_FILE" in refused(capsys)


def test_a_shortened_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--grpc" in refused(capsys, "--grpc=1", "x")


def test_a_configuration_built_in_code_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match=r"^shards: expected a whole number .* got True$"):
        ServerConfig(shards=True)


def spec(**changes: object) -> ModelSpec:
    plain = {"name": "a", "version": 1, "max_batch_size": 8, "inputs": (), "outputs": ()}
    return ModelSpec(**{**plain, "config": "{}", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": ""}, "a printable name, got ''"),
        ({"version": 0}, "a version over 0, got 0"),
        ({"max_batch_size": -1}, "a max_batch_size of 0 or more, got -1"),
        ({"tolerance": float("nan")}, "a finite tolerance of 0 or more, got nan"),
    ],
)
def test_a_model_specification_is_checked(changes: dict[str, object], problem: str) -> None:
    assert spec().tolerance == 1e-5
    with pytest.raises(ValueError, match=re.escape(f"expected {problem}")):
        spec(**changes)


@each_setting
def test_help_names_flag_variable_default_and_unit(
    monkeypatch: pytest.MonkeyPatch, setting: Setting
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # no line breaks inside a sentence
    text = " ".join(cli.parser().format_help().split())
    unit = f"{setting.unit}; " if setting.unit else ""
    assert f" {setting.flag} {setting.kind.placeholder} {setting.meaning} [{unit}" in text
    assert f"[{unit}default: {setting.default}; env: {setting.variable}]" in text


def test_the_document_has_exactly_these_settings() -> None:
    rows = [
        f"| `{setting.flag}` | `{setting.variable}` | {setting.default} | {setting.unit} "
        f"| {setting.meaning} |"
        for setting in SETTINGS
    ]
    lines = DOCUMENT.read_text().splitlines()
    assert [line for line in lines if line.startswith("| `--")] == rows
