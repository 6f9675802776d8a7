"""A stream of many requests: answers carry ids, and an error affects its request alone."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np
import sigmax
from sigmax.v1 import classifier_pb2 as pb
from support.server import Server
from support.wire import Tensor, classify_request, refusal, typed

INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION = 3, 5, 9


def request(id: str, model: str, *tensors: Tensor) -> pb.ClassifyStreamRequest:  # noqa: A002
    return pb.ClassifyStreamRequest(id=id, request=classify_request(model, *tensors))


def one_hot(number: int) -> Tensor:
    return Tensor.of("x", 5 * np.eye(5)[[number % 5]])


def test_every_request_is_answered_by_its_id(server: Server) -> None:
    requests = [request(f"id-{n}", "softmax", one_hot(n)) for n in range(500)]
    replies = {r.id: r for r in typed(server).ClassifyStream(iter(requests), timeout=60)}
    assert len(replies) == 500
    for number in range(500):
        [row] = replies[f"id-{number}"].response.rows
        assert row.decision[0].index == number % 5


def test_an_error_hits_its_request_alone(server: Server) -> None:
    requests = [
        request("good", "softmax", one_hot(1)),
        request("short", "softmax", Tensor("x", "FP32", (1, 4), bytes(16))),
        request("fish", "fish", one_hot(1)),
        request("linear", "linear", Tensor.of("x", [[1.0, 2.0, 3.0]])),
        request("index", "embedding", Tensor.of("x", [[0, 1, 2, 10]], np.int64)),
        request("", "softmax", one_hot(2)),
        pb.ClassifyStreamRequest(id="empty"),
    ]
    replies = {r.id: r for r in typed(server).ClassifyStream(iter(requests), timeout=60)}
    assert len(replies) == len(requests)
    assert replies["good"].response.rows[0].decision[0].label == "b"
    assert replies[""].response.rows[0].decision[0].label == "c"
    errors = {i: (r.error.code, r.error.reason) for i, r in replies.items() if r.error.code}
    assert errors == {
        "short": (INVALID_ARGUMENT, "SHAPE_MISMATCH"),
        "fish": (NOT_FOUND, "UNKNOWN_MODEL"),
        "linear": (FAILED_PRECONDITION, "NOT_A_CLASSIFIER"),
        "index": (INVALID_ARGUMENT, "VALUES_REFUSED"),
        "empty": (NOT_FOUND, "UNKNOWN_MODEL"),
    }
    assert replies["short"].error.message == (
        "input 'x' of model 'softmax': expected shape [-1, 5], got [1, 4]"
    )


def test_answers_come_before_the_half_close(server: Server) -> None:
    to_send: SimpleQueue[pb.ClassifyStreamRequest | None] = SimpleQueue()
    replies = typed(server).ClassifyStream(iter(to_send.get, None), timeout=60)
    for number in range(3):
        to_send.put(request(str(number), "softmax", one_hot(number)))
        reply = next(replies)
        assert (reply.id, reply.response.rows[0].decision[0].index) == (str(number), number)
    to_send.put(None)
    assert list(replies) == []


def test_an_empty_stream_ends_at_once(server: Server) -> None:
    nothing: list[pb.ClassifyStreamRequest] = []
    assert list(typed(server).ClassifyStream(iter(nothing), timeout=60)) == []


def test_two_requests_may_have_one_id(server: Server) -> None:
    requests = [request("same", "softmax", one_hot(n)) for n in (1, 3)]
    replies = list(typed(server).ClassifyStream(iter(requests), timeout=60))
    assert [reply.id for reply in replies] == ["same", "same"]
    assert {reply.response.rows[0].decision[0].index for reply in replies} == {1, 3}


def test_a_caller_who_leaves_harms_nobody(server: Server) -> None:
    def endless() -> Iterator[pb.ClassifyStreamRequest]:
        while True:
            yield request("again", "softmax", one_hot(1))

    call = typed(server).ClassifyStream(endless(), timeout=60)
    assert next(call).id == "again"
    call.cancel()
    assert server.client.classify("softmax", [0.0, 0.0, 0.0, 0.0, 1.0]).label == "e"


def test_bytes_that_are_no_request_end_the_stream(server: Server) -> None:
    stream: Any = server.channel.stream_stream("/sigmax.v1.ClassifierService/ClassifyStream")
    found = refusal(lambda: list(stream(iter([b"\xff\xff\xff"]), timeout=60)))
    assert found.code in ("INTERNAL", "INVALID_ARGUMENT")
    assert "decod" in found.message


def test_the_sdks_stream_gives_every_key_its_result(server: Server) -> None:
    items = [(number, 5 * np.eye(5)[number % 5]) for number in range(200)]
    answers = dict(server.client.classify_stream("softmax", items))
    assert sorted(answers) == list(range(200))
    for key, result in answers.items():
        assert isinstance(result, sigmax.Result)
        assert result.best.index == key % 5


def test_the_sdks_asyncio_stream_does_as_well(server: Server) -> None:
    async def ask() -> dict[str, sigmax.Result | sigmax.SigmaxError]:
        async def items() -> AsyncIterator[tuple[str, list[float]]]:
            yield "good", [1.0, 0.0, 0.0, 0.0, 0.0]
            yield "short", [1.0]

        async with sigmax.AsyncClient(server.grpc, timeout=60) as client:
            return {key: got async for key, got in client.classify_stream("softmax", items())}

    answers = asyncio.run(ask())
    assert isinstance(answers["good"], sigmax.Result)
    assert answers["good"].label == "a"
    assert isinstance(answers["short"], sigmax.InvalidInput)
    assert "got [1]" in str(answers["short"])
