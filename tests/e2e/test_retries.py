"""The retries built into gRPC's libraries, which obey the time that the server names (gRFC A6)."""

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sigmax
from support import files
from support.server import Serve, Server
from support.wire import SERVICES, Tensor, classify_request, infer_request

ATTEMPTS = 4
PATHS = {
    "sigmax": "/sigmax.v1.ClassifierService/Classify",
    "inference": "/inference.GRPCInferenceService/ModelInfer",
}
REQUESTS: Any = {"sigmax": classify_request, "inference": infer_request}


def retried(server: Server, service: str, request: Any, backoff: str) -> grpc.StatusCode:
    """The end of a call that gRPC itself retries, after `backoff` where the server says nothing."""
    policy = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": backoff,
        "maxBackoff": backoff,
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with grpc.insecure_channel(server.grpc, [("grpc.service_config", config)]) as channel:
        call: Any = channel.unary_unary(PATHS[service])
        with pytest.raises(grpc.RpcError) as failed:
            call(request.SerializeToString(), timeout=60)
    code: grpc.StatusCode = failed.value.code()
    return code


def refused(server: Server, model: str) -> float:
    codes = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    return sum(server.metric("sigmax_requests_total", model=model, code=code) for code in codes)


@pytest.mark.parametrize("service", SERVICES)
def test_a_call_is_tried_again_when_the_server_says(
    tmp_path: Path, serve: Serve, service: str
) -> None:
    """Without the server's word the client would wait for an hour, and reach its deadline."""
    policy = "default_queue_policy { max_queue_size: 1 }"
    files.configured(tmp_path, "m", files.sigmoid(), files.gated(3, policy))
    server = serve(tmp_path, "--shards=1")
    request = REQUESTS[service]("m", Tensor.of("x", [[0]]))
    call: Any = server.channel.unary_unary(PATHS[service])
    waits = call.future(request.SerializeToString(), timeout=60)
    server.until_queued(1, "m")
    code = retried(server, service, request, "3600s")
    expected = "RESOURCE_EXHAUSTED" if service == "sigmax" else "UNAVAILABLE"
    assert (code.name, refused(server, "m")) == (expected, ATTEMPTS)
    waits.cancel()


@pytest.mark.parametrize("service", SERVICES)
def test_a_call_that_cannot_succeed_is_not_tried_again(
    tmp_path: Path, serve: Serve, service: str
) -> None:
    files.save(files.sigmoid(), tmp_path, "m")
    server = serve(tmp_path, "--max-message-bytes=1000")
    request = REQUESTS[service]("m", Tensor.of("x", np.zeros((1000, 1))))
    code = retried(server, service, request, "0.001s")
    assert (code.name, refused(server, "")) == ("RESOURCE_EXHAUSTED", 1)


def test_the_sdk_asks_a_model_that_has_failed_once(tmp_path: Path, serve: Serve) -> None:
    """Its failure lasts until somebody loads it anew, so the call does not use its hour up."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    server = serve(tmp_path / "broken.onnx")
    with sigmax.Client(server.grpc, timeout=3600) as client:
        with pytest.raises(sigmax.Unavailable, match="is not ready") as caught:
            client.classify("broken", [0.0])
        assert caught.value.is_final
