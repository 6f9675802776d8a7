"""ModelStreamInfer: requests run concurrently, answers are in order, errors are messages."""

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer_request, read_error, refusal, triton


def request(row: int, **options: Any) -> Any:
    x = Tensor.of("x", np.full((1, 1, 2), row), np.int32)
    return infer_request("identity-int32", x, id=str(row), **options)


def values(reply: Any) -> list[int]:
    return list(np.frombuffer(reply.infer_response.raw_output_contents[0], np.int32))


def test_answers_come_in_order_and_the_stream_ends(server: Server) -> None:
    requests = [request(row) for row in range(200)]
    for asks_for_more in requests[::2]:
        # Only a decoupled model has an empty answer to add.
        asks_for_more.parameters["triton_enable_empty_final_response"].bool_param = True
    replies = list(triton(server).ModelStreamInfer(iter(requests), timeout=60))
    assert [values(reply) for reply in replies] == [[row, row] for row in range(200)]
    assert [reply.infer_response.id for reply in replies] == [str(row) for row in range(200)]
    for reply in replies:
        assert reply.infer_response.parameters["triton_final_response"].bool_param
        assert reply.error_message == ""


def test_an_error_is_a_message_and_the_stream_goes_on(server: Server) -> None:
    bad = request(2)
    bad.inputs[0].shape[2] = 3
    replies = list(triton(server).ModelStreamInfer(iter([request(1), bad, request(3)]), timeout=60))
    assert [reply.infer_response.id for reply in replies] == ["1", "2", "3"]
    assert [values(replies[0]), values(replies[2])] == [[1, 1], [3, 3]]
    assert replies[1].error_message.startswith("[request id: 2] input byte size mismatch")
    assert not replies[1].infer_response.outputs


def test_an_error_ends_the_stream_where_the_client_wants_a_status(server: Server) -> None:
    bad = request(2)
    bad.model_name = "fish"
    metadata = (("triton_grpc_error", "true"),)
    stream = triton(server).ModelStreamInfer(iter([request(1), bad]), metadata=metadata, timeout=60)
    assert values(next(stream)) == [1, 1]
    with pytest.raises(grpc.RpcError) as raised:
        next(stream)
    found = read_error(raised.value)
    assert (found.code, found.message) == (
        "NOT_FOUND",
        "Request for unknown model: 'fish' is not found",
    )


def test_headers_come_before_any_request(server: Server) -> None:
    over = threading.Event()

    def nothing() -> Iterator[Any]:
        assert over.wait(timeout=60)
        yield from ()

    stream = triton(server).ModelStreamInfer(nothing(), timeout=60)
    # Blocks until they are there.
    assert stream.initial_metadata() is not None
    assert not stream.done()
    over.set()
    assert list(stream) == []
    assert stream.code() == grpc.StatusCode.OK


def test_requests_of_one_stream_share_batches(tmp_path: Path, serve: Serve) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(50))
    server = serve(tmp_path, "--shards=1")
    requests = [infer_request("m", Tensor.of("x", [[row]])) for row in range(50)]
    assert len(list(triton(server).ModelStreamInfer(iter(requests), timeout=60))) == 50
    assert server.metric("sigmax_batch_rows_count", model="m") == 1


def test_a_stream_answers_before_it_is_half_closed(server: Server) -> None:
    answered = threading.Semaphore(1)

    def one_by_one() -> Iterator[Any]:
        for row in range(5):
            assert answered.acquire(timeout=60)
            yield request(row)

    for row, reply in enumerate(triton(server).ModelStreamInfer(one_by_one(), timeout=60)):
        assert values(reply) == [row, row]
        answered.release()


def test_a_cancelled_stream_leaves_nothing_behind(server: Server) -> None:
    stream = triton(server).ModelStreamInfer(map(request, itertools.count()), timeout=60)
    assert values(next(stream)) == [0, 0]
    stream.cancel()
    reply = next(triton(server).ModelStreamInfer(iter([request(7)]), timeout=60))
    assert values(reply) == [7, 7]


def test_what_a_cancelled_stream_has_asked_is_not_run(tmp_path: Path, serve: Serve) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(21))
    server = serve(tmp_path, "--shards=1")
    one = infer_request("m", Tensor.of("x", [[0]]))
    stream = triton(server).ModelStreamInfer(iter([one] * 20), timeout=60)
    server.until_queued(20, "m")
    stream.cancel()
    server.until(20, "sigmax_refused_total", model="m", reason="cancelled")
    many = infer_request("m", Tensor.of("x", np.zeros((21, 1))))
    assert triton(server).ModelInfer(many, timeout=60).model_name == "m"
    assert server.metric("sigmax_batch_rows_sum", model="m") == 21


def test_a_server_that_ends_says_so_to_an_idle_stream(tmp_path: Path, serve: Serve) -> None:
    files.save(files.identity("INT32"), tmp_path, "identity-int32")
    server = serve(tmp_path)
    over = threading.Event()

    def one_and_no_end() -> Iterator[Any]:
        yield request(1)
        assert over.wait(timeout=60)

    stream = triton(server).ModelStreamInfer(one_and_no_end(), timeout=60)
    assert values(next(stream)) == [1, 1]
    server.process.send_signal(signal.SIGTERM)
    found = refusal(lambda: next(stream))
    over.set()
    assert (found.code, found.message) == (
        "UNAVAILABLE",
        "GRPC server is shutting down and has stopped accepting new requests.",
    )
