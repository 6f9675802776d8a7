"""A good client, which sends requests at a steady pace while another client attacks the server.

The client is a process of its own (`python -m support.good`), so that it is slow only where the
server is. Its first line of input is a JSON object with the addresses, and the requests with their
answers in hexadecimal. Requests go on a kept connection, on a new one, and as an operator's over
HTTP. Each further line of input is a command to send a request in each of these ways; the client
prints a line when that is done. When the input ends, the client prints its results as JSON.
"""

import json
import select
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

PACE = 0.02  # seconds between two requests
PATIENCE = 20.0  # most seconds for an answer, more than support.attack.SLOWEST
ENOUGH = 3  # failures after which the client sends no more
NEW = 10  # requests of a round, of which one is on a new connection and one an operator's
LOCAL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


class Good:
    """The requests, and the results so far."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.grpc, self.http, self.path = told["grpc"], told["http"], told["path"]
        self.authority = told["authority"]
        self.questions = [tuple(map(bytes.fromhex, pair)) for pair in told["questions"]]
        self.may_be_refused = told["may_be_refused"]
        self.metadata = [tuple(pair) for pair in told["metadata"]]
        self.kept = self.channel()
        self.number = self.answers = self.refused = 0
        self.slowest, self.slowest_kind = 0.0, ""
        self.faults: list[str] = []

    def channel(self) -> grpc.Channel:
        """Return a new channel, over TLS where the server is."""
        if self.authority is None:
            return grpc.insecure_channel(self.grpc, options=LOCAL)
        trusted = grpc.ssl_channel_credentials(Path(self.authority).read_bytes())
        return grpc.secure_channel(self.grpc, trusted, options=LOCAL)

    def round(self) -> None:
        """Send a request in each way."""
        for _ in range(NEW):
            self.turn()

    def turn(self) -> None:
        """Send one request, in the way whose turn it is."""
        if len(self.faults) >= ENOUGH:
            return
        self.number = number = self.number + 1
        kinds = {0: ("on a new connection", self.ask_anew), NEW // 2: ("/healthz", self.operate)}
        kind, ask = kinds.get(number % NEW, ("", lambda it: self.ask(self.kept, it)))
        began = time.monotonic()
        try:
            ask(number)
            self.answers += 1
        except Exception as error:
            self.faults.append(f"{kind} {error}"[:400])
        if (took := time.monotonic() - began) > self.slowest:
            self.slowest, self.slowest_kind = took, kind

    def ask_anew(self, number: int) -> None:
        with self.channel() as channel:
            self.ask(channel, number)

    def ask(self, channel: grpc.Channel, number: int) -> None:
        question, answer = self.questions[number % len(self.questions)]
        send: Callable[..., bytes] = channel.unary_unary(self.path)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                found = send(
                    question, timeout=PATIENCE, wait_for_ready=False, metadata=self.metadata
                )
                break
            except grpc.RpcError as error:
                again = self.may_be_refused and error.code() in (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    grpc.StatusCode.UNAVAILABLE,
                )
                if not again or time.monotonic() > until:
                    raise RuntimeError(f"{error.code().name}: {error.details()}") from None
                self.refused += 1
                time.sleep(PACE)
        if found != answer:
            raise RuntimeError(f"expected the answer {answer.hex()}, got {found.hex()[:200]}")

    def operate(self, _: int) -> None:
        with urllib.request.urlopen(f"http://{self.http}/healthz", timeout=PATIENCE) as reply:
            reply.read()


def main() -> None:
    good = Good(json.loads(sys.stdin.readline()))
    good.round()
    good.slowest = 0.0  # the first requests are slow for other reasons than an attack
    print("asking", flush=True)
    while True:
        if select.select([sys.stdin], [], [], PACE)[0]:
            if not sys.stdin.readline():
                break
            good.round()
            print("asked", flush=True)
        good.turn()
    # Even a short attack is followed by a request in each way.
    good.round()
    good.kept.close()
    told = {name: getattr(good, name) for name in ("answers", "refused", "slowest", "faults")}
    print(json.dumps(told | {"slowest_kind": good.slowest_kind}), flush=True)


if __name__ == "__main__":
    main()
