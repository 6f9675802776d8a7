"""A caller's deadline is told as one, frees its place, and is nobody else's."""

from pathlib import Path
from urllib.parse import unquote

import grpc
import pytest
from support import files
from support.http2 import Connection
from support.server import Serve
from support.wire import Tensor, infer_request, outputs, triton


@pytest.mark.slow
def test_a_deadline_in_the_queue_is_told_as_one_and_leaves_the_queue(
    tmp_path: Path, serve: Serve
) -> None:
    """By a client that keeps no time itself, so that it is the server that says it."""
    files.save(files.slow(300), tmp_path, "slow")
    server = serve(tmp_path, "--shards=1", "--max-batch-size=1")
    request = infer_request("slow", Tensor.of("x", [[0]]))
    busy = []
    while not server.metric("sigmax_queued_rows", model="slow"):
        busy.append(triton(server).ModelInfer.future(request, timeout=60))
    with Connection(server) as wire:
        trailers = dict(wire.infer(request, ("grpc-timeout", "20m")))
    assert trailers["grpc-status"] == "4"
    # What the server expects the wait to be follows, where it knows that at once.
    assert unquote(trailers["grpc-message"]).startswith("Deadline Exceeded")
    assert {call.code() for call in busy} == {grpc.StatusCode.OK}
    assert server.metric("sigmax_batch_rows_count", model="slow") == len(busy)


@pytest.mark.slow
def test_one_callers_deadline_is_not_anothers(tmp_path: Path, serve: Serve) -> None:
    files.save(files.slow(), tmp_path, "slow")
    server = serve(tmp_path, "--shards=1")
    request = infer_request("slow", Tensor.of("x", [[0]]))
    stub = triton(server)
    first = stub.ModelInfer.future(request, timeout=60)
    hasty = [stub.ModelInfer.future(request, timeout=0.05) for _ in range(5)]
    patient = [stub.ModelInfer.future(request, timeout=60) for _ in range(5)]
    cancelled = stub.ModelInfer.future(request, timeout=60)
    cancelled.cancel()
    assert {call.code() for call in (first, *patient)} == {grpc.StatusCode.OK}
    late = {call.code() for call in hasty}
    assert late <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    for call in patient:
        [answer] = outputs(call.result())
        assert answer.array.tolist() == [[0.5]]
