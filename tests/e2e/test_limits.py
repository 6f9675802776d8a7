"""Large messages, full queues and deadlines: the limits, and the errors that report them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import sigmax
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.server import Serve, Server
from support.wire import (
    Tensor,
    classify_request,
    infer,
    infer_request,
    outputs,
    read_error,
    refusal,
    triton,
    typed,
    until_refused,
)

MEBIBYTE = 2**20
ZERO = Tensor.of("x", [[0.0]])


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    onnx.save(files.slow(), path)
    return path


def test_a_tensor_over_many_frames_is_kept_bit_for_bit(server: Server) -> None:
    big = Tensor.of("x", np.random.default_rng(0).normal(size=(64, 128, 128)), np.float64)
    assert len(big.raw) == 8 * MEBIBYTE
    [answer] = infer(server, "identity-fp64", big)
    assert (answer.shape, answer.raw) == (big.shape, big.raw)


def test_large_and_small_requests_at_once(server: Server) -> None:
    chance = np.random.default_rng(1)
    tensors = [
        Tensor.of("x", chance.normal(size=(1, 1, 300_000 if n % 4 == 0 else 3))) for n in range(32)
    ]
    send = triton(server).ModelInfer.future
    calls = [send(infer_request("identity-fp32", tensor), timeout=60) for tensor in tensors]
    assert [outputs(call.result())[0].raw for call in calls] == [t.raw for t in tensors]


@pytest.fixture(scope="module")
def strict_server(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Takes messages of at most one mebibyte."""
    log = tmp_path_factory.mktemp("strict") / "log"
    with Server(log, f"--max-message-bytes={MEBIBYTE}", examples) as server:
        yield server


def calls_of_size(server: Server, size: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """One request with a tensor of so many bytes to each call: its whole size, and the call."""
    tensor = Tensor("x", "UINT8", (1, 1, size), bytes(size))
    infer_message = infer_request("identity-uint8", tensor)
    message = classify_request("identity-uint8", tensor)
    stream_message = pb.ClassifyStreamRequest(id="1", request=message)
    return {
        "ModelInfer": (
            infer_message.ByteSize(),
            lambda: triton(server).ModelInfer(infer_message, timeout=60),
        ),
        "Classify": (message.ByteSize(), lambda: typed(server).Classify(message, timeout=60)),
        "ClassifyStream": (
            stream_message.ByteSize(),
            lambda: list(typed(server).ClassifyStream(iter([stream_message]), timeout=60)),
        ),
    }


@pytest.mark.parametrize("call", ["ModelInfer", "Classify", "ClassifyStream"])
def test_a_message_over_the_limit_is_refused_with_both_sizes(
    strict_server: Server, call: str
) -> None:
    size, send = calls_of_size(strict_server, 2 * MEBIBYTE)[call]
    found = refusal(send)
    assert found.code == "RESOURCE_EXHAUSTED"
    assert str(MEBIBYTE) in found.message
    assert str(size) in found.message
    if call != "ClassifyStream":
        assert found.reason == "MESSAGE_TOO_LARGE"
        assert found.message == f"expected a message of at most {MEBIBYTE} bytes, got {size}"


def test_a_message_at_the_limit_is_taken(strict_server: Server) -> None:
    overhead = calls_of_size(strict_server, MEBIBYTE)["ModelInfer"][0] - MEBIBYTE
    exact, send = calls_of_size(strict_server, MEBIBYTE - overhead)["ModelInfer"]
    assert exact == MEBIBYTE
    send()
    more, refuse = calls_of_size(strict_server, MEBIBYTE - overhead + 1)["ModelInfer"]
    assert more == MEBIBYTE + 1
    assert refusal(refuse).reason == "MESSAGE_TOO_LARGE"


def test_the_sdk_does_not_repeat_what_is_too_large(strict_server: Server) -> None:
    with pytest.raises(
        sigmax.InvalidInput, match="expected a message of at most 1048576"
    ) as raised:
        strict_server.client.classify("layers", np.zeros((30_000, 10)))
    assert raised.value.code == "RESOURCE_EXHAUSTED"


def outcomes(calls: list[Any]) -> list[Any]:
    """Of each call its error, or None where it was answered."""
    return [call.exception() for call in calls]


@pytest.mark.parametrize("service", ["sigmax", "inference"])
def test_a_full_queue_refuses_and_says_when_to_return(
    serve: Serve, slow_model: Path, service: str
) -> None:
    server = serve("--shards=1", "--max-batch-size=1", "--queue-rows=2", slow_model)
    if service == "sigmax":
        send, request = typed(server).Classify.future, classify_request("slow", ZERO)
    else:
        send, request = triton(server).ModelInfer.future, infer_request("slow", ZERO)
    calls = until_refused(lambda: send(request, timeout=60))
    errors = [error for error in outcomes(calls) if error is not None]
    assert 0 < len(errors) < len(calls)
    for error in map(read_error, errors):
        assert error.reason == "QUEUE_FULL"
        assert error.retry_after is not None
        assert error.retry_after > 0
        if service == "sigmax":
            assert error.code == "RESOURCE_EXHAUSTED"
            assert error.message == (
                "the queue of model 'slow' holds 2 rows of at most 2; try again later"
            )
        else:
            message = "[request id: <id_unknown>] Exceeds maximum queue size"
            assert (error.code, error.message) == ("UNAVAILABLE", message)


def test_the_sdk_returns_after_a_full_queue(serve: Serve, tmp_path: Path) -> None:
    levels = "priority_levels: 2 default_priority_level: 2"
    policy = "priority_queue_policy { key: 2 value { max_queue_size: 1 } }"
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(2, f"{levels} {policy}"))
    server = serve(tmp_path, "--shards=1")
    send = triton(server).ModelInfer.future
    urgent = infer_request("m", ZERO, parameters={"priority": {"uint64_param": 1}})
    waiting = send(infer_request("m", ZERO), timeout=60)
    server.until_queued(1, "m")
    with (
        ThreadPoolExecutor(1) as pool,
        sigmax.Client(server.grpc, timeout=60, retries=0) as hasty,
        sigmax.Client(server.grpc, timeout=60, retries=1_000_000) as patient,
    ):
        with pytest.raises(sigmax.Overloaded, match="holds 1 requests of at most 1"):
            hasty.classify("m", [0.0])
        assert hasty.model("m").name == "m"
        answer = pool.submit(patient.classify, "m", [0.0])
        while server.metric("sigmax_refused_total", model="m", reason="queue_full") < 2:
            assert not answer.done()
        # Each opens the gate for what waits.
        assert {send(urgent, timeout=60).code(), waiting.code()} == {grpc.StatusCode.OK}
        server.until_queued(1, "m")
        assert send(urgent, timeout=60).code() == grpc.StatusCode.OK
        assert answer.result().label == "no"


@pytest.mark.slow
def test_what_is_late_is_not_run(serve: Serve, tmp_path: Path) -> None:
    # Slow enough that even a run that begins at once ends too late.
    onnx.save(files.slow(300), tmp_path / "slow.onnx")
    server = serve("--shards=1", "--max-batch-size=1", tmp_path / "slow.onnx")
    send = typed(server).Classify.future
    patient = [send(classify_request("slow", ZERO), timeout=60) for _ in range(2)]
    hasty = [send(classify_request("slow", ZERO), timeout=0.01) for _ in range(20)]
    last = send(classify_request("slow", ZERO), timeout=60)
    assert {call.code() for call in hasty} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert outcomes([*patient, last]) == [None] * 3
    assert server.metric("sigmax_batch_rows_count", model="slow") == 3
    with pytest.raises(sigmax.DeadlineExceeded):
        server.client.classify("slow", [0.0], timeout=0.01)


def test_what_is_cancelled_is_not_run(serve: Serve, tmp_path: Path) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(22))
    server = serve(tmp_path, "--shards=1")
    send = typed(server).Classify.future
    request = classify_request("m", ZERO)
    first, *gone = [send(request, timeout=60) for _ in range(21)]
    server.until_queued(21, "m")
    for call in gone:
        call.cancel()
    server.until(20, "sigmax_refused_total", model="m", reason="cancelled")
    # Enough by itself to open the gate.
    last = send(classify_request("m", Tensor.of("x", np.zeros((22, 1)))), timeout=60)
    assert outcomes([first, last]) == [None, None]
    assert server.metric("sigmax_batch_rows_sum", model="m") == 1 + 22


def test_a_timeout_of_nothing_asks_nobody(server: Server) -> None:
    before = server.metric("sigmax_requests_total", model="softmax")
    with pytest.raises(sigmax.DeadlineExceeded, match="the timeout of 0 s has passed"):
        server.client.classify("softmax", [0.0] * 5, timeout=0)
    assert server.metric("sigmax_requests_total", model="softmax") == before


def test_connections_that_wait_for_nothing_make_room(serve: Serve, slow_model: Path) -> None:
    server = serve("--max-connections=2", "--max-batch-size=1", slow_model)
    local = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(server.grpc, options=local) for _ in range(3)]
    idle = []
    for channel in channels[:2]:  # one after the other: the first is idle for longer
        asked = health_pb2.HealthCheckRequest()
        idle.append(health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=300))
        assert next(idle[-1]).status == health_pb2.HealthCheckResponse.SERVING
    ask: Any = channels[2].unary_unary("/sigmax.v1.ClassifierService/Classify")
    ask(classify_request("slow", ZERO).SerializeToString(), timeout=60)
    assert refusal(lambda: next(idle[0])).code == "UNAVAILABLE"
    assert server.metric("sigmax_connections_evicted_total") == 1
    assert server.metric("sigmax_connections_refused_total") == 0
    for channel in channels:
        channel.close()
