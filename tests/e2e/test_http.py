"""The HTTP port for operators."""

from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import files
from support.server import Serve, Server
from support.wire import Tensor, classify, infer, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

TWO_ROWS = Tensor.of("x", np.zeros((2, 5)))


def test_metrics_count_every_request_at_once(serve: Serve, tmp_path: Path) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    server = serve(tmp_path)
    for number in range(1, 8):
        classify(server, "softmax", TWO_ROWS)
        count = server.metric("sigmax_requests_total", model="softmax", version="1", code="OK")
        assert count == number
    for _ in range(3):
        infer(server, "softmax", TWO_ROWS)
    refusal(lambda: infer(server, "softmax", Tensor.of("x", [[0.0]])))
    refusal(lambda: infer(server, "fish", TWO_ROWS))

    def requests(**labels: str) -> float:
        return server.metric("sigmax_requests_total", **labels)

    assert requests(model="softmax", code="OK") == 10
    assert requests(model="softmax", code="INVALID_ARGUMENT") == 1
    assert requests(code="NOT_FOUND") == 1
    assert requests() == 12
    for histogram in ("sigmax_queue_seconds", "sigmax_compute_seconds", "sigmax_batch_rows"):
        assert server.metric(f"{histogram}_count", model="softmax") == 10
    assert server.metric("sigmax_batch_rows_sum", model="softmax") == 20
    request = service_pb2.ModelStatisticsRequest(name="softmax")
    [found] = triton(server).ModelStatistics(request, timeout=60).model_stats
    parts = ("compute_input", "compute_infer", "compute_output")
    nanoseconds = sum(getattr(found.inference_stats, part).ns for part in parts)
    seconds = server.metric("sigmax_compute_seconds_sum", model="softmax")
    assert seconds == pytest.approx(nanoseconds / 1e9, rel=1e-6)
    assert server.metric("sigmax_request_seconds_count", model="softmax") == 11
    assert server.metric("sigmax_ready") == 1
    assert server.metric("sigmax_queued_rows") == 0


def test_metrics_are_text_that_prometheus_reads(server: Server) -> None:
    classify(server, "softmax", TWO_ROWS)
    status, text = server.get("/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text))
    assert {(family.name, family.type) for family in families} == {
        ("sigmax_ready", "gauge"),
        ("sigmax_open_connections", "gauge"),
        ("sigmax_connections", "counter"),
        ("sigmax_connections_refused", "counter"),
        ("sigmax_connections_evicted", "counter"),
        ("sigmax_connections_aged", "counter"),
        ("sigmax_handshakes_late", "counter"),
        ("sigmax_connections_stalled", "counter"),
        ("sigmax_log_lines_dropped", "counter"),
        ("sigmax_message_bytes", "gauge"),
        ("sigmax_message_bytes_limit", "gauge"),
        ("sigmax_queued_rows", "gauge"),
        ("sigmax_requests", "counter"),
        ("sigmax_refused", "counter"),
        ("sigmax_request_seconds", "histogram"),
        ("sigmax_queue_seconds", "histogram"),
        ("sigmax_compute_seconds", "histogram"),
        ("sigmax_batch_rows", "histogram"),
        ("sigmax_model_info", "gauge"),
        ("sigmax_workers", "gauge"),
        ("sigmax_worker_faults", "counter"),
    }
    for family in families:
        assert family.documentation.endswith(".")
        assert family.samples
    assert server.metric("sigmax_open_connections") >= 1


def test_an_unknown_name_makes_no_metric_of_its_own(server: Server) -> None:
    """Else whoever sends random names fills the memory."""
    refusal(lambda: infer(server, "a-fish-nobody-knows", TWO_ROWS))
    assert "a-fish-nobody-knows" not in server.get("/metrics")[1]


def test_liveness_and_readiness(server: Server) -> None:
    assert server.get("/healthz") == (200, "alive\n")
    assert server.get("/readyz") == (200, "ready\n")


def test_other_paths_are_not_found(server: Server) -> None:
    assert server.get("/")[0] == 404
    assert server.get("/metrics/all")[0] == 404
