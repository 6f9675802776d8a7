"""Connections have an age, at which their clients connect anew, and nothing is lost."""

import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.certificates import Authority
from support.raw import CLASSIFY, INFER, WATCH, Raw, call
from support.server import Serve, Server
from support.wire import Tensor, classify_request, infer_request

LOCAL = (("grpc.use_local_subchannel_pool", 1),)
CLIENTS = 4
AGED = "sigmax_connections_aged_total"
ASKED = classify_request("softmax", Tensor.of("x", np.zeros((1, 5)))).SerializeToString()


def start(serve: Serve, tmp_path: Path, over: str, *arguments: str) -> Server:
    files.save(files.softmax(), tmp_path / "models", "softmax")
    files.save(files.slow(), tmp_path / "models", "slow")
    authority = Authority(tmp_path / "certificates") if over == "TLS" else None
    extra: tuple[str, ...] = authority.issue().flags if authority else ()
    if over == "Unix":
        extra = (f"--listen=unix:{tmp_path}/s",)
    trusted = authority.path if authority else None
    return serve(tmp_path / "models", "--shards=2", *extra, *arguments, authority=trusted)


@pytest.mark.parametrize("over", ["TCP", "TLS", "Unix"])
def test_clients_under_load_connect_anew_and_lose_nothing(
    serve: Serve, tmp_path: Path, over: str
) -> None:
    server = start(serve, tmp_path, over, "--max-connection-age-seconds=1")
    faults: list[str] = []
    over_now = threading.Event()

    def ask() -> None:
        unix = over == "Unix"
        with (
            grpc.insecure_channel(f"unix:{tmp_path}/s", options=LOCAL)
            if unix
            else server.grpc.channel(LOCAL)
        ) as channel:
            send: Any = channel.unary_unary(CLASSIFY)
            while not over_now.is_set():
                calls = [send.future(ASKED, timeout=60) for _ in range(16)]
                faults.extend(str(call.exception()) for call in calls if call.exception())

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        while server.metric(AGED) < 3 * CLIENTS and not faults:
            pass
    finally:
        over_now.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert server.metric("sigmax_connections_total") > 3 * CLIENTS
    assert server.stop() == 0


def test_an_idle_client_is_told(serve: Serve, tmp_path: Path) -> None:
    """The client gets a GOAWAY without an error."""
    server = start(serve, tmp_path, "TCP", "--max-connection-age-seconds=0.2")
    with Raw(server.grpc) as raw:
        while raw.goaway is None:
            assert raw.read()
        assert raw.goaway == 0
    server.until(1, AGED)


def test_calls_go_on_for_the_grace_and_no_longer(serve: Serve, tmp_path: Path) -> None:
    """A watch that never ends, on a connection whose client does not answer the PING."""
    server = start(
        serve,
        tmp_path,
        "TCP",
        "--max-connection-age-seconds=0.2",
        "--max-connection-age-grace-seconds=1",
    )
    asked = infer_request("slow", Tensor.of("x", [[0.5]])).SerializeToString()
    with Raw(server.grpc) as raw:
        watch, slow = raw.next(), raw.next()
        raw.send(*call(watch, WATCH, b""), *call(slow, INFER, asked))
        assert raw.answer(slow).status == "0"
        assert raw.until_closed()
        assert raw.goaway == 0
        assert not raw.answers[watch].ended
    server.until(0, "sigmax_open_connections")


def test_without_an_age_connections_stay(serve: Serve, tmp_path: Path) -> None:
    server = start(serve, tmp_path, "TCP")
    with Raw(server.grpc) as raw:
        assert raw.answer(raw.ask(CLASSIFY, ASKED)).status == "0"
        assert raw.goaway is None
    assert server.metric(AGED) == 0
