"""LogSettings changes what is logged; TraceSetting says that nothing is traced."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]


def settings(server: Server, **changes: bool | int | str) -> dict[str, Any]:
    request = service_pb2.LogSettingsRequest()
    for name, value in changes.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(request.settings[name], kind, value)
    reply = triton(server).LogSettings(request, timeout=60)
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in reply.settings.items()
    }


@pytest.fixture
def own(tmp_path: Path, serve: Serve) -> Server:
    files.save(files.embedding(), tmp_path, "embedding")
    return serve(tmp_path, "--allow-log-settings")


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets clients change its log."""
    folder = tmp_path_factory.mktemp("logging")
    files.save(files.softmax(), folder / "models", "softmax")
    with Server(folder / "log", folder / "models", "--allow-log-settings") as server:
        yield server


def has_extension(server: Server) -> bool:
    metadata = triton(server).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60)
    return "logging" in metadata.extensions


def fail(server: Server, index: int) -> str:
    """Make a request fail, which is logged as a warning; what the warning says of it."""
    x = Tensor.of("x", [[index, 0, 0, 0]], "int64")
    assert refusal(lambda: infer(server, "embedding", x)).code == "INVALID_ARGUMENT"
    return f"idx={index} "


def test_the_settings_are_told(server: Server) -> None:
    assert settings(server) == {
        "log_file": "",
        "log_error": True,
        "log_warning": True,
        "log_info": False,
        "log_verbose_level": 0,
        "log_format": "ISO8601",
    }


def test_a_client_changes_nothing_unless_the_server_lets_it(server: Server) -> None:
    assert not has_extension(server)
    before = settings(server)
    changes: list[dict[str, Any]] = [{"log_error": False}, {"log_verbose_level": 2}]
    for change in changes:
        found = refusal(partial(settings, server, **change))
        assert found.code == "UNIMPLEMENTED"
        assert "--allow-log-settings" in found.message
    assert settings(server) == before


@pytest.mark.parametrize("flag", ["--allow-log-settings", "--model-control=explicit"])
def test_a_flag_lets_clients_change_it(serve: Serve, tmp_path: Path, flag: str) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    server = serve(tmp_path, flag)
    assert has_extension(server)
    assert settings(server, log_info=True)["log_info"] is True


def test_a_setting_changes_the_log(own: Server) -> None:
    own.until_logged(fail(own, 91))
    assert settings(own, log_warning=False)["log_warning"] is False
    unlogged = fail(own, 92)
    settings(own, log_warning=True)
    log = own.until_logged(fail(own, 93))
    assert unlogged not in log
    assert " DEBUG " not in log
    assert settings(own, log_verbose_level=1)["log_verbose_level"] == 1
    fail(own, 94)
    own.until_logged(" DEBUG ")


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        (
            {"log_file": "x"},
            "UNIMPLEMENTED",
            "log file location can not be updated through network protocol",
        ),
        ({"log_info": 1}, "INVALID_ARGUMENT", "expect boolean for 'log_info'"),
        ({"log_verbose_level": True}, "INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'"),
        ({"log_format": 1}, "INVALID_ARGUMENT", "expect string for 'log_format'"),
        ({"log_format": "x"}, "INVALID_ARGUMENT", "invalid argument for log_format, got: x"),
        ({"log_colour": "x"}, "INVALID_ARGUMENT", "there is no setting 'log_colour'"),
    ],
)
def test_a_bad_setting_changes_nothing(
    changing: Server, changes: dict[str, Any], code: str, text: str
) -> None:
    before = settings(changing)
    found = refusal(lambda: settings(changing, log_error=False, **changes))
    assert found.code == code
    assert found.message.startswith(text)
    assert settings(changing) == before


def test_nothing_is_traced(server: Server) -> None:
    call = triton(server).TraceSetting
    found = refusal(lambda: call(service_pb2.TraceSettingRequest(), timeout=60))
    assert found.code == "UNIMPLEMENTED"
    metadata = triton(server).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60)
    assert "trace" not in metadata.extensions
