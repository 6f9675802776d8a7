"""At SIGTERM under load, all requests up to a connection's last stream id are answered."""

import asyncio
import re
from pathlib import Path

import pytest
from support import files
from support.certificates import Authority
from support.drain import Caller, load
from support.server import Serve
from support.wire import Tensor, classify_request, infer_request, read_error, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

CONNECTIONS = 8
WARM = 100  # answers on each connection before the signal


def ask_quick(patient: bool) -> Caller:
    """Classify of a network of 10-18-20-5."""
    message = classify_request("quick", Tensor.of("x", [[0.5] * 10])).SerializeToString()
    return Caller("/sigmax.v1.ClassifierService/Classify", message, patient, WARM)


def ask_slow(patient: bool, enough: int = WARM) -> Caller:
    """ModelInfer of a model that takes its time."""
    message = infer_request("slow", Tensor.of("x", [[0.5]])).SerializeToString()
    return Caller("/inference.GRPCInferenceService/ModelInfer", message, patient, enough)


@pytest.mark.parametrize("patient", [False, True], ids=["until told", "until refused"])
@pytest.mark.parametrize("over", ["plain", "TLS"])
def test_every_accepted_request_is_answered(
    serve: Serve, tmp_path: Path, patient: bool, over: str
) -> None:
    files.save(files.layers(), tmp_path / "models", "quick")
    files.save(files.slow(turns=2), tmp_path / "models", "slow")
    if over == "plain":
        server = serve(tmp_path / "models", "--shards=2")
    else:
        authority = Authority(tmp_path / "certificates")
        flags = authority.issue().flags
        server = serve(tmp_path / "models", "--shards=2", *flags, authority=authority.path)
    callers = [ask(patient) for ask in (ask_quick, ask_slow) for _ in range(CONNECTIONS // 2)]
    done = asyncio.run(load(server.grpc, callers, server.stop))
    print(done)
    assert done.pending > 0
    assert all(caller.good >= WARM for caller in callers)
    for caller in callers:
        assert all(answer.good for answer in caller.accepted.values())
    assert done.answered == done.accepted
    assert done.code == 0
    assert "not answered" not in server.log()


def test_what_the_grace_does_not_suffice_for_is_counted(serve: Serve, tmp_path: Path) -> None:
    # Far more than the grace suffices for, however late it is seen to be over.
    files.save(files.slow(300), tmp_path, "slow")
    server = serve(tmp_path, "--shards=2", "--max-batch-size=1", "--grace-seconds=0.01")
    done = asyncio.run(load(server.grpc, [ask_slow(patient=False, enough=1)], server.stop))
    assert done.answered < done.sent
    [lost] = re.findall(r"error: (\d+) accepted requests were not answered", server.log())
    assert 0 < int(lost) <= done.sent - done.answered
    assert done.code == 1


@pytest.mark.slow
@pytest.mark.parametrize("_", range(5))
def test_a_load_that_is_under_way_does_not_upset_the_end(
    serve: Serve, tmp_path: Path, _: int
) -> None:
    """The control plane is inside ONNX Runtime then; the load is of no use any more."""
    # Its warm-up takes far longer than all that follows.
    files.save(files.slow(3000), tmp_path, "large")
    server = serve(tmp_path, "--model-control=explicit", "--grace-seconds=0.01")
    request = service_pb2.RepositoryModelLoadRequest(model_name="large")
    loading = triton(server).RepositoryModelLoad.future(request)
    while "large" not in {model.name for model in server.client.models()}:
        assert not loading.done()
    assert server.stop() == 0
    assert read_error(loading.exception()).reason == "DRAINING"
    assert "accepted requests were not answered" not in server.log()
