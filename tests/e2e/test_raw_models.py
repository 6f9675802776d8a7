"""Models without classes, or without rows, are served as they are."""

import numpy as np
import pytest
import sigmax
from support.server import Server
from support.wire import Refusal, Tensor, classify, infer, refusal

ROW = Tensor.of("x", [[1.0, 2.0, 3.0]])
NO_TASK = "model 'linear' declares no task, so its output is no classification; use ModelInfer"
NO_ROWS = "model 'unbatched' has no batch axis, so it has no rows; use ModelInfer"


def test_classify_needs_a_task(server: Server) -> None:
    expected = Refusal("FAILED_PRECONDITION", NO_TASK, "NOT_A_CLASSIFIER", {}, None)
    assert refusal(lambda: classify(server, "linear", ROW)) == expected
    with pytest.raises(sigmax.NotSupported, match="declares no task"):
        server.client.classify("linear", [1.0, 2.0, 3.0])
    assert infer(server, "linear", ROW)[0].shape == (1, 2)


def test_classify_needs_a_batch_axis(server: Server) -> None:
    scores = Tensor.of("x", [1.0, 2.0, 3.0])
    expected = Refusal("FAILED_PRECONDITION", NO_ROWS, "NOT_A_CLASSIFIER", {}, None)
    assert refusal(lambda: classify(server, "unbatched", scores)) == expected
    assert server.client.model("unbatched").max_batch_size == 0
    [answer] = infer(server, "unbatched", scores)
    assert answer.shape == (3,)
    exponents = np.exp([1.0, 2.0, 3.0])
    assert answer.array == pytest.approx(exponents / exponents.sum(), abs=1e-6)


def test_a_shape_without_a_batch_axis_is_exact(server: Server) -> None:
    found = refusal(lambda: infer(server, "unbatched", ROW))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "SHAPE_MISMATCH")
    assert found.message == (
        "[request id: <id_unknown>] unexpected shape for input 'x' for model 'unbatched'. Expected "
        "[3], got [1,3]. "
    )


def test_several_inputs_and_outputs_of_different_dtypes(server: Server) -> None:
    x = Tensor.of("x", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    flags = Tensor.of("flags", [[True, False, True], [False, False, True]], np.bool_)
    total, others = infer(server, "pair", x, flags)
    assert (total.name, total.dtype, others.name, others.dtype) == ("sum", "FP32", "others", "BOOL")
    assert total.array.tolist() == [[2.0, 2.0, 4.0], [4.0, 5.0, 7.0]]
    assert others.array.tolist() == [[False, True, False], [True, True, False]]
