"""What `dynamic_batching` says of priorities, delays, sizes and queues."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, classify_request, infer_request, read_error, refusal, triton, typed

ZERO = Tensor.of("x", np.zeros((1, 1)))
ROW = Tensor.of("x", np.zeros((1, 5)))


def serving(tmp_path: Path, serve: Serve, model: Any, batching: str, rows: int = 1) -> Server:
    """A server of this model, as "m", one batch after the other."""
    text = f"max_batch_size: {rows} dynamic_batching {{ {batching} }}"
    files.configured(tmp_path, "m", model, text)
    return serve(tmp_path, "--shards=1")


def send(server: Server, tensor: Tensor, timeout: float = 60, **options: Any) -> Any:
    request = infer_request("m", tensor, **options)
    return triton(server).ModelInfer.future(request, timeout=timeout)


def until_queued(server: Server, rows: int) -> None:
    while server.metric("sigmax_queued_rows", model="m") < rows:
        pass


def test_a_higher_priority_overtakes(tmp_path: Path, serve: Serve) -> None:
    levels = "priority_levels: 2 default_priority_level: 2"
    server = serving(tmp_path, serve, files.slow(200), levels)
    ordinary = [send(server, ZERO) for _ in range(12)]
    until_queued(server, 10)
    urgent = send(server, ZERO, parameters={"priority": {"uint64_param": 1}})
    assert urgent.result().model_name == "m"
    assert not ordinary[-1].done()
    assert {call.code() for call in ordinary} == {grpc.StatusCode.OK}


def test_a_batch_waits_until_it_has_a_preferred_size(tmp_path: Path, serve: Serve) -> None:
    batching = "max_queue_delay_microseconds: 600000000 preferred_batch_size: 4"
    server = serving(tmp_path, serve, files.softmax(), batching, rows=8)
    calls = [send(server, ROW) for _ in range(4)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}
    assert server.metric("sigmax_batch_rows_count", model="m") == 1
    assert server.metric("sigmax_batch_rows_sum", model="m") == 4


def test_a_batch_does_not_wait_longer_than_its_delay(tmp_path: Path, serve: Serve) -> None:
    batching = "max_queue_delay_microseconds: 200000"
    server = serving(tmp_path, serve, files.softmax(), batching, rows=8)
    reply = typed(server).Classify(classify_request("m", ROW), timeout=60)
    assert reply.timings.queue_ns >= 200_000_000
    assert reply.timings.batch_rows == 1


def test_a_batch_does_not_wait_beyond_a_deadline(tmp_path: Path, serve: Serve) -> None:
    batching = "max_queue_delay_microseconds: 600000000"
    server = serving(tmp_path, serve, files.softmax(), batching, rows=8)
    patient = send(server, ROW)
    until_queued(server, 1)
    hasty = send(server, ROW, timeout=2)
    assert {hasty.code(), patient.code()} == {grpc.StatusCode.OK}
    assert server.metric("sigmax_batch_rows_count", model="m") == 1


@pytest.mark.parametrize("service", ["sigmax", "inference"])
def test_only_so_many_requests_wait(tmp_path: Path, serve: Serve, service: str) -> None:
    policy = "default_queue_policy { max_queue_size: 2 }"
    server = serving(tmp_path, serve, files.slow(), policy)
    if service == "inference":
        calls: list[Any] = [send(server, ZERO) for _ in range(10)]
        expected = ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size")
    else:
        ask = typed(server).Classify.future
        calls = [ask(classify_request("m", ZERO), timeout=60) for _ in range(10)]
        message = "the queue of model 'm' holds 2 requests of at most 2; try again later"
        expected = ("RESOURCE_EXHAUSTED", message)
    errors = [call.exception() for call in calls]
    refused = [read_error(error) for error in errors if error]
    assert 0 < errors.count(None) < 10
    assert {(each.code, each.message, each.reason) for each in refused} == {
        (*expected, "QUEUE_FULL")
    }
    count = server.metric("sigmax_refused_total", model="m", reason="queue_full")
    assert count == 10 - errors.count(None)


def test_what_is_late_is_delayed_where_the_policy_says_so(tmp_path: Path, serve: Serve) -> None:
    policy = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }"
    server = serving(tmp_path, serve, files.slow(), policy)
    calls = [send(server, ZERO) for _ in range(5)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_what_cannot_be_answered_in_time_is_refused_at_once(tmp_path: Path, serve: Serve) -> None:
    server = serving(tmp_path, serve, files.slow(), "")
    waiting = [send(server, ZERO) for _ in range(10)]
    until_queued(server, 8)
    request = classify_request("m", ZERO)
    found = refusal(lambda: typed(server).Classify(request, timeout=0.2))
    assert (found.code, found.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT")
    assert "an answer is expected to take" in found.message
    assert server.metric("sigmax_refused_total", model="m", reason="too_late") == 1
    assert not waiting[-1].done()
    assert {call.code() for call in waiting} == {grpc.StatusCode.OK}
