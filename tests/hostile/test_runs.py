"""Runs and loads that do not end or take all memory are ended, and other clients are served."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import NUMPY, Tensor, infer, infer_request, read_error, refusal
from tritonclient.grpc import (  # type: ignore[import-untyped]
    service_pb2,
    service_pb2_grpc,
)

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
FOR_EVER = 2**62
ROW = Tensor.of("x", np.zeros((1, 5)))
PATIENCE = 60  # most seconds to wait for things that should happen at once


def whole(number: int) -> Tensor:
    """Make a tensor of one whole number, as the models of this file take it."""
    return Tensor("x", "INT64", (1,), number.to_bytes(8, "little"))


@contextmanager
def connected(server: Server) -> Iterator[Any]:
    """Yield a stub of the inference service over a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=own) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def good_client(server: Server) -> float:
    """Query the good model over a new connection; return the seconds that the answer took."""
    begun = time.monotonic()
    with connected(server) as stub:
        stub.ModelInfer(infer_request("good", ROW), timeout=PATIENCE)
    return time.monotonic() - begun


def memory(server: Server) -> int:
    """Return the resident memory of the server's process, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def most_memory(server: Server) -> int:
    """Return the peak of the resident memory of the server's process, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def until(holds: Callable[[], bool], what: str) -> None:
    patience = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < patience, what
        time.sleep(0.01)  # seconds between two checks


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a good model, to which tests add others."""
    folder = tmp_path / "repository"
    files.save(files.softmax(), folder, "good")
    return folder


def test_what_the_values_of_a_request_may_make_long_is_no_light_model(
    serve: Serve, repository: Path
) -> None:
    for build in (files.turns, files.expands, files.sums, files.powers):
        files.save(build(), repository, build.__name__)
    server = serve(repository)
    for name in ("turns", "expands", "sums"):
        assert "heavy" in server.line(name).split()
    for name in ("good", "powers"):
        assert "light" in server.line(name).split()


def test_runs_are_ended_at_their_deadline(serve: Serve, repository: Path) -> None:
    files.save(files.turns(), repository, "turns")
    server = serve("--shards=2", "--max-run-seconds=3600", repository)
    with connected(server) as stub:
        request = infer_request("turns", whole(FOR_EVER))
        calls = [stub.ModelInfer.future(request, timeout=2) for _ in range(6)]
        while not all(call.done() for call in calls):
            assert good_client(server) < PATIENCE
        for call in calls:
            assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # This request has no deadline, so it is answered only if no run before it goes on.
    assert np.array_equal(infer(server, "turns", whole(3))[0].array, [3])
    assert server.get("/readyz")[0] == 200
    assert server.stop() == 0


def test_runs_without_a_deadline_are_ended_as_well(serve: Serve, repository: Path) -> None:
    files.save(files.turns(), repository, "turns")
    server = serve("--shards=1", "--max-run-seconds=1", repository)
    with connected(server) as stub:
        calls = [stub.ModelInfer.future(infer_request("turns", whole(FOR_EVER))) for _ in range(3)]
        while not all(call.done() for call in calls):
            assert good_client(server) < PATIENCE
        for call in calls:
            error = read_error(call.exception())
            assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "RUN_TOO_LONG")
            assert error.message == (
                "expected a run of model 'turns' to take at most 1s; it took longer, and was ended"
            )
    assert np.array_equal(infer(server, "turns", whole(3))[0].array, [3])
    assert server.stop() == 0


def test_a_shard_that_does_not_turn_makes_the_server_unready_until_its_run_is_ended(
    serve: Serve, repository: Path
) -> None:
    files.save(files.powers(), repository, "powers")
    server = serve("--shards=2", "--max-run-seconds=12", "--model-memory-limit=0", repository)
    with connected(server) as stub:
        long = Tensor.of("x", np.ones((4000, 2)))
        call = stub.ModelInfer.future(infer_request("powers", long))
        until(lambda: server.get("/readyz")[0] == 503, "it says that it is ready")
        assert not call.done()
        # New connections go to a shard that turns.
        assert good_client(server) < PATIENCE
        with connected(server) as other:
            ready = other.ServerReady(service_pb2.ServerReadyRequest(), timeout=PATIENCE)
            assert not ready.ready
        error = read_error(call.exception(timeout=PATIENCE))
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "RUN_TOO_LONG")
    until(lambda: server.get("/readyz")[0] == 200, "it stays unready")
    assert "a shard does not turn" in server.log()
    assert "a shard turns again" in server.log()
    assert server.stop() == 0


@pytest.mark.parametrize("name", ["turns", "powers"])
@pytest.mark.parametrize("how", ["a second signal", "--grace-seconds"])
def test_the_end_waits_for_no_run(serve: Serve, repository: Path, name: str, how: str) -> None:
    files.save(files.turns(), repository, "turns")
    files.save(files.powers(), repository, "powers")
    grace = "3600" if how == "a second signal" else "0.5"
    server = serve("--shards=1", "--max-run-seconds=3600", f"--grace-seconds={grace}", repository)
    tensor = whole(FOR_EVER) if name == "turns" else Tensor.of("x", np.ones((4000, 2)))
    with connected(server) as stub:
        # After one answer the connection is set up, and the server receives the next request.
        stub.ModelInfer(infer_request("good", ROW), timeout=PATIENCE)
        call = stub.ModelInfer.future(infer_request(name, tensor))
        until(lambda: server.metric("sigmax_open_connections") == 1, "it is not connected")
        busy = processor_time(server)
        until(lambda: processor_time(server) > busy + 0.3, "it does not run")
        server.process.send_signal(signal.SIGTERM)
        if how == "a second signal":
            until(lambda: "stopping" in server.log(), "it does not stop")
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=PATIENCE) == 1
        assert call.exception(timeout=PATIENCE) is not None
    assert how in server.log()
    assert server.log().endswith("error: 1 accepted requests were not answered\n")


def processor_time(server: Server) -> float:
    """Return the CPU seconds that the server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_an_answer_that_is_too_large_is_refused_before_it_is_copied(
    serve: Serve, repository: Path
) -> None:
    files.save(files.expands(), repository, "expands")
    server = serve("--shards=2", "--max-message-bytes=33554432", repository)
    assert len(infer(server, "expands", whole(8 * MEBIBYTE))[0].raw) == 32 * MEBIBYTE
    before = memory(server)
    for _ in range(4):
        found = refusal(lambda: infer(server, "expands", whole(75 * MEBIBYTE)))
        assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "REPLY_TOO_LARGE")
        assert found.message == (
            f"expected an answer of at most {32 * MEBIBYTE} bytes, got {300 * MEBIBYTE}; "
            "ask for fewer rows"
        )
        assert good_client(server) < PATIENCE
    assert most_memory(server) < before + 400 * MEBIBYTE
    assert memory(server) < before * 1.1 + 16 * MEBIBYTE
    assert server.stop() == 0


@pytest.mark.parametrize("name", ["expands", "sums"])
def test_a_run_that_takes_too_much_memory_is_ended_alone(
    serve: Serve, repository: Path, name: str
) -> None:
    for build in (files.expands, files.sums):
        files.save(build(), repository, build.__name__)
    server = serve("--shards=2", f"--model-memory-limit={100 * MEBIBYTE}", repository)
    infer(server, name, whole(MEBIBYTE))
    before = memory(server)
    for count in (30 * MEBIBYTE, 400_000_000, 2**40):
        found = refusal(lambda count=count: infer(server, name, whole(count)))  # type: ignore[misc]
        assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "RUN_TOO_LARGE")
        assert found.message == (
            f"expected a run of model '{name}' to allocate at most {100 * MEBIBYTE} bytes; "
            "it was to allocate more, and was ended; ask for fewer rows"
        )
        assert good_client(server) < PATIENCE
        infer(server, name, whole(MEBIBYTE))
    assert most_memory(server) < before + 100 * MEBIBYTE
    assert memory(server) < before * 1.1 + 16 * MEBIBYTE
    assert server.stop() == 0


@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
def test_the_least_whole_number_can_be_divided_by_minus_one(
    serve: Serve, repository: Path, dtype: str
) -> None:
    kind = NUMPY[dtype]
    for operator in ("Div", "Mod"):
        files.save(files.whole_division(operator, dtype), repository, operator)
    server = serve("--shards=2", repository)
    least = np.iinfo(kind).min
    rows = Tensor.of("x", [[least, -1], [least, 1], [least, 2], [7, -1], [-7, 2]], kind)
    quotients, remainders = [least, least, least // 2, -7, -3], [0, 0, 0, 0, 1]
    for _ in range(20):
        assert infer(server, "Div", rows)[0].array.ravel().tolist() == quotients
        assert infer(server, "Mod", rows)[0].array.ravel().tolist() == remainders
        assert good_client(server) < PATIENCE
    by_zero = Tensor.of("x", [[least, 0]], kind)
    assert refusal(lambda: infer(server, "Div", by_zero)).reason == "VALUES_REFUSED"
    assert good_client(server) < PATIENCE
    assert server.stop() == 0


LOADS = {"a run": files.turns_for_ever, "a constant": files.folds_for_long}
LATE = "the load took longer than --load-timeout-seconds, and "


@pytest.fixture(params=LOADS)
def hanging(request: pytest.FixtureRequest, repository: Path) -> Path:
    """A repository with a model that hangs when it is loaded: in a run, or in a constant."""
    files.save(LOADS[request.param](), repository, "hanging")
    return repository


def test_a_model_that_hangs_while_it_is_loaded_is_named_and_the_others_are_served(
    serve: Serve, hanging: Path
) -> None:
    server = serve("--load-timeout-seconds=2", hanging)
    assert LATE in server.line("hanging")
    assert server.printed.splitlines()[-1].startswith("not ready: ")
    assert good_client(server) < PATIENCE
    assert server.get("/readyz")[0] == 503
    assert server.stop() == 0


def test_a_run_that_hangs_while_its_model_is_loaded_is_ended_as_any_other(
    serve: Serve, repository: Path
) -> None:
    files.save(files.turns_for_ever(), repository, "hanging")
    server = serve("--max-run-seconds=1", repository)
    assert server.line("hanging").endswith(
        "expected a run of the rows tried to take at most --max-run-seconds; it took longer, "
        "and was ended"
    )
    assert server.stop() == 0


def load(stub: Any, model: str) -> Any:
    request = service_pb2.RepositoryModelLoadRequest(model_name=model)
    return stub.RepositoryModelLoad.future(request, timeout=2 * PATIENCE)


def states(stub: Any) -> dict[str, str]:
    index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=PATIENCE)
    return {model.name: model.state for model in index.models}


def test_nobody_waits_for_ever_for_a_load(serve: Serve, hanging: Path) -> None:
    server = serve(
        "--model-control=explicit", "--load-model=good", "--load-timeout-seconds=3", hanging
    )
    with connected(server) as stub:
        first = load(stub, "hanging")
        until(lambda: states(stub).get("hanging") == "LOADING", "it is not being loaded")
        assert not first.done(), "the list has waited for the load"
        second = load(stub, "good")
        assert good_client(server) < PATIENCE
        error = first.exception(timeout=2 * PATIENCE)
        assert LATE in error.details()
        assert second.exception(timeout=2 * PATIENCE) is None
        assert states(stub) == {"good": "READY", "hanging": "UNAVAILABLE"}
    assert server.stop() == 0


def test_a_signal_during_a_load_ends_the_server(serve: Serve, hanging: Path) -> None:
    server = serve("--model-control=explicit", "--load-model=good", hanging)
    with connected(server) as stub:
        call = load(stub, "hanging")
        until(lambda: states(stub).get("hanging") == "LOADING", "it is not being loaded")
        assert server.stop() == 0
        assert call.exception(timeout=PATIENCE).code() == grpc.StatusCode.UNAVAILABLE


def test_a_signal_while_a_model_hangs_at_the_start_ends_the_server(
    hanging: Path, tmp_path: Path
) -> None:
    (hanging / "hanging/config.pbtxt").write_text("optimization { priority: PRIORITY_MAX }")
    sigmax = str(Path(sys.executable).with_name("sigmax"))
    command = [sigmax, "serve", "--grpc-port=0", "--http-port=0", str(hanging)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            # The warning is the server's last line before it loads the first model.
            assert "without effect" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0
        finally:
            process.kill()
