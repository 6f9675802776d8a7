"""Elements of every datatype, in every form that a request may have, keep their bytes."""

import struct
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.server import Server
from support.wire import NUMPY, Tensor, infer, infer_request, outputs, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

STRINGS = [b"", b"a\0b", b"\xff\xfe", "Ωmega".encode(), b"x" * 300, b"\0"]
# Where values of a datatype go, and some at its ends.
TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127, -1]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1, -1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1, -1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1, -1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 2**16 - 1]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, float("inf"), -0.0]),
    "FP64": ("fp64_contents", [0.1, float("-inf"), 5e-324]),
}


def strings(values: list[bytes], *shape: int) -> Tensor:
    raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
    return Tensor("x", "BYTES", shape, raw)


def typed_request(tensor: Tensor, field: str, values: list[Any]) -> Any:
    request = infer_request(f"identity-{tensor.dtype.lower()}", tensor)
    del request.raw_input_contents[:]
    getattr(request.inputs[0].contents, field).extend(values)
    return request


def ask(server: Server, request: Any) -> Any:
    return triton(server).ModelInfer(request, timeout=60)


def streamed(server: Server, *requests: Any) -> list[Any]:
    return list(triton(server).ModelStreamInfer(iter(requests), timeout=60))


@pytest.mark.parametrize("dtype", TYPED)
def test_every_form_gives_the_same_bytes(server: Server, dtype: str) -> None:
    field, values = TYPED[dtype]
    raw = np.array(values, NUMPY[dtype]).tobytes()
    tensor = Tensor("x", dtype, (1, 1, len(values)), raw)
    request = infer_request(f"identity-{dtype.lower()}", tensor)
    [by_stream] = streamed(server, request)
    for reply in (
        ask(server, request),
        ask(server, typed_request(tensor, field, values)),
        by_stream.infer_response,
    ):
        assert list(reply.raw_output_contents) == [raw]
        assert not reply.outputs[0].HasField("contents")
        assert (reply.outputs[0].datatype, tuple(reply.outputs[0].shape)) == (dtype, tensor.shape)


@pytest.mark.parametrize(
    ("dtype", "field", "values", "expected"),
    [
        ("INT8", "int_contents", [-129, 300, -1], [127, 44, -1]),
        ("INT16", "int_contents", [-(2**15) - 1, 2**16 + 5, -1], [2**15 - 1, 5, -1]),
        ("UINT8", "uint_contents", [256, 511, 7], [0, 255, 7]),
        ("UINT16", "uint_contents", [2**16, 2**16 + 9, 7], [0, 9, 7]),
    ],
)
def test_narrow_typed_integers_keep_their_low_bytes(
    server: Server, dtype: str, field: str, values: list[int], expected: list[int]
) -> None:
    reply = ask(server, typed_request(Tensor("x", dtype, (1, 1, 3), b""), field, values))
    assert outputs(reply)[0].array.tolist() == [[expected]]


def test_strings_of_any_bytes_come_back(server: Server) -> None:
    raw = strings(STRINGS, 2, 1, 3)
    assert infer(server, "identity-bytes", raw)[0].raw == raw.raw
    reply = ask(server, typed_request(raw, "bytes_contents", STRINGS))
    assert list(reply.raw_output_contents) == [raw.raw]


def test_strings_share_a_batch_and_come_back_to_their_own(server: Server) -> None:
    requests = [
        infer_request("identity-bytes", strings([b"%d" % i] * i, 1, 1, i)) for i in range(1, 40)
    ]
    send = triton(server).ModelInfer.future
    for i, call in enumerate([send(request, timeout=60) for request in requests], 1):
        assert call.result().raw_output_contents[0] == strings([b"%d" % i] * i).raw


MODEL = "for model 'identity-bytes'"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            strings([b"a"]).raw,
            f"expected 2 string elements for inference input 'x' {MODEL}, got 1",
        ),
        (
            strings([b"a"] * 3).raw,
            f"unexpected number of string elements 3 for inference input 'x' {MODEL}, expecting 2",
        ),
        (
            strings([b"a"]).raw + b"\1\0",
            f"incomplete string length indicator for inference input 'x' {MODEL}",
        ),
        (
            strings([b"a"]).raw + b"\xff\xff\xff\xffa",
            f"incomplete string data for inference input 'x' {MODEL}",
        ),
    ],
)
def test_bytes_that_are_not_as_many_strings_are_refused(
    server: Server, raw: bytes, message: str
) -> None:
    found = refusal(
        lambda: infer(server, "identity-bytes", Tensor("x", "BYTES", (1, 1, 2), raw), id="7")
    )
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "STRING_COUNT_MISMATCH")
    assert found.message.startswith(f"[request id: 7] {message}")


def test_typed_contents_of_another_datatype_are_refused(server: Server) -> None:
    tensor = Tensor("x", "FP32", (1, 1, 1), b"")
    found = refusal(lambda: ask(server, typed_request(tensor, "int_contents", [1])))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "WRONG_DATA_FORM")
    assert found.message == (
        "unexpected explicit tensor data for input tensor 'x' for model 'identity-fp32' of type "
        "'INT32', expected datatype 'FP32'"
    )
    both = typed_request(tensor, "fp32_contents", [1.0])
    both.inputs[0].contents.fp64_contents.append(1.0)
    found = refusal(lambda: ask(server, both))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "TWO_DATA_FORMS")


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_half_precision_is_raw_only(server: Server, dtype: str) -> None:
    tensor = Tensor("x", dtype, (1, 1, 2), bytes([0, 60, 128, 63]))
    assert infer(server, f"identity-{dtype.lower()}", tensor)[0].raw == tensor.raw
    found = refusal(lambda: ask(server, typed_request(tensor, "fp32_contents", [1.0, 2.0])))
    assert found.reason == "WRONG_DATA_FORM"


def test_empty_tensors_are_data(server: Server) -> None:
    empty = Tensor("x", "FP32", (2, 0), b"")
    [answer] = infer(server, "any-length", empty)
    assert (answer.shape, answer.raw) == ((2, 0), b"")
    typed = infer_request("any-length", empty)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.SetInParent()
    assert outputs(ask(server, typed))[0].shape == (2, 0)
    absent = infer_request("any-length", empty)
    del absent.raw_input_contents[:]
    found = refusal(lambda: ask(server, absent))
    assert found.message == (
        "unable to find data for input tensor 'x' for model 'any-length' in request."
    )


def test_empty_tensors_have_batches_too(server: Server) -> None:
    for dtype in ("INT32", "BYTES"):
        empty = Tensor("x", dtype, (2, 1, 0), b"")
        [answer] = infer(server, f"identity-{dtype.lower()}", empty)
        assert (answer.shape, answer.raw) == ((2, 1, 0), b"")


def ones_and_twos() -> Any:
    """A request to the model simple."""
    pairs = (("INPUT0", 1), ("INPUT1", 2))
    tensors = [Tensor.of(name, np.full((1, 16), value), np.int32) for name, value in pairs]
    return infer_request("simple", *tensors)


def test_empty_contents_beside_raw_ones_are_absent(server: Server) -> None:
    """MLServer's converters send them."""
    request = ones_and_twos()
    for tensor in request.inputs:
        tensor.contents.SetInParent()
        assert tensor.HasField("contents")
    assert set(outputs(ask(server, request))[0].array.flat) == {3}


def test_raw_contents_beyond_the_inputs_are_ignored(server: Server) -> None:
    request = ones_and_twos()
    request.raw_input_contents.append(b"abc")
    assert set(outputs(ask(server, request))[0].array.flat) == {3}


def test_raw_and_typed_inputs_are_not_mixed(server: Server) -> None:
    """KServe's client may send them."""
    request = ones_and_twos()
    del request.raw_input_contents[0]
    request.inputs[0].contents.int_contents.extend([1] * 16)
    found = refusal(lambda: ask(server, request))
    assert (found.code, found.message) == (
        "INVALID_ARGUMENT",
        (
            "contents field must not be specified when using raw_input_contents for 'INPUT0' for "
            "model 'simple'"
        ),
    )


def test_typed_contents_are_as_many_as_the_shape_says(server: Server) -> None:
    numbers = typed_request(Tensor("x", "INT8", (1, 1, 2), b""), "int_contents", [1, 2, 3])
    assert refusal(lambda: ask(server, numbers)).message.endswith(
        "input byte size mismatch for input 'x' for model 'identity-int8'. Expected 2, got 3"
    )
    texts = typed_request(Tensor("x", "BYTES", (1, 1, 2), b""), "bytes_contents", [b"a"])
    assert refusal(lambda: ask(server, texts)).message.endswith(
        f"expected 2 string elements for inference input 'x' {MODEL}, got 1"
    )


def test_a_scalar_has_no_axis(server: Server) -> None:
    [answer] = infer(server, "scalar", Tensor.of("x", 1.5))
    assert (answer.shape, answer.array.tolist()) == ((), 3.0)


def test_several_outputs_come_in_the_order_asked_for(server: Server) -> None:
    a = Tensor.of("INPUT0", np.full((2, 16), 5), np.int32)
    b = Tensor.of("INPUT1", np.full((2, 16), 3), np.int32)
    for names in (["OUTPUT0", "OUTPUT1"], ["OUTPUT1", "OUTPUT0"], ["OUTPUT1"]):
        asked = [{"name": name} for name in names]
        answers = infer(server, "simple", a, b, outputs=asked)
        assert [answer.name for answer in answers] == names
        values = {"OUTPUT0": 8, "OUTPUT1": 2}
        for answer in answers:
            assert set(answer.array.flat) == {values[answer.name]}
    reply = ask(server, infer_request("simple", b, a, id="an id"))
    assert (reply.model_name, reply.model_version, reply.id) == ("simple", "1", "an id")
    assert [output.name for output in reply.outputs] == ["OUTPUT0", "OUTPUT1"]
    assert ask(server, infer_request("simple", a, b)).id == ""


def test_parameters_of_tensors_and_unknown_headers_are_ignored(server: Server) -> None:
    request = infer_request("scalar", Tensor.of("x", 1.0))
    request.inputs[0].parameters["binary_data_size"].int64_param = 4
    request.inputs[0].parameters["content_type"].string_param = "np"
    request.outputs.add(name="y").parameters["content_type"].string_param = "np"
    reply = triton(server).ModelInfer(request, timeout=60, metadata=(("test", "1"),))
    assert outputs(reply)[0].array == 2.0


def parameters(**values: dict[str, Any]) -> dict[str, Any]:
    return {name: service_pb2.InferParameter(**value) for name, value in values.items()}


@pytest.mark.parametrize(
    "given",
    [
        {"triton_enable_empty_final_response": {"bool_param": True}},
        {"priority": {"uint64_param": 2**63}},
        {"priority": {"int64_param": 0}},
        {"timeout": {"int64_param": 5}},
        {"sequence_id": {"int64_param": 3}, "sequence_start": {"bool_param": True}},
        {"sequence_id": {"string_param": "s"}, "sequence_end": {"bool_param": True}},
        {"sequence_id": {"int64_param": 0}},
        {"sequence_id": {"string_param": ""}},
        {"mine": {"double_param": 0.5}, "binary_data_output": {"bool_param": True}},
        {"binary_data": {"int64_param": 4}, "headers": {"string_param": "{}"}},
    ],
    ids=str,
)
def test_parameters_that_clients_send_are_taken(
    server: Server, given: dict[str, dict[str, Any]]
) -> None:
    x = Tensor.of("x", 1.0)
    assert infer(server, "scalar", x, parameters=parameters(**given))[0].array == 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"triton_other": {"bool_param": True}},
            "parameter keys starting with 'triton_' are reserved for Triton usage",
        ),
        ({"priority": {"int64_param": -1}}, "invalid value for 'priority', expected value >= 0"),
        (
            {"priority": {"string_param": "1"}},
            "invalid value type for 'priority' parameter, expected int64_param or uint64_param",
        ),
        (
            {"timeout": {"uint64_param": 1}},
            "invalid value type for 'timeout' parameter, expected int64_param",
        ),
        (
            {"sequence_id": {"uint64_param": 1}},
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param",
        ),
        (
            {"sequence_start": {"int64_param": 1}},
            "invalid value type for 'sequence_start' parameter, expected bool_param",
        ),
        ({"mine": {}}, "invalid value type for 'mine' parameter, expected int64_param"),
        ({"mine": {"uint64_param": 1}}, "invalid value type for 'mine' parameter"),
    ],
)
def test_parameters_of_other_kinds_are_refused(
    server: Server, given: dict[str, dict[str, Any]], message: str
) -> None:
    x = Tensor.of("x", 1.0)
    found = refusal(lambda: infer(server, "scalar", x, parameters=parameters(**given)))
    assert found.code == "INVALID_ARGUMENT"
    assert found.message.startswith(message)


def test_the_first_of_two_faults_is_told(server: Server) -> None:
    """The order of Triton's checks: each request has all faults that come later, too."""
    later: list[tuple[str, Any]] = [
        ("model_version", "x"),
        ("parameters", parameters(priority={"bool_param": True})),
        ("duplicate", None),
        ("contents", None),
        ("classification", 0),
        ("output", "z"),
    ]
    expected = [
        "failed to get model version",
        "invalid value type for 'priority'",
        "input 'INPUT0' already exists",
        "contents field must not be specified",
        "invalid value for 'classification'",
        "unexpected inference output 'z'",
        "expected 2 inputs but got 1",
    ]
    for first in range(len(expected)):
        faults = dict(later[first:])
        x = Tensor.of("INPUT0", np.zeros((9999, 3)), np.int8)
        tensors = [x, x] if "duplicate" in faults else [x]
        options = {name: faults[name] for name in ("model_version", "parameters") if name in faults}
        request = infer_request("simple", *tensors, **options)
        if "contents" in faults:
            request.inputs[0].contents.int_contents.append(1)
        if "classification" in faults:
            request.outputs.add(name="OUTPUT0").parameters["classification"].int64_param = 0
        if "output" in faults:
            request.outputs.add(name="z")
        found = refusal(partial(ask, server, request))
        assert found.code == "INVALID_ARGUMENT"
        assert expected[first] in found.message


def test_the_first_of_two_faults_of_the_inputs_is_told(server: Server) -> None:
    """And on with the checks of what is there: each request has all faults that come later, too."""
    expected = [
        "unexpected inference input 'z' for model 'simple'",
        "input 'INPUT1' batch size does not match other inputs for 'simple'",
        "inference request batch-size must be <= 1024 for 'simple'",
        "inference input 'INPUT0' data-type is 'INT8', but model 'simple' expects 'INT32'",
        "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [2,15]",
        "input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 128, got 3",
    ]
    for first, message in enumerate(expected):
        name = "z" if first <= 0 else "INPUT1"
        rows = 9999 if first <= 2 else 2
        more = 1 if first <= 1 else 0
        dtype = "INT8" if first <= 3 else "INT32"
        columns = 15 if first <= 4 else 16
        tensors = [
            Tensor(name, dtype, (rows + more, columns), b"abc")
            for name, more in (("INPUT0", 0), (name, more))
        ]
        found = refusal(partial(infer, server, "simple", *tensors))
        assert found.code == "INVALID_ARGUMENT"
        assert message in found.message


def test_long_texts_fit_into_headers(server: Server) -> None:
    found = refusal(lambda: infer(server, "scalar", Tensor("ä" * 20_000, "FP32", (), bytes(4))))
    assert found.code == "INVALID_ARGUMENT"
    assert found.message.startswith("unexpected inference input 'ää")
    assert found.message.endswith(" ...")
