"""Whatever a server answers, a caller gets a result or a SigmaxError."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import sigmax
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from sigmax import inference_pb2 as oip
from sigmax.v1 import classifier_pb2 as pb

ROW = [0.25, 0.5, 0.25]
GARBAGE = b"\xff\xfe\xfd not protobuf"
MODEL = pb.Model(
    name="animal",
    version="1",
    inputs=[pb.TensorDescription(name="x", dtype=pb.DATA_TYPE_FP32, shape=[-1, 3])],
    task=pb.TASK_MULTICLASS,
    max_batch_size=8,
)
CLASS = pb.ScoredClass(index=1, label="b", probability=0.5)
ROWS = [pb.Classification(classes=[CLASS], decision=[CLASS])]
PROBABILITIES = pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=[1, 3], raw=bytes(12))
GOOD = pb.ClassifyResponse(model_name="animal", rows=ROWS, probabilities=PROBABILITIES)


class Hostile(grpc.GenericRpcHandler):
    """Answers each method with the bytes that a test says."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: dict[str, Callable[[grpc.ServicerContext], bytes]] = {}
        self.answer("GetModel", pb.GetModelResponse(model=MODEL))
        self.streams = {"ClassifyStream", "Watch"}  # methods that any number of answers come from
        self.stream: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda requests: requests

    def answer(self, method: str, reply: Any) -> None:
        raw = reply if isinstance(reply, bytes) else reply.SerializeToString()
        self.answers[method] = lambda context: raw

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        method = details.method.rpartition("/")[2]
        if method in self.streams:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self.stream(requests)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.answers[method](context)
        )


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    handler = Hostile()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    handler.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler
    server.stop(None).wait()


@pytest.fixture
def asking(make: Any, hostile: Hostile, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Each client in turn, of the hostile server; nothing may be logged."""
    with caplog.at_level(logging.WARNING):
        yield make(hostile.address, timeout=60.0)
    assert [record.getMessage() for record in caplog.records] == []


def calls(client: Any) -> list[Callable[[], Any]]:
    return [
        client.models,
        lambda: client.model("animal"),
        lambda: client.classify("animal", ROW),
        lambda: client.infer("animal", ROW),
        lambda: list(client.classify_stream("animal", [("k", ROW)])),
        client.wait_until_ready,
    ]


def test_answers_that_are_no_messages(asking: Any, hostile: Hostile) -> None:
    for method in ("ListModels", "Classify", "ModelInfer"):
        hostile.answer(method, GARBAGE)
    hostile.stream = lambda requests: iter([GARBAGE])
    asked = calls(asking)
    asked.pop(1)  # the description is a good one
    for call in asked:
        with pytest.raises(sigmax.ServerFault, match="malformed: its bytes are no message"):
            call()
    hostile.answer("GetModel", GARBAGE)
    with pytest.raises(sigmax.ServerFault, match="malformed"):
        asking.model("animal")


def test_success_without_an_answer(asking: Any, hostile: Hostile) -> None:
    hostile.streams |= {"ListModels", "GetModel"}
    hostile.stream = lambda requests: iter([])
    for call in (asking.models, lambda: asking.model("animal")):
        with pytest.raises(sigmax.ServerFault, match="succeeded without an answer"):
            call()


def test_two_answers_to_one_request(asking: Any, hostile: Hostile) -> None:
    hostile.streams.add("ListModels")
    hostile.stream = lambda requests: iter([b"", b""])
    with pytest.raises(sigmax.SigmaxError):  # gRPC waits until the deadline
        asking.models(timeout=0.5)


def refuse(*details: AnyMessage, raw: bytes = b"") -> Callable[[grpc.ServicerContext], bytes]:
    """An answer of RESOURCE_EXHAUSTED with these details."""
    status = raw or Status(code=8, details=details).SerializeToString()

    def answer(context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")
        raise AssertionError("abort raises")

    return answer


def retry_info(**delay: int) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(RetryInfo(retry_delay=Duration(**delay)))
    return packed


@pytest.mark.parametrize(
    "refusal",
    [
        refuse(raw=GARBAGE),
        refuse(AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=GARBAGE)),
        refuse(AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=GARBAGE)),
        refuse(AnyMessage(type_url="///", value=GARBAGE)),
        refuse(retry_info(seconds=-5)),
        refuse(retry_info(seconds=-(2**63), nanos=-(2**31))),
        refuse(retry_info(seconds=2**63 - 1, nanos=2**31 - 1)),
    ],
)
def test_details_that_make_no_sense(asking: Any, hostile: Hostile, refusal: Any) -> None:
    hostile.answers["ListModels"] = refusal
    with pytest.raises(sigmax.Overloaded, match=r"^no$") as caught:
        asking.models()
    assert caught.value.retry_after is None or caught.value.retry_after > 1e9


def classified(**changes: Any) -> pb.ClassifyResponse:
    reply = pb.ClassifyResponse()
    reply.CopyFrom(GOOD)
    for name, value in changes.items():
        reply.ClearField(name)
        if isinstance(value, list):
            getattr(reply, name).extend(value)
        elif value is not None:
            getattr(reply, name).CopyFrom(value)
    return reply


TENSORS = [
    pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=[1, 3], raw=bytes(11)),
    pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=[1, -3], raw=bytes(12)),
    pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=[2**62, 2**62], raw=bytes(12)),
    pb.Tensor(dtype=pb.DATA_TYPE_FP32, shape=[2**62, 0, 2**62], raw=b""),
    pb.Tensor(dtype=pb.DATA_TYPE_BOOL, shape=[1, 3], raw=bytes(3)),
    pb.Tensor(dtype=pb.DATA_TYPE_BYTES, shape=[1], raw=b"\xff\xff\xff\xff"),
    pb.Tensor(dtype=77, shape=[1, 3], raw=bytes(12)),  # type: ignore[arg-type]
    pb.Tensor(),
]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        classified(rows=[]),
        classified(rows=ROWS * 2),
        classified(rows=[pb.Classification()]),
        classified(probabilities=None),
        *(classified(probabilities=tensor) for tensor in TENSORS),
    ],
)
def test_results_that_do_not_fit_the_request(asking: Any, hostile: Hostile, reply: Any) -> None:
    hostile.answer("Classify", reply)
    with pytest.raises(sigmax.ServerFault, match=r"^the server's answer is malformed: "):
        read(asking.classify("animal", ROW))
    hostile.answer("Classify", GOOD)
    assert read(asking.classify("animal", ROW)) == "b"


def read(result: sigmax.Result) -> str:
    """Read everything of a result."""
    assert result.probabilities.shape == (3,)
    assert repr(result)
    return result.label


NAMED = oip.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[1, 2])


def run(*outputs: Any, raw: list[bytes]) -> oip.ModelInferResponse:
    return oip.ModelInferResponse(outputs=outputs, raw_output_contents=raw)


def output(datatype: str, *shape: int) -> Any:
    return oip.ModelInferResponse.InferOutputTensor(name="y", datatype=datatype, shape=shape)


@pytest.mark.parametrize(
    "reply",
    [
        run(NAMED, raw=[]),
        run(raw=[b""]),
        run(NAMED, raw=[bytes(7)]),
        run(output("FP32", -1), raw=[bytes(4)]),
        run(output("FP99", 1), raw=[bytes(4)]),
        run(output("BYTES", 2), raw=[b"\x01\x00\x00\x00a"]),
        run(output("BYTES", 1), raw=[b"\xff\xff\xff\xffa"]),
        run(output("BYTES", 1), raw=[b"\x01\x00"]),
        run(output("BYTES", 2**62, 2**62), raw=[b""]),
        run(raw=[]),
    ],
)
def test_outputs_that_make_no_sense(asking: Any, hostile: Hostile, reply: Any) -> None:
    hostile.answer("ModelInfer", reply)
    with pytest.raises(sigmax.ServerFault, match=r"^the server's answer is malformed: "):
        asking.infer("animal", ROW, outputs=["y"])
    hostile.answer("ModelInfer", run(NAMED, raw=[bytes(8)]))
    assert asking.infer("animal", ROW, outputs="y")["y"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "described",
    [
        pb.Model(),
        pb.Model(max_batch_size=1, inputs=[pb.TensorDescription(name="x")]),
        pb.Model(
            max_batch_size=1,
            inputs=[pb.TensorDescription(dtype=pb.DATA_TYPE_UINT8, encoding="utf-8")],
        ),
    ],
)
@pytest.mark.parametrize("values", [ROW, [], {}, 1.0, "text"])
def test_descriptions_that_make_no_sense(
    asking: Any, hostile: Hostile, described: pb.Model, values: Any
) -> None:
    hostile.answer("GetModel", pb.GetModelResponse(model=described))
    hostile.answer("Classify", pb.ClassifyResponse())
    with pytest.raises(sigmax.SigmaxError):
        asking.classify("animal", values)


def streamed(id: str, **result: Any) -> bytes:  # noqa: A002 (the field's name)
    return pb.ClassifyStreamResponse(id=id, **result).SerializeToString()


def after_all(*replies: bytes) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    def stream(requests: Iterator[bytes]) -> Iterator[bytes]:
        for _ in requests:
            pass
        yield from replies

    return stream


def test_a_stream_that_ends_with_answers_missing(asking: Any, hostile: Hostile) -> None:
    hostile.stream = after_all(streamed("2", response=GOOD))
    answers = asking.classify_stream("animal", [("a", ROW), ("b", ROW), (7, ROW), ("bad", [1])])
    assert [key for key, _ in (next(answers), next(answers))] == ["bad", "b"]
    with pytest.raises(sigmax.ServerFault, match=r"ended without answers to 'a', 7$"):
        next(answers)
    hostile.stream = after_all()
    with pytest.raises(sigmax.ServerFault, match=r"answers to 0, 1, 2, 3, 4, 5, 6, 7 and 92 more$"):
        next(asking.classify_stream("animal", ((key, ROW) for key in range(100))))


def test_a_stream_that_ends_before_the_last_item(asking: Any, hostile: Hostile) -> None:
    hostile.stream = lambda requests: iter([])
    items = ((key, ROW) for key in iter(int, 1))  # without an end
    # Under asyncio gRPC itself fails where it writes to a stream that has ended.
    with pytest.raises(sigmax.ServerFault, match=r"the stream has ended|Internal error from Core"):
        list(asking.classify_stream("animal", items))


@pytest.mark.parametrize("number", ["2", "", "nobody's", "1"])
def test_answers_that_nobody_waits_for(asking: Any, hostile: Hostile, number: str) -> None:
    hostile.stream = after_all(streamed("1", response=GOOD), streamed(number, response=GOOD))
    answers = asking.classify_stream("animal", [("a", ROW)])
    assert next(answers)[0] == "a"
    with pytest.raises(sigmax.ServerFault, match=f"no request .* has the id '{number}'"):
        next(answers)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"response": pb.ClassifyResponse()},
        {"error": pb.StreamError()},
        {"error": pb.StreamError(code=-5, message="?", reason="?")},
        {"error": pb.StreamError(code=2**31 - 1)},
    ],
)
def test_one_answer_of_a_stream_that_makes_no_sense(
    asking: Any, hostile: Hostile, result: Any
) -> None:
    hostile.stream = after_all(streamed("1", **result), streamed("2", response=GOOD))
    (_, wrong), (key, good) = asking.classify_stream("animal", [("a", ROW), ("b", ROW)])
    assert isinstance(wrong, sigmax.ServerFault)
    assert (key, read(good)) == ("b", "b")


def test_calls_of_a_client_that_is_closed(asking: Any, hostile: Hostile) -> None:
    hostile.answer("Classify", GOOD)
    asking.classify("animal", ROW)
    late = calls(asking)
    asking.close()
    for call in late:
        with pytest.raises(sigmax.Cancelled, match="the client is closed"):
            call()
