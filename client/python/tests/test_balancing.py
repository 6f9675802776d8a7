"""A client of several servers asks them in turn, and leaves out those that are not ready."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import sigmax
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from sigmax import _channel
from sigmax.v1 import classifier_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Member:
    """One of several servers, with the health service of others."""

    def __init__(self, peer: Any, credentials: Any = None) -> None:
        self.peer = peer
        self._health = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(8))
        classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(self.peer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def tell(self, status: int) -> None:
        """Tell those who watch this server's health."""
        self._health.set("", status)

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def start(peer: Any) -> Iterator[Callable[..., Member]]:
    """Starts servers for one test."""
    started: list[Member] = []

    def start(credentials: Any = None) -> Member:
        started.append(Member(type(peer)(), credentials))
        return started[-1]

    yield start
    for member in started:
        member.stop()


def until_only(client: Any, asked: Member, other: Member) -> None:
    """Ask until ten calls in a row have gone to one server and none to the other."""
    patience = time.monotonic() + 60
    while time.monotonic() < patience:
        before = len(asked.peer.calls), len(other.peer.calls)
        for _ in range(10):
            client.models()
        if (len(asked.peer.calls), len(other.peer.calls)) == (before[0] + 10, before[1]):
            return
    raise AssertionError("both are asked")


def until_refused(client: Any) -> None:
    """Ask until the client finds no server that is ready. Clients share what they have seen."""
    patience = time.monotonic() + 60
    refused: sigmax.Unavailable | None = None
    while refused is None:
        assert time.monotonic() < patience, "a server that is not ready is asked"
        try:
            client.models()
        except sigmax.Unavailable as error:
            refused = error
    assert "no server says by grpc.health.v1 that it is ready" in str(refused)
    assert refused.reason == "NOT_CONNECTED"


def until_both(client: Any, first: Member, second: Member) -> None:
    """Ask until both servers have answered."""
    patience = time.monotonic() + 60
    before = len(first.peer.calls), len(second.peer.calls)
    while len(first.peer.calls) == before[0] or len(second.peer.calls) == before[1]:
        client.models()
        assert time.monotonic() < patience, "one is never asked"


@pytest.mark.parametrize(
    "write", [list, ",".join, ", ".join, lambda each: f"ipv4:{','.join(each)}"]
)
def test_several_addresses_are_asked_in_turn(make: Any, start: Any, write: Any) -> None:
    members = start(), start()
    client = make(write([member.address for member in members]), timeout=60.0)
    until_both(client, *members)
    before = [len(member.peer.calls) for member in members]
    for _ in range(20):
        client.models()
    asked = [len(m.peer.calls) - b for m, b in zip(members, before, strict=True)]
    assert min(asked) >= 8


def test_a_server_that_is_not_ready_is_left_out(make: Any, start: Any) -> None:
    first, second = start(), start()
    client = make([first.address, second.address], timeout=60.0)
    until_both(client, first, second)
    second.tell(NOT_SERVING)
    until_only(client, first, second)
    second.tell(SERVING)
    until_both(client, first, second)
    for member in (first, second):
        member.tell(NOT_SERVING)
    impatient = make([first.address, second.address], retries=0, timeout=60.0)
    until_refused(impatient)


def test_without_health_checks_every_server_is_asked(make: Any, start: Any) -> None:
    first, second = start(), start()
    for member in (first, second):
        member.tell(NOT_SERVING)
    client = make([first.address, second.address], health_checks=False, timeout=60.0)
    until_both(client, first, second)


def test_one_server_is_asked_however_ready_unless_told(make: Any, start: Any) -> None:
    only = start()
    only.tell(NOT_SERVING)
    assert make(only.address, timeout=60.0).models()
    until_refused(make(only.address, health_checks=True, retries=0, timeout=60.0))


def test_a_server_that_is_gone_is_left_out(make: Any, start: Any, free_address: str) -> None:
    first, second = start(), start()
    client = make([first.address, second.address, free_address], timeout=60.0)
    until_both(client, first, second)
    second.stop()
    for _ in range(20):
        assert client.models()


def test_over_tls_all_have_one_name(make: Any, start: Any, authority: Any) -> None:
    members = [start(authority.server("sigmax.test")) for _ in range(2)]
    tls = sigmax.Tls(ca=authority.file, server_name="sigmax.test")
    client = make([member.address for member in members], tls=tls, token="t", timeout=60.0)
    until_both(client, *members)


@pytest.mark.parametrize(
    ("address", "policy", "checks"),
    [
        ("localhost:1", None, False),
        ("10.0.0.1:1", None, False),
        ("unix:/run/sigmax.sock", None, False),
        ("sigmax.test", "round_robin", False),
        ("dns:///sigmax.test", "round_robin", False),
        ("10.0.0.1,10.0.0.2", "round_robin", True),
        ("127.0.0.1:1,127.0.0.1:2", "round_robin", True),
        (["::1", "[::2]:80"], "round_robin", True),
    ],
)
def test_the_policy_of_an_address(address: Any, policy: str | None, checks: bool) -> None:
    config = json.loads(
        str(dict(_channel.connection(address).options).get("grpc.service_config", "{}"))
    )
    assert config.get("loadBalancingConfig") == (policy and [{policy: {}}])
    assert config.get("healthCheckConfig") == ({"serviceName": ""} if checks else None)
