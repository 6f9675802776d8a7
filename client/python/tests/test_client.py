"""Both clients over a real connection: what they send, retry, keep and raise."""

import asyncio
import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import sigmax
from sigmax.v1 import classifier_pb2 as pb

ROW = [0.25, 0.5, 0.25]
CODE = grpc.StatusCode


def kinds(peer: Any) -> list[str]:
    return [type(request).__name__ for request in peer.calls]


def test_a_row_and_a_batch(client: Any) -> None:
    result = client.classify("animal", ROW)
    assert (result.label, result.probability, result.model, result.version) == (
        "mammal",
        0.5,
        "animal",
        "2",
    )
    assert result.probabilities.tolist() == ROW
    assert [c.label for c in result.top(2)] == ["mammal", "bird"]
    assert result.timings == sigmax.Timings(1, 2, 3, 1)
    batch = client.classify("animal", np.array([ROW, [1, 0, 0]]), top_k=1)
    assert batch.labels == ["mammal", "bird"]
    assert [len(row.classes) for row in batch] == [1, 1]
    assert batch.probabilities.shape == (2, 3)


def test_the_description_is_fetched_once(client: Any, peer: Any) -> None:
    for _ in range(2):
        client.classify("animal", ROW)
    assert kinds(peer) == ["GetModelRequest", "ClassifyRequest", "ClassifyRequest"]
    client.classify("animal", ROW, version="2")
    assert kinds(peer)[3:] == ["GetModelRequest", "ClassifyRequest"]


def test_a_model_that_has_changed_is_described_again(client: Any, peer: Any) -> None:
    client.classify("animal", ROW)
    peer.described.inputs[0].shape[:] = [-1, 2]  # refused here, by the old description
    assert client.classify("animal", [0.25, 0.75]).label == "mammal"
    peer.described.inputs[0].dtype = pb.DATA_TYPE_FP64  # refused there
    peer.calls.clear()
    with contextlib.suppress(ValueError, sigmax.SigmaxError):
        client.classify("animal", [0.25, 0.75])
    assert kinds(peer)[:3] == ["ClassifyRequest", "GetModelRequest", "ClassifyRequest"]
    assert peer.calls[2].inputs[0].dtype == pb.DATA_TYPE_FP64


def test_a_request_that_stays_wrong_is_not_sent_again(client: Any, peer: Any) -> None:
    client.classify("animal", ROW)
    with pytest.raises(sigmax.InvalidInput, match=r"got \[2\]"):
        client.classify("animal", [1, 2])
    assert kinds(peer) == ["GetModelRequest", "ClassifyRequest", "GetModelRequest"]


def test_the_rest_of_an_error_is_kept(client: Any, peer: Any) -> None:
    violation = peer.BadRequest.FieldViolation(field="threshold", description="expected 0 to 1")
    client.classify("animal", ROW)
    peer.failures.append(
        peer.failure(
            CODE.INVALID_ARGUMENT,
            peer.ErrorInfo(reason="BAD_FIELD", domain="sigmax"),
            peer.BadRequest(field_violations=[violation]),
            message="threshold: expected 0 to 1, got 2",
        )
    )
    with pytest.raises(sigmax.InvalidInput, match=r"^threshold: expected 0 to 1, got 2$") as caught:
        client.classify("animal", ROW, threshold=2)
    error = caught.value
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "BAD_FIELD")
    assert error.fields == {"threshold": "expected 0 to 1"}
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (CODE.INVALID_ARGUMENT, "", sigmax.InvalidInput),
        (CODE.OUT_OF_RANGE, "", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "REPLY_TOO_LARGE", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "RUN_TOO_LARGE", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_REGIONS", sigmax.InvalidInput),
        (CODE.RESOURCE_EXHAUSTED, "MEMORY_BUDGET", sigmax.Overloaded),
        (CODE.UNAVAILABLE, "QUEUE_FULL", sigmax.Overloaded),  # over the Open Inference Protocol
        (CODE.NOT_FOUND, "UNKNOWN_MODEL", sigmax.ModelNotFound),
        (CODE.FAILED_PRECONDITION, "NOT_A_CLASSIFIER", sigmax.NotSupported),
        (CODE.UNIMPLEMENTED, "", sigmax.NotSupported),
        (CODE.DEADLINE_EXCEEDED, "", sigmax.DeadlineExceeded),
        (CODE.CANCELLED, "", sigmax.Cancelled),
        (CODE.UNAUTHENTICATED, "", sigmax.AccessDenied),
        (CODE.PERMISSION_DENIED, "", sigmax.AccessDenied),
        (CODE.INTERNAL, "ENGINE_FAULT", sigmax.ServerFault),
        (CODE.UNKNOWN, "", sigmax.ServerFault),
        (CODE.ABORTED, "", sigmax.SigmaxError),
    ],
)
def test_every_status_has_its_error(
    client: Any, peer: Any, code: grpc.StatusCode, reason: str, kind: type
) -> None:
    peer.failures.append(peer.failure(code, *([peer.ErrorInfo(reason=reason)] if reason else [])))
    with pytest.raises(sigmax.SigmaxError) as caught:
        client.models()
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code.name, reason)
    assert len(peer.calls) == 1  # none of these is tried again


def test_unavailable_is_tried_again(client: Any, peer: Any) -> None:
    peer.failures.extend([peer.failure(CODE.UNAVAILABLE)] * 2)
    assert client.classify("animal", ROW).label == "mammal"
    assert len(peer.calls) == 4


def test_tries_end_with_the_timeout(client: Any, peer: Any) -> None:
    peer.failures.extend([peer.failure(CODE.UNAVAILABLE)] * 99)
    start = time.monotonic()
    # The deadline may pass within the last try.
    with pytest.raises((sigmax.Unavailable, sigmax.DeadlineExceeded), match="scripted"):
        client.models(timeout=2.0)
    assert time.monotonic() - start > 0.9  # the last pause would have passed the deadline
    assert len(peer.calls) > 2


def test_tries_can_be_limited(make: Any, peer: Any) -> None:
    peer.failures.extend([peer.failure(CODE.UNAVAILABLE)] * 99)
    with pytest.raises(sigmax.Unavailable, match="scripted"):
        make(peer.address, retries=1).models()
    assert len(peer.calls) == 2


def test_a_server_that_comes_back_within_the_timeout_is_reached(
    make: Any, peer: Any, free_address: str
) -> None:
    client, server = make(free_address, timeout=60.0), peer.server()

    def start() -> None:
        server.add_insecure_port(free_address)
        server.start()

    starter = threading.Timer(2.0, start)  # four tries within the first second would miss it
    starter.start()
    assert [model.name for model in client.models()] == ["animal"]
    starter.join()
    server.stop(None).wait()


def test_an_overloaded_server_is_asked_again_when_it_says(client: Any, peer: Any) -> None:
    shed = peer.failure(CODE.RESOURCE_EXHAUSTED, peer.retry_info(0.2))
    peer.failures.append(shed)
    start = time.monotonic()
    client.models()
    assert time.monotonic() - start >= 0.2
    peer.failures.append(peer.failure(CODE.RESOURCE_EXHAUSTED, peer.retry_info(600)))
    with pytest.raises(sigmax.Overloaded) as caught:
        client.models()  # ten minutes are beyond the deadline: told at once
    assert caught.value.retry_after == 600
    assert len(peer.calls) == 3


def test_a_limit_that_waiting_does_not_lift_is_told_at_once(client: Any, peer: Any) -> None:
    reason = peer.ErrorInfo(reason="RUN_TOO_LARGE")
    peer.failures.append(peer.failure(CODE.RESOURCE_EXHAUSTED, reason, peer.retry_info(0.0)))
    with pytest.raises(sigmax.InvalidInput):
        client.models()
    assert len(peer.calls) == 1


@pytest.mark.parametrize("timeout", [1e300, 1e10, math.nan, -math.inf])
def test_a_timeout_that_is_none_is_refused_by_name(client: Any, make: Any, timeout: float) -> None:
    said = rf"^timeout: expected at most 1000000000 seconds.* got {timeout!r}$".replace("+", r"\+")
    calls: list[Callable[[], Any]] = [
        lambda: client.models(timeout=timeout),
        lambda: client.model("animal", timeout=timeout),
        lambda: client.classify("animal", ROW, timeout=timeout),
        lambda: client.infer("animal", ROW, timeout=timeout),
        lambda: next(client.classify_stream("animal", [], timeout=timeout)),
        lambda: client.wait_until_ready(timeout),
        lambda: make("localhost", timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(sigmax.InvalidInput, match=said) as caught:
            call()
        assert list(caught.value.fields) == ["timeout"]


def test_retries_below_zero_are_refused(make: Any) -> None:
    with pytest.raises(sigmax.InvalidInput, match=r"retries: expected 0 or more.* got -1"):
        make("localhost", retries=-1)


def test_a_version_may_be_a_number(client: Any, peer: Any) -> None:
    assert client.classify("animal", ROW, version=2).version == "2"
    assert client.model("animal", version=2).version == "2"
    assert [request.model_version for request in peer.calls] == ["2", "2", "2"]


def test_every_call_has_a_deadline(client: Any, peer: Any) -> None:
    client.models()
    client.models(timeout=600)
    client.models(timeout=math.inf)
    first, second, third = peer.timeouts
    assert 0 < first <= 61  # gRPC rounds up
    assert 61 < second <= 601
    assert third is None or third > 1e6


def test_a_deadline_that_passes(client: Any, peer: Any) -> None:
    peer.delay = 60.0
    timeout = 0.25
    while not peer.calls:  # it may pass before anything is sent
        timeout *= 2
        with pytest.raises(sigmax.DeadlineExceeded) as caught:
            client.models(timeout=timeout)
    assert "Deadline Exceeded" in str(caught.value)
    with pytest.raises(sigmax.DeadlineExceeded, match="the timeout of 0 s has passed"):
        client.models(timeout=0)
    assert len(peer.calls) == 1


def test_a_call_under_way_when_its_client_is_closed(peer: Any) -> None:
    peer.delay = 60.0
    client = sigmax.Client(peer.address, timeout=60.0)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.models)
        until_called(peer)
        client.close()
        with pytest.raises(sigmax.Cancelled):
            call.result(60)


def test_a_task_that_awaits_an_answer_when_its_client_is_closed(peer: Any) -> None:
    peer.delay = 60.0

    async def close_meanwhile() -> None:
        client = sigmax.AsyncClient(peer.address, timeout=60.0)
        call = asyncio.create_task(client.models())
        await asyncio.to_thread(until_called, peer)
        await client.close()
        with pytest.raises(sigmax.Cancelled, match="the client is closed"):
            await call
        assert not call.cancelled()

    asyncio.run(close_meanwhile())


def test_a_task_that_is_cancelled_is_cancelled(peer: Any) -> None:
    peer.delay = 60.0

    async def cancel() -> None:
        async with sigmax.AsyncClient(peer.address, timeout=60.0) as client:
            call = asyncio.create_task(client.models())
            await asyncio.to_thread(until_called, peer)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(cancel())


def until_called(peer: Any) -> None:
    """Wait until a request has come."""
    patience = time.monotonic() + 60
    while not peer.calls:
        assert time.monotonic() < patience


def test_models_and_their_descriptions(client: Any) -> None:
    (summary,) = client.models()
    assert (summary.name, summary.task) == ("animal", "multiclass")
    assert summary.versions == (
        sigmax.ModelVersion("2", "ready", ""),
        sigmax.ModelVersion("1", "unavailable", "its file is broken"),
    )
    model = client.model("animal")
    assert model.inputs == (sigmax.TensorSpec("x", "FP32", (-1, 3), "three scores"),)
    assert model.labels == ("bird", "mammal", "reptile")
    assert (model.version, model.device, model.max_batch_size) == ("2", "cpu", 64)
    assert model.device_reason == "no GPU works"
    with pytest.raises(sigmax.ModelNotFound, match="no model is named 'plant'"):
        client.model("plant")


def test_a_stream_pairs_answers_with_keys(client: Any, peer: Any) -> None:
    items = [("a", ROW), ("b", [ROW, ROW]), (3, [1, 2]), ("a", [0, 0, 1])]
    answers = list(client.classify_stream("animal", items))
    assert sorted(str(key) for key, _ in answers) == ["3", "a", "a", "b"]
    errors = {key: value for key, value in answers if isinstance(value, sigmax.SigmaxError)}
    assert (errors["b"].code, errors["b"].reason) == ("INVALID_ARGUMENT", "BATCH_SIZE")
    assert isinstance(errors["b"], sigmax.InvalidInput)
    assert "got [2]" in str(errors[3])  # refused before it was sent
    labels = [value.label for key, value in answers if key == "a"]
    assert labels == ["reptile", "mammal"]  # the second has overtaken the first


def test_a_stream_ends_with_what_its_items_raise(client: Any) -> None:
    def items() -> Iterator[tuple[int, list[float]]]:
        yield 1, ROW
        raise KeyError("the caller's own")

    answers = client.classify_stream("animal", items())
    assert next(answers)[1].label == "mammal"
    with pytest.raises(KeyError, match="the caller's own"):
        next(answers)


def test_a_stream_that_fails_as_a_whole(client: Any, peer: Any) -> None:
    client.model("animal")
    answers = client.classify_stream("animal", FailsWhenRead(peer))
    with pytest.raises(sigmax.Unavailable):
        next(answers)


class FailsWhenRead:
    """Items that have the peer fail as soon as the first is asked for."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def __iter__(self) -> Iterator[tuple[int, list[float]]]:
        self._peer.failures.append(self._peer.failure(CODE.UNAVAILABLE))
        yield 1, ROW


def test_waiting_for_a_server_that_comes_and_goes(client: Any, peer: Any) -> None:
    peer.health.clear()
    peer.health.extend([["NOT_SERVING", "UNKNOWN"], ["SERVICE_UNKNOWN", "SERVING"]])
    client.wait_until_ready(60.0, model="animal")
    assert [request.service for request in peer.calls] == ["animal", "animal"]


def test_waiting_ends(client: Any, peer: Any) -> None:
    peer.health[0] = ["NOT_SERVING"]
    timeout, said = 0.2, "no answer"
    while "no answer" in said:  # it may pass before there is one
        timeout *= 2
        with pytest.raises(sigmax.DeadlineExceeded) as caught:
            client.wait_until_ready(timeout, model="animal")
        said = str(caught.value)
    assert said == f"model 'animal' was not ready within {timeout:g} s; last seen: NOT_SERVING"


def test_waiting_for_a_server_that_is_not_running_yet(
    make: Any, peer: Any, free_address: str
) -> None:
    client, server = make(free_address), peer.server()

    def start() -> None:
        server.add_insecure_port(free_address)
        server.start()

    starter = threading.Timer(0.3, start)
    starter.start()
    client.wait_until_ready(60.0)
    starter.join()
    server.stop(None).wait()


def test_nobody_there(make: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and never listens
        client = make(f"127.0.0.1:{probe.getsockname()[1]}", retries=1)
        with pytest.raises(sigmax.Unavailable, match="refused"):
            client.models()
        with pytest.raises(sigmax.DeadlineExceeded, match=r"the server .* (refused|no answer)"):
            client.wait_until_ready(0.2)
