"""Calls that are reset at once, by the client or by a server that the client provokes."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PriorityFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from support import files
from support.attack import EITHER, MODEL, Target, attacked, scaled
from support.raw import (
    CLASSIFY,
    INFER,
    STREAM_INFER,
    WATCH,
    Raw,
    block,
    data,
    frame,
    framed,
    headers,
)
from support.wire import Tensor, classify_request, infer_request

pytestmark = [pytest.mark.slow, EITHER]

ROW = Tensor.of("x", [[0.0] * 5])
ASKED = framed(infer_request(MODEL, ROW).SerializeToString())
CLASSIFIED = framed(classify_request(MODEL, ROW).SerializeToString())
END_STREAM, END_HEADERS = 1, 4
CANCEL = bytes([0, 0, 0, 8])


def begun(stream: int, head: bytes) -> bytes:
    return frame(HeadersFrame, END_HEADERS, stream, head)


def given_up(stream: int) -> bytes:
    return frame(RstStreamFrame, 0, stream, CANCEL)


def asked(stream: int, head: bytes, body: bytes) -> bytes:
    return begun(stream, head) + frame(DataFrame, END_STREAM, stream, body)


@pytest.mark.parametrize("path", [INFER, STREAM_INFER, WATCH, "/no/Such"])
def test_rapid_reset(target: Target, path: str) -> None:
    """Send resets as in CVE-2023-44487, each batch after the server has read the one before."""
    server = target()
    head = block(path)
    with attacked(server) as good:
        for _ in range(3):
            with Raw(server.grpc) as raw:
                for _ in range(scaled(100)):
                    streams = [raw.next() for _ in range(500)]
                    frames = b"".join(begun(it, head) + given_up(it) for it in streams)
                    if not raw.send(frames) or not raw.ping():
                        break
                good.goes_on()


def test_rapid_reset_of_whole_requests(target: Target) -> None:
    server = target()
    head = block(INFER)
    with attacked(server) as good, Raw(server.grpc) as raw:
        for _ in range(scaled(100)):
            streams = [raw.next() for _ in range(300)]
            frames = b"".join(asked(it, head, ASKED) + given_up(it) for it in streams)
            if not raw.send(frames) or not raw.ping():
                break
        good.goes_on()


def test_many_requests_of_clients_that_leave(target: Target) -> None:
    """Each client sends 900 requests at once, reads the first bytes of an answer, and leaves."""
    server = target()
    head = block(CLASSIFY)
    with attacked(server) as good:
        for _ in range(scaled(30)):
            with Raw(server.grpc) as raw:
                streams = [raw.next() for _ in range(900)]
                raw.send(b"".join(asked(it, head, CLASSIFIED) for it in streams))
                while not raw.answers and raw.read():
                    pass
        good.goes_on()


def test_clients_that_leave_all_at_once(target: Target) -> None:
    """The clients leave with many requests in flight, and have read nothing."""
    server = target()
    head = block(CLASSIFY)
    with attacked(server) as good:
        for _ in range(scaled(1)):
            with ExitStack() as clients:
                for raw in [clients.enter_context(Raw(server.grpc)) for _ in range(20)]:
                    streams = [raw.next() for _ in range(900)]
                    raw.send(b"".join(asked(it, head, CLASSIFIED) for it in streams))
        good.goes_on()


def test_clients_that_leave_while_a_heavy_model_has_their_requests(
    target: Target, tmp_path: Path
) -> None:
    """Requests that no run has begun are not run, and the end does not wait for them."""
    files.save(files.slow(), tmp_path / "heavy", "slow")
    server = target(tmp_path / "heavy", "--max-batch-size=1")
    body = framed(infer_request("slow", Tensor.of("x", [[0.0]])).SerializeToString())
    head = block(INFER)
    with attacked(server) as good:
        for leaves_at_once in (True, False):
            with Raw(server.grpc) as raw:
                streams = [raw.next() for _ in range(1000)]
                raw.send(b"".join(asked(it, head, body) for it in streams))
                assert raw.ping()
                if not leaves_at_once:
                    raw.send(b"".join(given_up(it) for it in streams))
                    assert raw.ping()
        good.goes_on()
        server.until(0, "sigmax_queued_rows")
        assert server.metric("sigmax_batch_rows_count", model="slow") < 200


def provoked(kind: str, stream: int) -> list[Frame]:
    """Make a call for which the server must reset the stream, or end the connection."""
    head, ended = headers(stream, block(INFER)), data(stream, ASKED)
    if kind == "window of 0":
        return [head, WindowUpdateFrame(stream, 0)]
    if kind == "window over 2^31":
        return [head, *[WindowUpdateFrame(stream, 2**31 - 1)] * 2]
    if kind == "data after the end":
        return [head, *ended, DataFrame(stream, b"more")]
    if kind == "headers after the end":
        return [head, *ended, headers(stream, block(INFER))]
    if kind == "priority over itself":
        return [head, PriorityFrame(stream, depends_on=stream)]
    assert kind == "more than announced"
    return [headers(stream, block(INFER, ("content-length", "3"))), *ended]


KINDS = (
    "window of 0",
    "window over 2^31",
    "data after the end",
    "headers after the end",
    "priority over itself",
    "more than announced",
)


@pytest.mark.parametrize("kind", KINDS)
def test_made_you_reset(target: Target, kind: str) -> None:
    """Provoke resets as in CVE-2025-8671; where the server ends the connection, reconnect."""
    server = target()
    with attacked(server) as good:
        rounds = scaled(20)
        while rounds > 0:
            with Raw(server.grpc) as raw:
                while rounds > 0 and not raw.closed:
                    rounds -= 1
                    streams = [raw.next() for _ in range(300)]
                    raw.send(*(part for it in streams for part in provoked(kind, it)))
                    raw.ping()
        good.goes_on()
