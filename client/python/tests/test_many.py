"""`classify_many`: rows of any iterable, in batches under way together, answered in order."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest
import sigmax
from grpc_status import rpc_status  # type: ignore[import-untyped]
from sigmax._many import default_size
from sigmax.v1 import classifier_pb2 as pb

ROWS = np.random.default_rng(0).dirichlet(np.ones(3), 200).astype(np.float32)

FIRST = ROWS[0].tobytes()


def labels(answers: Any) -> list[str]:
    return [answer.label for answer in answers]


def expected(rows: Any) -> list[str]:
    return [["bird", "mammal", "reptile"][int(np.argmax(row))] for row in rows]


def sizes(peer: Any) -> list[int]:
    """The rows of each request that came, the most first."""
    calls = [call for call in peer.calls if isinstance(call, pb.ClassifyRequest)]
    return sorted((call.inputs[0].shape[0] for call in calls), reverse=True)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS.astype(np.float64),
        list(ROWS),
        ROWS.tolist(),
        {"x": ROWS},
        [{"x": row} for row in ROWS],
        [row[np.newaxis] for row in ROWS],
    ],
    ids=["array", "other-dtype", "arrays", "lists", "dict", "dicts", "batches-of-one"],
)
def test_rows_of_every_kind_are_answered_in_order(client: Any, peer: Any, rows: Any) -> None:
    answers = list(client.classify_many("animal", rows, batch_size=64))
    assert labels(answers) == expected(ROWS)
    assert np.array_equal([answer.probabilities for answer in answers], ROWS)
    assert sizes(peer) == [64, 64, 64, 8]


def test_a_generator_of_no_rows_asks_nothing(client: Any, peer: Any) -> None:
    assert list(client.classify_many("animal", iter([]))) == []
    assert sizes(peer) == []


def test_options_are_those_of_classify(client: Any, peer: Any) -> None:
    [answer] = client.classify_many("animal", ROWS[:1], top_k=1, return_probabilities=False)
    assert len(answer.classes) == 1
    with pytest.raises(ValueError, match="not asked for"):
        _ = answer.probabilities


def test_a_buffer_that_is_filled_again_is_sent_as_it_was(client: Any) -> None:
    def rows() -> Iterator[Any]:
        buffer = np.empty(3, np.float32)
        for row in ROWS:
            buffer[:] = row
            yield buffer

    assert labels(client.classify_many("animal", rows())) == expected(ROWS)


@pytest.mark.parametrize("as_array", [False, True])
def test_rows_that_do_not_fit_fail_alone(client: Any, peer: Any, as_array: bool) -> None:
    peer.described.inputs[0].dtype = pb.DATA_TYPE_UINT8
    rows: Any = [[0, 1, 2], [0, 0.5, 0], [1, 2, 3], [0, 0, 300]]
    if not as_array:
        rows += [[1, 2], "so", [[1, 2, 3]] * 2, [4, 5, 6]]
    answers = list(client.classify_many("animal", np.array(rows) if as_array else rows))
    bad = [n for n, answer in enumerate(answers) if isinstance(answer, sigmax.SigmaxError)]
    assert bad == ([1, 3] if as_array else [1, 3, 4, 5, 6])
    assert len(answers) == len(rows)
    assert "0.5" in str(answers[1])
    assert all(isinstance(answers[n], sigmax.InvalidInput) for n in bad)
    assert sizes(peer) == [len(rows) - len(bad)]


def test_a_row_is_converted_without_regard_to_its_neighbours(client: Any) -> None:
    rows = [[0.5, 0.25, 0.25], [16_777_217, 0, 0]]
    first, second = client.classify_many("animal", rows)
    assert first.label == "bird"
    assert "16777217" in str(second)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_a_row_that_the_server_refuses_fails_alone(
    client: Any, peer: Any, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    refuse(peer, monkeypatch, "VALUES_REFUSED")
    rows = ROWS[:20].copy()
    rows[[3, 11, 12]] = -1
    answers = list(client.classify_many("animal", rows, batch_size=batch_size))
    for number, answer in enumerate(answers):
        if number in (3, 11, 12):
            assert isinstance(answer, sigmax.InvalidInput)
            assert answer.reason == "VALUES_REFUSED"
        else:
            assert answer.label == expected(rows)[number]


def test_a_refused_option_is_raised_and_not_traced(
    client: Any, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(peer, monkeypatch, "BAD_FIELD")
    with pytest.raises(sigmax.InvalidInput):
        list(client.classify_many("animal", -ROWS[:8]))
    assert sizes(peer) == [8]


def refuse(peer: Any, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Have the peer refuse all requests with a negative value."""
    enter = peer._enter
    info = peer.ErrorInfo(reason=reason, domain="sigmax")
    status = rpc_status.to_status(peer.failure(grpc.StatusCode.INVALID_ARGUMENT, info))

    def checked(request: Any, context: Any) -> None:
        enter(request, context)
        rows = request.inputs[0].raw if isinstance(request, pb.ClassifyRequest) else b""
        if (np.frombuffer(rows, np.float32) < 0).any():
            context.abort_with_status(status)

    monkeypatch.setattr(peer, "_enter", checked)


def test_few_rows_are_read_ahead(client: Any) -> None:
    read = []

    def rows() -> Iterator[Any]:
        for number, row in enumerate(ROWS):
            read.append(number)
            yield row

    answers = client.classify_many("animal", rows(), batch_size=5, in_flight=3)
    for number, _ in enumerate(answers):
        assert len(read) <= (number // 5 + 3) * 5
    assert len(read) == 200


def test_what_the_iterable_raises_comes_after_the_answers_before_it(client: Any) -> None:
    def rows() -> Iterator[Any]:
        yield from ROWS[:7]
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(client.classify_many("animal", rows(), batch_size=5))  # fills it as it comes
    assert labels(got) == expected(ROWS[:7])


def test_batches_are_under_way_together(client: Any, peer: Any) -> None:
    together = threading.Barrier(3, timeout=60)
    answer = peer.answer
    peer.answer = lambda request: (together.wait(), answer(request))[1]
    answers = client.classify_many("animal", ROWS[:60], batch_size=10, in_flight=3)
    assert labels(answers) == expected(ROWS[:60])


def test_a_batch_is_retried(client: Any, peer: Any) -> None:
    status = peer.failure(grpc.StatusCode.RESOURCE_EXHAUSTED, peer.retry_info(0.001))
    list(client.classify_many("animal", ROWS[:1]))
    peer.failures.extend([status] * 3)
    # The first failure is the description's.
    answers = client.classify_many("animal", ROWS, batch_size=50)
    assert labels(answers) == expected(ROWS)


def test_an_error_of_the_server_ends_the_iteration(client: Any, peer: Any) -> None:
    answers = iter(client.classify_many("animal", ROWS, batch_size=10, in_flight=1))
    next(answers)
    peer.failures.append(peer.failure(grpc.StatusCode.FAILED_PRECONDITION))
    with pytest.raises(sigmax.NotSupported):
        list(answers)
    assert sizes(peer) == [10, 10]


def test_the_timeout_is_each_requests(client: Any, peer: Any) -> None:
    list(client.classify_many("animal", ROWS, timeout=7.0, batch_size=50))
    assert all(left is not None and 0 < left < 8 for left in peer.timeouts)
    peer.delay = 60.0
    with pytest.raises(sigmax.DeadlineExceeded):
        list(client.classify_many("animal", ROWS, timeout=0.2))


def test_a_token_is_renewed(make: Any, peer: Any) -> None:
    tokens = iter(["old", "new"])
    peer.tokens = {"old", "new"}
    client = make(peer.address, token=lambda: next(tokens), timeout=60.0)
    answers = iter(client.classify_many("animal", ROWS, batch_size=50, in_flight=2))
    next(answers)
    peer.tokens = {"new"}
    assert labels(answers) == expected(ROWS[1:])


def test_numbers_are_checked(client: Any) -> None:
    for wrong in ({"batch_size": 0}, {"batch_size": 65}, {"in_flight": 0}):
        with pytest.raises(sigmax.InvalidInput, match=next(iter(wrong))):
            list(client.classify_many("animal", ROWS, **wrong))
    with pytest.raises(sigmax.InvalidInput, match="one text"):
        list(client.classify_many("animal", "so"))
    with pytest.raises(sigmax.InvalidInput, match="as many rows"):
        list(client.classify_many("animal", {"x": ROWS, "y": ROWS[:1]}))


def test_rows_that_depend_on_each_other_go_alone(client: Any, peer: Any) -> None:
    peer.described.rows_independent = False
    list(client.classify_many("animal", ROWS[:5]))
    assert sizes(peer) == [1] * 5


def test_rows_of_other_shapes_go_apart(client: Any, peer: Any) -> None:
    peer.described.inputs[0].shape[1] = -1
    rows = [np.ones(size, np.float32) / size for size in (3, 3, 2, 2, 2, 3)]
    assert len(list(client.classify_many("animal", rows))) == 6
    assert sizes(peer) == [3, 2, 1]


def test_the_default_size(client: Any, peer: Any) -> None:
    model = client.model("animal")
    assert default_size(model) == 64  # the most, for 64 rows of 12 bytes are little
    peer.described.inputs[0].shape[1] = 10_000
    assert default_size(client.model("animal")) == 32  # the preferred one
    peer.described.inputs[0].shape[1] = 400
    assert default_size(client.model("animal")) == 40  # as many as have 64 KiB


class Hanging:
    """Has all requests but that of the first row wait until their caller has gone."""

    def __init__(self, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._enter = peer._enter
        self.came = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)
        monkeypatch.setattr(peer, "_enter", self)

    def __call__(self, request: Any, context: Any) -> None:
        self._enter(request, context)
        rows = request.inputs[0].raw if isinstance(request, pb.ClassifyRequest) else FIRST
        if not rows.startswith(FIRST):
            ended = threading.Event()
            context.add_callback(ended.set)
            self.came.release()
            if ended.wait(60):
                self.gone.release()


def test_closing_cancels_what_is_under_way(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Hanging(peer, monkeypatch)
    with sigmax.Client(peer.address, timeout=math.inf) as client:
        answers = client.classify_many("animal", ROWS, batch_size=10, in_flight=2)
        next(answers)
        assert hanging.came.acquire(timeout=60)
        answers.close()
        assert hanging.gone.acquire(timeout=60)
        assert sizes(peer) == [10, 10]


def test_closing_cancels_under_asyncio_too(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Hanging(peer, monkeypatch)

    async def main() -> None:
        async with sigmax.AsyncClient(peer.address, timeout=math.inf) as client:
            many = client.classify_many("animal", ROWS, batch_size=10, in_flight=2)
            async with aclosing(many) as answers:
                await anext(answers)
                assert await asyncio.to_thread(hanging.came.acquire, timeout=60)
            assert await asyncio.to_thread(hanging.gone.acquire, timeout=60)

    asyncio.run(main())
    assert sizes(peer) == [10, 10]


def test_an_asynchronous_iterable(peer: Any) -> None:
    async def rows() -> AsyncIterator[Any]:
        for row in ROWS:
            yield row
        raise OSError("the disk is gone")

    async def main() -> None:
        async with sigmax.AsyncClient(peer.address, timeout=60.0) as client:
            answers = client.classify_many("animal", rows(), batch_size=7)
            assert labels([await anext(answers) for _ in ROWS]) == expected(ROWS)
            with pytest.raises(OSError, match="the disk is gone"):
                await anext(answers)

    asyncio.run(main())
