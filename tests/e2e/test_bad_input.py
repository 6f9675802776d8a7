"""Wrong requests are refused before they are run, with a message of what was expected."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import sigmax
from sigmax.v1 import classifier_pb2 as pb
from support.server import Server
from support.wire import (
    SERVICES,
    Refusal,
    Tensor,
    ask,
    classify_request,
    infer,
    infer_request,
    refusal,
    triton,
    typed,
)
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
)
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

ROW = Tensor.of("x", np.zeros((1, 10)))
FLAGS = Tensor("x", "BOOL", (1, 3), bytes([0, 2, 1]))
PAIR = Tensor.of("x", np.zeros((2, 3))), Tensor.of("flags", np.zeros((2, 3)), np.bool_)


@dataclass(frozen=True)
class Case:
    """A bad request, and the error it must get: in our words and in Triton's, which may begin with
    the request's id."""

    tensors: tuple[Tensor, ...]
    reason: str
    field: str
    ours: str
    tritons: str
    model: str = "layers"
    tells_id: bool = True

    @property
    def told_by_triton(self) -> str:
        return f"[request id: <id_unknown>] {self.tritons}" if self.tells_id else self.tritons


def shaped(*shape: int) -> Tensor:
    return replace(ROW, shape=shape, raw=bytes(4 * max(int(np.prod(shape)), 0)))


BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)


def shape_case(*shape: int, tritons: str = "") -> Case:
    return Case(
        (shaped(*shape),),
        "SHAPE_MISMATCH",
        "inputs[x].shape",
        f"input 'x' of model 'layers': expected shape [-1, 10], got {list(shape)}",
        tritons
        or "unexpected shape for input 'x' for model 'layers'. Expected [-1,10], got "
        f"[{','.join(map(str, shape))}]. {BATCH_NOTE}",
    )


def bytes_case(size: int) -> Case:
    return Case(
        (replace(ROW, raw=bytes(size)),),
        "BYTE_SIZE_MISMATCH",
        "inputs[x].data",
        f"input 'x' of model 'layers': expected 40 bytes for its shape and dtype, got {size}",
        f"input byte size mismatch for input 'x' for model 'layers'. Expected 40, got {size}",
    )


CASES = {
    "one element too few": shape_case(1, 9),
    "one element too many": shape_case(3, 11),
    "a row without its batch axis": shape_case(10),
    "an axis too many": shape_case(1, 1, 10),
    "no axis at all": shape_case(
        tritons="input 'x' has no shape but model requires batch dimension for 'layers'"
    ),
    "a negative size": shape_case(
        -1,
        10,
        tritons="All input dimensions should be specified for input 'x' for model 'layers', got "
        "[-1,10]",
    ),
    "bytes too few": bytes_case(36),
    "bytes too many": bytes_case(44),
    "no bytes": bytes_case(0),
    "no rows": Case(
        (shaped(0, 10),),
        "BATCH_SIZE",
        "inputs[x].shape",
        "input 'x' of model 'layers': expected 1 to 1024 rows, got 0",
        "input 'x' of model 'layers': expected 1 to 1024 rows, got 0",
    ),
    "too many rows": Case(
        (shaped(1025, 10),),
        "BATCH_SIZE",
        "inputs[x].shape",
        "input 'x' of model 'layers': expected 1 to 1024 rows, got 1025",
        "inference request batch-size must be <= 1024 for 'layers'",
    ),
    "more rows than there are numbers": Case(
        (replace(ROW, shape=(2**62, 10)),),
        "BATCH_SIZE",
        "inputs[x].shape",
        f"input 'x' of model 'layers': expected 1 to 1024 rows, got {2**62}",
        "inference request batch-size must be <= 1024 for 'layers'",
    ),
    "another dtype": Case(
        (Tensor.of("x", np.zeros((1, 10)), np.float64),),
        "DTYPE_MISMATCH",
        "inputs[x].dtype",
        "input 'x' of model 'layers': expected dtype FP32, got FP64",
        "inference input 'x' data-type is 'FP64', but model 'layers' expects 'FP32'",
    ),
    "an unknown input": Case(
        (replace(ROW, name="z"),),
        "UNEXPECTED_INPUT",
        "inputs[z]",
        "model 'layers' has no input 'z'; its inputs are 'x'",
        "unexpected inference input 'z' for model 'layers'",
        tells_id=False,
    ),
    "an input twice": Case(
        (ROW, ROW),
        "DUPLICATE_INPUT",
        "inputs[x]",
        "input 'x' is given more than once",
        "input 'x' already exists in request",
    ),
    "no input": Case(
        (),
        "MISSING_INPUT",
        "inputs",
        "model 'layers' expects the inputs 'x'; got nothing",
        "expected 1 inputs but got 0 inputs for model 'layers'. Got input(s) [], but missing "
        "required input(s) ['x']. Please provide all required input(s).",
    ),
    "a BOOL that is neither 0 nor 1": Case(
        (FLAGS,),
        "BAD_ELEMENT",
        "inputs[x].data",
        "input 'x' of model 'classes-bool': element 1: expected a BOOL of 0 or 1, got 2",
        "input 'x' of model 'classes-bool': element 1: expected a BOOL of 0 or 1, got 2",
        "classes-bool",
        tells_id=False,
    ),
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named(server: Server, service: str, name: str) -> None:
    case = CASES[name]
    message = case.ours if service == "sigmax" else case.told_by_triton
    # The details are for programs, and the same on both services.
    expected = Refusal("INVALID_ARGUMENT", message, case.reason, {case.field: case.ours}, None)
    assert refusal(lambda: ask(service, server, case.model, *case.tensors)) == expected


@pytest.mark.parametrize("name", ["one element too few", "bytes too many", "another dtype"])
def test_tritons_client_raises_its_own_error(server: Server, name: str) -> None:
    case = CASES[name]
    [tensor] = case.tensors
    given = InferInput("x", list(tensor.shape), tensor.dtype)
    given._raw_content = tensor.raw  # its own checks would not let this pass
    with (
        InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException) as raised,
    ):
        client.infer("layers", [given])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert raised.value.message() == case.told_by_triton


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("model", "version", "code", "reason", "ours", "tritons"),
    [
        (
            "fish",
            "",
            "NOT_FOUND",
            "UNKNOWN_MODEL",
            "no model is named 'fish'",
            "Request for unknown model: 'fish' is not found",
        ),
        (
            "layers",
            "2",
            "NOT_FOUND",
            "UNKNOWN_VERSION",
            "model 'layers' has no version 2",
            "Request for unknown model: 'layers' version 2 is not found",
        ),
        *(
            (
                "layers",
                version,
                "INVALID_ARGUMENT",
                "BAD_VERSION",
                f"model_version: expected a decimal number above 0, or nothing; got '{version}'",
                (
                    f"failed to get model version from specified version string '{version}' "
                    "(details: stol), version should be an integral value > 0"
                ),
            )
            for version in ("0", "latest", "1.0", str(2**64))
        ),
    ],
)
def test_an_unknown_model_or_version_is_named(
    server: Server,
    service: str,
    model: str,
    version: str,
    code: str,
    reason: str,
    ours: str,
    tritons: str,
) -> None:
    found = refusal(lambda: ask(service, server, model, ROW, model_version=version))
    message = ours if service == "sigmax" else tritons
    assert (found.code, found.reason, found.message) == (code, reason, message)
    assert found.fields == ({"model_version": ours} if code == "INVALID_ARGUMENT" else {})


def test_a_request_may_name_the_version_that_is_served(server: Server) -> None:
    for service in SERVICES:
        ask(service, server, "layers", ROW, model_version="1")


def test_inputs_that_differ_in_their_rows_are_refused(server: Server) -> None:
    x, flags = PAIR
    fewer = Tensor.of("flags", flags.array[:1], np.bool_)
    found = refusal(lambda: infer(server, "pair", x, fewer))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "BATCH_SIZE_MISMATCH")
    assert found.message == (
        "[request id: <id_unknown>] input 'flags' batch size does not match other inputs for 'pair'"
    )
    assert found.fields == {
        "inputs[flags].shape": "input 'flags' of model 'pair': expected 2 rows, as the other "
        "inputs have, got 1"
    }


def test_a_missing_input_of_two_is_named(server: Server) -> None:
    found = refusal(lambda: infer(server, "pair", PAIR[1]))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "MISSING_INPUT")
    assert "expected 2 inputs but got 1 inputs" in found.message
    assert "Got input(s) ['flags'], but missing required input(s) ['x']" in found.message


def test_inputs_may_come_in_any_order(server: Server) -> None:
    forwards, backwards = infer(server, "pair", *PAIR), infer(server, "pair", *PAIR[::-1])
    assert forwards == backwards
    total, others = forwards
    assert (total.name, total.array.tolist()) == ("sum", [[0.0] * 3] * 2)
    assert (others.name, others.array.tolist()) == ("others", [[True] * 3] * 2)


def test_a_size_no_machine_has_is_refused(server: Server) -> None:
    huge = Tensor("x", "FP64", (1, 2**40, 2**40), b"")
    found = refusal(lambda: infer(server, "identity-fp64", huge))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "SHAPE_MISMATCH")
    assert f"[1,{2**40},{2**40}]" in found.message


def test_an_unknown_dtype_is_refused_by_what_came(server: Server) -> None:
    request = infer_request("layers", replace(ROW, dtype="FP7"))
    found = refusal(lambda: triton(server).ModelInfer(request, timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "DTYPE_MISMATCH")
    assert "data-type is '<invalid>'" in found.message
    assert "got FP7" in found.fields["inputs[x].dtype"]

    ours = classify_request("layers", ROW)
    ours.inputs[0].dtype = 99  # type: ignore[assignment]
    found = refusal(lambda: typed(server).Classify(ours, timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "DTYPE_MISMATCH")
    assert "99" in found.message


def outputs_asked(*names: str, **parameters: Any) -> list[dict[str, Any]]:
    return [{"name": name, "parameters": parameters} for name in names]


@pytest.mark.parametrize(
    ("options", "code", "reason", "message"),
    [
        (
            {"outputs": outputs_asked("z")},
            "INVALID_ARGUMENT",
            "UNEXPECTED_OUTPUT",
            "unexpected inference output 'z' for model 'layers'",
        ),
        (
            {"outputs": outputs_asked("p", "p")},
            "INVALID_ARGUMENT",
            "DUPLICATE_OUTPUT",
            "[request id: <id_unknown>] output 'p' already exists in request",
        ),
        (
            {"outputs": outputs_asked("p", shared_memory_region={"string_param": "r"})},
            "INVALID_ARGUMENT",
            "BAD_FIELD",
            (
                "'shared_memory_byte_size' must be specified along with 'shared_memory_region', "
                "got no such parameter"
            ),
        ),
    ],
)
def test_outputs_that_cannot_be_given_are_named(
    server: Server, options: dict[str, Any], code: str, reason: str, message: str
) -> None:
    found = refusal(lambda: infer(server, "layers", ROW, **options))
    assert (found.code, found.reason, found.message) == (code, reason, message)


def test_the_outputs_asked_for_come_in_the_order_of_the_request(server: Server) -> None:
    asked = outputs_asked("others", "sum")
    assert [t.name for t in infer(server, "pair", *PAIR, outputs=asked)] == ["others", "sum"]
    assert [t.name for t in infer(server, "pair", *PAIR, outputs=asked[:1])] == ["others"]


def test_elements_in_two_forms_or_in_none_are_refused(server: Server) -> None:
    both = infer_request("layers", ROW)
    both.inputs[0].contents.fp32_contents.extend([0.0] * 10)
    found = refusal(lambda: triton(server).ModelInfer(both, timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "TWO_DATA_FORMS")
    assert found.message == (
        "contents field must not be specified when using raw_input_contents for 'x' for model "
        "'layers'"
    )
    none = infer_request("layers", ROW)
    del none.raw_input_contents[:]
    found = refusal(lambda: triton(server).ModelInfer(none, timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "NO_DATA")
    assert found.message == (
        "unable to find data for input tensor 'x' for model 'layers' in request."
    )
    ours = classify_request("layers", ROW)
    ours.inputs[0].ClearField("raw")
    found = refusal(lambda: typed(server).Classify(ours, timeout=60))
    message = "input 'x' of model 'layers': expected elements, got none"
    assert found == Refusal(
        "INVALID_ARGUMENT", message, "NO_DATA", {"inputs[x].data": message}, None
    )


@pytest.mark.parametrize(
    "method",
    ["/sigmax.v1.ClassifierService/Classify", "/inference.GRPCInferenceService/ModelInfer"],
)
def test_bytes_that_are_no_message_are_refused(server: Server, method: str) -> None:
    call: Any = server.channel.unary_unary(method)
    found = refusal(lambda: call(b"\xff\xff\xff\xff", timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "MALFORMED_CALL")
    assert "decode" in found.message


def test_what_is_unset_is_the_models_own(server: Server) -> None:
    request = pb.ClassifyRequest(
        model_name="layers", inputs=[pb.Tensor(shape=[1, 10], raw=bytes(40))]
    )
    assert len(typed(server).Classify(request, timeout=60).rows) == 1


@pytest.mark.parametrize(
    ("rows", "reason", "message"),
    [
        (
            np.zeros((2, 9)),
            "SHAPE_MISMATCH",
            "input 'x' of model 'layers': expected shape [-1, 10], or [10] for one row; got [2, 9]",
        ),
        (
            np.zeros((1025, 10)),
            "BATCH_SIZE",
            "input 'x' of model 'layers': expected 1 to 1024 rows, got 1025",
        ),
        ([1e39] * 10, "BAD_ELEMENT", "expected values that FP32 can hold unchanged, got 1e+39"),
    ],
)
def test_the_sdk_raises_invalid_input(server: Server, rows: Any, reason: str, message: str) -> None:
    with pytest.raises(sigmax.InvalidInput) as raised:
        server.client.classify("layers", rows)
    assert (raised.value.code, raised.value.reason) == ("INVALID_ARGUMENT", reason)
    assert message in str(raised.value)
    assert next(iter(raised.value.fields)).startswith("inputs[x]")


def test_the_sdk_tells_an_unknown_model_from_an_unreachable_server(server: Server) -> None:
    with pytest.raises(sigmax.ModelNotFound, match="no model is named 'fish'"):
        server.client.classify("fish", [0.0])
    with (
        sigmax.Client("127.0.0.1:1", retries=0) as client,
        pytest.raises(sigmax.Unavailable),
    ):
        client.models()
