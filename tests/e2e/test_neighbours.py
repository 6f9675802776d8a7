"""Requests that share a batch do not affect each other."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import sigmax
from support import files
from support.server import Serve, Server
from support.wire import (
    SERVICES,
    Tensor,
    ask,
    classify,
    classify_request,
    infer,
    infer_request,
    outputs,
    read_error,
    refusal,
    triton,
    typed,
)

GOOD = 64


def answers(service: str, server: Server, model: str, requests: list[Tensor]) -> list[Any]:
    """What each of many requests at once gets: an answer or an RpcError."""
    if service == "sigmax":
        send = typed(server).Classify.future
        calls = [send(classify_request(model, t), timeout=60) for t in requests]
    else:
        send = triton(server).ModelInfer.future
        calls = [send(infer_request(model, t), timeout=60) for t in requests]
    return [call.exception() or call.result() for call in calls]


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_culprit_of_a_failed_batch_gets_an_error(
    server: Server, examples: Path, service: str
) -> None:
    session = onnxruntime.InferenceSession(examples / "embedding/1/model.onnx")
    chance = np.random.default_rng(0)
    rows = [chance.integers(0, 10, size=(1, 4)) for _ in range(GOOD)]
    for place in (0, 31, 64):
        tensors = [Tensor.of("x", row, np.int64) for row in rows]
        tensors.insert(place, Tensor.of("x", [[1, 2, 3, 10]], np.int64))
        found = answers(service, server, "embedding", tensors)
        error = read_error(found.pop(place))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "VALUES_REFUSED")
        assert "model 'embedding' does not take these values" in error.message
        for row, answer in zip(rows, found, strict=True):
            [expected] = session.run(None, {"x": row})
            assert probabilities(answer) == pytest.approx(expected[0], abs=0)


def probabilities(answer: Any) -> list[float]:
    if hasattr(answer, "rows"):
        return [c.probability for c in sorted(answer.rows[0].classes, key=lambda c: c.index)]
    values: list[float] = outputs(answer)[0].array[0].tolist()
    return values


def test_what_a_model_refuses_is_in_the_log_and_not_in_the_answer(
    serve: Serve, tmp_path: Path
) -> None:
    files.save(files.embedding(), tmp_path, "embedding")
    server = serve(tmp_path)
    error = refusal(lambda: infer(server, "embedding", Tensor.of("x", [[0, 0, 0, 77]], np.int64)))
    assert "77" not in error.message
    assert "the server's log says more" in error.message
    assert "model=embedding" in server.until_logged("idx=77")


def test_a_division_by_zero_is_its_callers_own_problem(server: Server) -> None:
    by_one, by_zero = Tensor.of("by", [[1, 1]], np.int32), Tensor.of("by", [[1, 0]], np.int32)
    x = Tensor.of("x", [[6, 7]], np.int32)
    send = triton(server).ModelInfer.future
    requests = [infer_request("division", x, by_zero if n % 8 == 0 else by_one) for n in range(64)]
    calls = [send(request, timeout=60) for request in requests]
    for number, call in enumerate(calls):
        if number % 8 == 0:
            error = read_error(call.exception())
            assert (error.code, error.reason) == ("INVALID_ARGUMENT", "VALUES_REFUSED")
        else:
            assert outputs(call.result())[0].array.tolist() == [[6, 7]]


def test_dependent_rows_are_found_out_and_said(server: Server) -> None:
    assert server.client.model("whole-batch").rows_independent is False
    assert server.line("whole-batch").split()[-2:] == ["no", "none"]
    assert server.client.model("softmax").rows_independent is True
    assert server.line("softmax").split()[-2] == "yes"


def test_requests_to_a_model_of_dependent_rows_never_share_a_run(
    server: Server, examples: Path
) -> None:
    session = onnxruntime.InferenceSession(examples / "whole-batch/1/model.onnx")
    chance = np.random.default_rng(1)
    given = [chance.normal(size=(1 + n % 3, 3)).astype(np.float32) for n in range(GOOD)]
    before = server.metric("sigmax_batch_rows_count", model="whole-batch")
    for rows, answer in zip(
        given,
        answers("inference", server, "whole-batch", [Tensor.of("x", rows) for rows in given]),
        strict=True,
    ):
        assert outputs(answer)[0].raw == session.run(None, {"x": rows})[0].tobytes()
    runs = server.metric("sigmax_batch_rows_count", model="whole-batch") - before
    assert runs == GOOD
    [alone] = session.run(None, {"x": given[0]})
    assert classify(server, "whole-batch", Tensor.of("x", given[0])).timings.batch_rows == len(
        alone
    )


def test_a_row_without_a_finite_probability_is_named(server: Server) -> None:
    rows = Tensor.of("x", [[4.0], [-1.0], [9.0]])
    error = refusal(lambda: classify(server, "root", rows))
    message = "model 'root' gives no finite probability for row 1 of input 'x'"
    assert (error.code, error.reason, error.message) == ("INVALID_ARGUMENT", "NOT_FINITE", message)
    assert error.fields == {"inputs[x]": message}
    with pytest.raises(sigmax.InvalidInput, match="for row 0 of input 'x'"):
        server.client.classify("root", [[np.nan]])


def test_model_infer_returns_what_is_not_finite_as_it_is(server: Server) -> None:
    [answer] = infer(server, "root", Tensor.of("x", [[4.0], [-1.0]]))
    assert answer.array[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert np.isnan(answer.array[1, 0])


def test_a_neighbour_without_a_finite_probability_harms_nobody(server: Server) -> None:
    requests = [Tensor.of("x", [[-1.0 if n % 8 == 0 else float(n)]]) for n in range(GOOD)]
    for number, answer in enumerate(answers("sigmax", server, "root", requests)):
        if number % 8 == 0:
            assert read_error(answer).reason == "NOT_FINITE"
        else:
            assert answer.rows[0].decision[0].label == "yes"


def test_bad_and_good_requests_at_once_get_what_each_deserves(server: Server) -> None:
    row, short = Tensor.of("x", np.zeros((1, 5))), Tensor("x", "FP32", (1, 5), bytes(19))

    def one(number: int) -> str:
        bad = number % 2 == 1
        service = SERVICES[number % 4 // 2]
        if bad:
            return refusal(lambda: ask(service, server, "softmax", short)).reason
        ask(service, server, "softmax", row)
        return ""

    with ThreadPoolExecutor(8) as pool:
        futures: list[Future[str]] = [pool.submit(one, number) for number in range(100)]
        reasons = [future.result() for future in futures]
    assert reasons == ["", "BYTE_SIZE_MISMATCH"] * 50
