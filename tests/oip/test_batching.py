"""The priorities, delays, sizes and queues of `dynamic_batching`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.server import PATIENCE, Serve, Server
from support.wire import Tensor, classify_request, infer_request, refusal, triton, typed

ZERO = Tensor.of("x", np.zeros((1, 1)))
ROW = Tensor.of("x", np.zeros((1, 5)))


def serving(tmp_path: Path, serve: Serve, model: Any, batching: str, rows: int = 1) -> Server:
    """A server of this model, as "m", one batch after the other."""
    text = f"max_batch_size: {rows} dynamic_batching {{ {batching} }}"
    files.configured(tmp_path, "m", model, text)
    return serve(tmp_path, "--shards=1")


def send(server: Server, tensor: Tensor, timeout: float | None = 60, **options: Any) -> Any:
    request = infer_request("m", tensor, **options)
    return triton(server).ModelInfer.future(request, timeout=timeout)


def codes(calls: list[Any]) -> set[grpc.StatusCode]:
    return {call.code() for call in calls}


OK = {grpc.StatusCode.OK}
URGENT = {"priority": {"uint64_param": 1}}


@pytest.fixture
def gated(tmp_path: Path, serve: Serve) -> Callable[..., Server]:
    """Serves "m", a softmax whose requests are held back until so many rows wait."""

    def start(rows: int, more: str = "") -> Server:
        files.configured(tmp_path, "m", files.softmax(), files.gated(rows, more))
        return serve(tmp_path, "--shards=1")

    return start


def test_a_higher_priority_overtakes(gated: Callable[..., Server]) -> None:
    server = gated(4, "priority_levels: 2 default_priority_level: 2")
    ordinary = [send(server, ROW, timeout=None) for _ in range(3)]
    server.until_queued(3, "m")
    urgent = send(server, Tensor.of("x", np.zeros((2, 5))), parameters=URGENT)
    assert codes([urgent]) == OK
    # With two of those that came before it; the third waits still.
    assert server.metric("sigmax_batch_rows_count", model="m") == 1
    assert server.metric("sigmax_queued_rows", model="m") == 1
    assert codes([*(send(server, ROW) for _ in range(3)), *ordinary]) == OK


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
    timeout, code = 1, None
    # Until nothing else takes the fifth of it that is left for the answer.
    while code != grpc.StatusCode.OK:
        patient = send(server, ROW)
        server.until_queued(1, "m")
        code = send(server, ROW, timeout=timeout).code()
        assert codes([patient]) == OK
        assert timeout < PATIENCE
        timeout *= 2
    assert server.metric("sigmax_batch_rows_count", model="m") == timeout.bit_length() - 1


@pytest.mark.parametrize("service", ["sigmax", "inference"])
def test_only_so_many_requests_wait(gated: Callable[..., Server], service: str) -> None:
    policy = "priority_queue_policy { key: 2 value { max_queue_size: 2 } }"
    server = gated(3, f"priority_levels: 2 default_priority_level: 2 {policy}")
    waiting = [send(server, ROW) for _ in range(2)]
    server.until_queued(2, "m")
    if service == "inference":
        found = refusal(send(server, ROW).result)
        expected = ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size")
    else:
        found = refusal(lambda: typed(server).Classify(classify_request("m", ROW), timeout=60))
        message = "the queue of model 'm' holds 2 requests of at most 2; try again later"
        expected = ("RESOURCE_EXHAUSTED", message)
    assert (found.code, found.message, found.reason) == (*expected, "QUEUE_FULL")
    assert server.metric("sigmax_refused_total", model="m", reason="queue_full") == 1
    assert codes([send(server, ROW, parameters=URGENT), *waiting]) == OK


def test_what_is_late_is_delayed_where_the_policy_says_so(tmp_path: Path, serve: Serve) -> None:
    policy = "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }"
    server = serving(tmp_path, serve, files.slow(), policy)
    calls = [send(server, ZERO) for _ in range(5)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_what_cannot_be_answered_in_time_is_refused_at_once(tmp_path: Path, serve: Serve) -> None:
    server = serving(tmp_path, serve, files.slow(300), "")
    # Far more than can be run within the time that the client gives.
    waiting = [send(server, ZERO, timeout=None) for _ in range(500)]
    while server.metric("sigmax_queued_rows", model="m") < 400:
        assert not waiting[99].done()
    request = classify_request("m", ZERO)
    found = refusal(lambda: typed(server).Classify(request, timeout=20))
    assert (found.code, found.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT")
    assert "an answer is expected to take" in found.message
    assert server.metric("sigmax_refused_total", model="m", reason="too_late") == 1
    assert not waiting[-1].done()
