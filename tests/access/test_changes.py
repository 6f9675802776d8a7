"""Files of tokens, keys and rights that change while the server runs."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import (
    AUDIENCE,
    ISSUER,
    Issuer,
    Metadata,
    bearer,
    claims,
    enter,
    refused,
    token,
    until_known,
    until_unknown,
    write_keys,
    write_tokens,
)
from support.server import Serve, Server
from support.wire import classify_request, infer_request, read_error, triton, typed
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

SECRET = "secret-in-a-wrong-file-0123456789"
KEPT = "the last good one stays in force"
PARTS = ("tokens", "jwt_keys", "access")
ISSUES = Issuer("P-256", "key")
ALICE = bearer(token("alice"))
# What an editor or an operator may leave in each of the files, in their order. The log counts more
# than ten errors of one kind in ten seconds instead of writing them.
BROKEN = [
    ("", '{"keys": [', '[[rule]]\nwho = ["alice"'),
    (f"alice {SECRET}\n", json.dumps({"keys": SECRET}), "[[rule]]\nwho = ['a']\nmay = ['fly']"),
    ("alice: short\n", json.dumps({"keys": [{"kty": "oct", "k": SECRET}]}), "[[rules]]"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("seen", "hidden"):
        files.save(files.softmax(), folder, name)
    return folder


def write_table(path: Path, *who: str, model: str = "*") -> Path:
    path.write_text(f"[[rule]]\nwho = {json.dumps(who)}\nmay = ['describe']\nmodels = ['{model}']")
    return path


def code(server: Server, metadata: Metadata, model: str = "seen") -> str:
    """The code of GetModel."""
    request = pb.GetModelRequest(model_name=model)
    try:
        typed(server).GetModel(request, metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        return read_error(error).code
    return "OK"


@pytest.mark.slow
def test_broken_files_keep_the_last_good_ones(serve: Serve, models: Path, tmp_path: Path) -> None:
    """Each is told once, with its path and without what it holds."""
    tokens = write_tokens(tmp_path / "tokens", ["alice"])
    keys = write_keys(tmp_path / "keys", ISSUES.jwk())
    table = write_table(tmp_path / "access.toml", "alice", "carol")
    flags = (f"--jwt-jwks={keys}", f"--jwt-audience={AUDIENCE}", f"--jwt-issuer={ISSUER}")
    server = serve(models, f"--token-file={tokens}", *flags, f"--access={table}")
    by_issuer = bearer(ISSUES.sign("ES256", claims(sub="carol")))
    for count, contents in enumerate(BROKEN, 1):
        for path, content in zip((tokens, keys, table), contents, strict=True):
            path.write_text(content)
        for part in PARTS:
            server.until(count, "sigmax_reloads_total", files=part, result="refused")
        assert code(server, ALICE) == code(server, by_issuer) == "OK"
    for part in PARTS:
        assert server.metric("sigmax_reloads_total", files=part, result="taken") == 0
    # A right one is taken though another is still wrong, and the third is gone.
    write_tokens(tokens, ["alice", "bob"])
    table.unlink()
    until_known(server, bearer(token("bob")))
    assert code(server, by_issuer) == "OK"
    server.until(len(BROKEN) + 1, "sigmax_reloads_total", files="access", result="refused")
    assert code(server, ALICE) == "OK"
    server.stop()
    log = server.log()
    for path, told in ((tokens, len(BROKEN)), (keys, len(BROKEN)), (table, len(BROKEN) + 1)):
        lines = [line for line in log.splitlines() if f"{path}: " in line]
        assert len(lines) == told, lines
        assert all(KEPT in line for line in lines)
    assert SECRET not in log
    assert token("alice") not in log


def test_a_new_table_holds_for_tokens_that_are_kept(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens", ["alice"])
    table = write_table(tmp_path / "access.toml", "alice", model="seen")
    server = serve(models, "--shards=2", f"--token-file={tokens}", f"--access={table}")
    assert [code(server, ALICE, model) for model in ("seen", "hidden")] == [
        "OK",
        "PERMISSION_DENIED",
    ]
    write_table(tmp_path / "next", "alice", model="hidden").rename(table)
    server.until(1, "sigmax_reloads_total", files="access", result="taken")
    for _ in range(20):
        # Each of the connections may meet another shard.
        server.hang_up()
        assert code(server, ALICE, "hidden") == "OK"
        assert code(server, ALICE, "seen") == "PERMISSION_DENIED"


def test_a_mounted_secret_is_swapped_as_kubernetes_does(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    """The path is a link into `..data`, which is a link to a folder that is replaced."""
    mount = tmp_path / "mount"
    for version, name in (("..1", "alice"), ("..2", "bob")):
        (mount / version).mkdir(parents=True)
        write_tokens(mount / version / "tokens", [name])
    (mount / "..data").symlink_to("..1")
    (mount / "tokens").symlink_to("..data/tokens")
    server = serve(models, f"--token-file={mount / 'tokens'}")
    enter(server, ALICE)
    (mount / "..next").symlink_to("..2")
    (mount / "..next").rename(mount / "..data")
    until_known(server, bearer(token("bob")))
    until_unknown(server, ALICE)


@pytest.mark.parametrize("control", ["none", "explicit"])
def test_without_a_table_all_may_ask_and_nobody_may_control(
    serve: Serve, models: Path, tmp_path: Path, control: str
) -> None:
    tokens = write_tokens(tmp_path / "tokens", ["alice"])
    more = ["--load-model=*"] if control == "explicit" else []
    flags = (f"--model-control={control}", *more, "--shared-memory", "--allow-log-settings")
    server = serve(models, *flags, f"--token-file={tokens}")
    triton_, typed_ = triton(server), typed(server)
    change = service_pb2.LogSettingsRequest()
    change.settings["log_info"].bool_param = True

    def came(call: Any, request: Any) -> str:
        try:
            call(request, metadata=ALICE, timeout=60)
        except grpc.RpcError as error:
            return read_error(error).code
        return "OK"

    for call, request in (
        (triton_.ModelMetadata, service_pb2.ModelMetadataRequest(name="seen")),
        (triton_.LogSettings, service_pb2.LogSettingsRequest()),
        (typed_.GetModel, pb.GetModelRequest(model_name="hidden")),
    ):
        assert came(call, request) == "OK", request
    # They lack their inputs.
    assert came(typed_.Classify, classify_request("seen")) == "INVALID_ARGUMENT"
    assert came(triton_.ModelInfer, infer_request("seen")) == "INVALID_ARGUMENT"
    listed = typed_.ListModels(pb.ListModelsRequest(), metadata=ALICE, timeout=60)
    assert [model.name for model in listed.models] == ["hidden", "seen"]
    for call, request in (
        (triton_.RepositoryModelLoad, service_pb2.RepositoryModelLoadRequest(model_name="seen")),
        (triton_.RepositoryModelUnload, service_pb2.RepositoryModelUnloadRequest(model_name="x")),
        (triton_.LogSettings, change),
        (triton_.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest()),
        (triton_.SystemSharedMemoryUnregister, service_pb2.SystemSharedMemoryUnregisterRequest()),
    ):
        assert came(call, request) == "PERMISSION_DENIED", request
    assert refused(server).code == "UNAUTHENTICATED"
