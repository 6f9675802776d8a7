"""ModelStatistics: exact counters, which are counted before the answer is sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, classify, infer, infer_request, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = np.zeros((1, 5))


def statistics(server: Server, name: str, version: str = "") -> Any:
    request = service_pb2.ModelStatisticsRequest(name=name, version=version)
    [found] = triton(server).ModelStatistics(request, timeout=60).model_stats
    return found


@pytest.fixture
def own(serve: Serve, tmp_path: Path) -> Server:
    files.save(files.softmax(), tmp_path, "softmax")
    return serve(tmp_path, "--shards=2")


def test_every_request_is_counted_before_its_answer(own: Server) -> None:
    for count in range(1, 30):
        infer(own, "softmax", Tensor.of("x", ROW))
        found = statistics(own, "softmax", "1")
        assert (found.name, found.version) == ("softmax", "1")
        assert found.inference_stats.success.count == found.inference_count == count
        assert found.execution_count == count
    for part in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(found.inference_stats, part).count == count
    assert found.inference_stats.compute_infer.ns > 0
    assert found.inference_stats.success.ns > found.inference_stats.compute_infer.ns
    assert found.inference_stats.fail.count == 0
    assert found.last_inference > 1_600_000_000_000


def test_rows_batches_and_failures_are_told_apart(own: Server) -> None:
    infer(own, "softmax", Tensor.of("x", np.zeros((7, 5))))
    classify(own, "softmax", Tensor.of("x", np.zeros((2, 5))))
    bad = Tensor.of("x", np.zeros((1, 4)))
    for _ in range(3):
        refusal(lambda: infer(own, "softmax", bad))
    found = statistics(own, "softmax")
    assert (found.inference_count, found.execution_count) == (9, 2)
    assert found.inference_stats.success.count == found.inference_stats.queue.count == 2
    assert found.inference_stats.fail.count == 3
    sizes = {batch.batch_size: batch.compute_infer.count for batch in found.batch_stats}
    assert sizes == {2: 1, 7: 1}


def test_what_runs_at_once_adds_up(own: Server) -> None:
    request = infer_request("softmax", Tensor.of("x", ROW))
    calls = [triton(own).ModelInfer.future(request, timeout=60) for _ in range(300)]
    for call in calls:
        call.result()
    stream = triton(own).ModelStreamInfer(iter([request] * 100), timeout=60)
    assert len(list(stream)) == 100
    found = statistics(own, "softmax")
    assert found.inference_count == found.inference_stats.success.count == 400
    rows = sum(batch.batch_size * batch.compute_infer.count for batch in found.batch_stats)
    runs = sum(batch.compute_infer.count for batch in found.batch_stats)
    assert (rows, runs) == (400, found.execution_count)


def test_every_version_has_its_own(serve: Serve, tmp_path: Path) -> None:
    for version in (1, 10):
        files.save(files.softmax(), tmp_path, "softmax", version)
    (tmp_path / "softmax/config.pbtxt").write_text("version_policy { all { } }")
    server = serve(tmp_path)
    for asked in ("1", "10", "", "99"):
        request = infer_request("softmax", Tensor.of("x", ROW), model_version=asked)
        triton(server).ModelInfer.future(request, timeout=60).exception()
    request = service_pb2.ModelStatisticsRequest(name="softmax")
    found = triton(server).ModelStatistics(request, timeout=60).model_stats
    counts = [(each.version, each.inference_count) for each in found]
    assert counts == [("1", 1), ("10", 2)]
    assert statistics(server, "softmax", "10").inference_count == 2


def test_a_request_without_a_batch_axis_is_one_inference(serve: Serve, tmp_path: Path) -> None:
    files.save(files.any_length(), tmp_path, "any-length")
    server = serve(tmp_path)
    infer(server, "any-length", Tensor.of("x", np.zeros((2, 64))))
    found = statistics(server, "any-length")
    assert (found.inference_count, found.execution_count) == (1, 1)


def test_what_is_cancelled_is_no_success(serve: Serve, tmp_path: Path) -> None:
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(6))
    server = serve(tmp_path, "--shards=1")
    send = triton(server).ModelInfer.future
    request = infer_request("m", Tensor.of("x", [[0]]))
    first, *gone = [send(request, timeout=60) for _ in range(5)]
    server.until_queued(5, "m")
    for call in gone:
        call.cancel()
    server.until(4, "sigmax_refused_total", model="m", reason="cancelled")
    # Enough by itself to open the gate.
    infer(server, "m", Tensor.of("x", np.zeros((6, 1))))
    assert first.result().model_name == "m"
    found = statistics(server, "m")
    assert found.inference_count == 1 + 6
    assert found.inference_stats.success.count == found.inference_stats.queue.count == 2


def test_no_name_is_every_model(server: Server) -> None:
    reply = triton(server).ModelStatistics(service_pb2.ModelStatisticsRequest(), timeout=60)
    assert {model.name for model in reply.model_stats} >= {"softmax", "simple", "scalar"}


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("fish", "", "requested model 'fish' is not available"),
        ("softmax", "9", "requested model version is not available for model 'softmax'"),
        ("softmax", "x", "failed to get model version from specified version string 'x'"),
    ],
)
def test_what_is_not_there_is_named(server: Server, name: str, version: str, message: str) -> None:
    call: Callable[[], Any] = lambda: statistics(server, name, version)  # noqa: E731
    found = refusal(call)
    assert found.code == "INVALID_ARGUMENT"
    assert found.message.startswith(message)
