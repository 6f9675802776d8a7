"""Attacks on a real server with a good client beside them, for the tests in `tests/hostile/`.

How to add an attack, in a file of tests/hostile/ that begins with
`pytestmark = pytest.mark.slow` (`[pytest.mark.slow, EITHER]` for attacks over TLS, too):

    def test_ping_flood(target: Target) -> None:
        server = target()
        with attacked(server) as good, Raw(server.grpc) as raw:
            raw.pour(PingFrame(0, bytes(8)).serialize(), times=scaled(20_000), reads=False)
            good.goes_on()

The fixture `target` starts a server of one small model; it takes arguments of `sigmax serve`, and
paths of further models. `attacked` runs a good client at a steady pace during its block. After the
block, `attacked` asserts that each good answer was right and none late, that memory, descriptors
and connections are back to where they were, and that the server ends with 0. `goes_on` waits until
the good client has sent a request in each way during the attack. The answers to the attack itself
are asserted in the block. `support.raw` has the frames.

All attacks are limited in count and time. `scaled` makes an attack larger in `make hostile`; an
attack that takes more than some seconds even unscaled is marked `hostile` and runs only there.

SIGMAX_HOSTILE_REPORT=file appends a row of measured values for each attack. While a fault is known
and not repaired, its attack is marked `xfail(strict=True)`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.access import Metadata
from support.raw import INFER
from support.server import Server
from support.wire import Tensor, infer_request, outputs, triton

Target = Callable[..., Server]
"""A function that starts a server of the good model, with these arguments of `sigmax serve`."""

EITHER = pytest.mark.parametrize(
    "target", ["plain", pytest.param("tls", marks=pytest.mark.hostile)], indirect=True
)
"""A mark for attacks that are made over plain connections, and in `make hostile` over TLS, too."""

MODEL = "softmax"
SLOWEST = 10.0
"""Most seconds of a good answer; longer means that the server stood still, and is not only busy."""
SLACK = 12 * 2**20
"""Most bytes that allocators may keep after an attack, besides a tenth of the memory before."""
GROWTH = 256 * 2**20
"""Most bytes by which an attack may grow a server with the default limits."""
CEILING = 2 * 2**30
"""Bytes of memory at which a server is killed, before it harms the machine."""
PATIENCE = 60.0


def scaled(count: int) -> int:
    """Return the count, times the variable SIGMAX_HOSTILE where that is set."""
    return count * int(os.environ.get("SIGMAX_HOSTILE", "1"))


@dataclass
class Use:
    """The resources of a server: bytes of memory, file descriptors, open connections."""

    memory: int
    files: int
    connections: float

    @classmethod
    def of(cls, server: Server) -> "Use":
        return cls(
            resident(server),
            len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())),
            server.metric("sigmax_open_connections"),
        )


def resident(server: Server, line: str = "VmRSS") -> int:
    """Return the resident memory of a server in bytes; VmHWM is the peak since the last reset."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) * 1024


@dataclass
class Damage:
    """The effects of an attack, and its `faults`, which must not be."""

    before: Use
    after: Use
    peak: int = 0
    answers: int = 0
    refused: int = 0
    slowest: float = 0
    code: int | None = None
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.faults.append(otherwise)

    def __str__(self) -> str:
        mib = "memory {:.0f} MiB, peak {:.0f}, kept {:.0f}".format(
            *(size / 2**20 for size in (self.before.memory, self.peak, self.after.memory))
        )
        return (
            f"{mib}; descriptors {self.before.files}, after {self.after.files}; "
            f"{self.answers} good answers, the slowest {self.slowest * 1000:.0f} ms; "
            f"exit code {self.code}"
        )

    def row(self, name: str) -> str:
        """Return the effects as a row of a Markdown table."""
        mib = [f"{size / 2**20:.0f}" for size in (self.before.memory, self.peak, self.after.memory)]
        cells = [
            name,
            " / ".join(mib),
            f"{self.before.files} / {self.after.files}",
            f"{self.answers}, {self.slowest:.2f} s",
            str(self.code),
            "<br>".join(fault[:160] for fault in self.faults[:4]) or "holds",
        ]
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def questions(server: Server, model: str, metadata: Metadata = ()) -> list[tuple[str, str]]:
    """Return the good client's requests with their answers, in hexadecimal, after a check."""
    pairs = []
    for number in range(4):
        row = np.random.default_rng(number).normal(size=(1, 5)).astype(np.float32)
        request = infer_request(model, Tensor.of("x", row))
        reply = triton(server).ModelInfer(request, metadata=metadata, timeout=PATIENCE)
        [found] = outputs(reply)
        share = np.exp(row) / np.exp(row).sum()
        np.testing.assert_allclose(found.array, share, rtol=1e-5)
        pairs.append((request.SerializeToString().hex(), reply.SerializeToString().hex()))
    return pairs


class Beside:
    """The good client, in a process of its own."""

    def __init__(
        self,
        server: Server,
        pairs: list[tuple[str, str]],
        may_be_refused: bool,
        metadata: Metadata = (),
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.good"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        self._told: str | None = None
        told = {
            "grpc": server.grpc,
            "authority": server.grpc.authority and str(server.grpc.authority),
            "http": server.http,
            "path": INFER,
            "questions": pairs,
            "may_be_refused": may_be_refused,
            "metadata": metadata,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "asking\n"

    def goes_on(self) -> None:
        """Wait until the client has sent a request in each way, while the attack lasts."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "asked\n"

    def stop(self) -> dict[str, Any]:
        """End the client, unless it has ended, and return its results."""
        if self._told is None:
            self._told = self._process.communicate(timeout=20 * PATIENCE)[0]
        found: dict[str, Any] = json.loads(self._told)
        return found


class Guard(threading.Thread):
    """A thread that kills a server before it takes the machine's memory."""

    def __init__(self, server: Server, ceiling: int) -> None:
        super().__init__(daemon=True)
        self._server, self._ceiling = server, ceiling
        self._over = threading.Event()
        self.killed = False
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02) and self._server.process.poll() is None:
            try:
                memory = resident(self._server)
            except (OSError, IndexError):
                return  # the server has just ended
            if memory > self._ceiling:
                self.killed = True
                self._server.process.kill()
                return

    def stop(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def attacked(
    server: Server,
    *,
    may_be_refused: bool = False,
    metadata: Metadata = (),
    slowest: float = SLOWEST,
    growth: int = GROWTH,
    slack: int = SLACK,
    ceiling: int = CEILING,
) -> Iterator[Beside]:
    """Run a good client while the block attacks the server; assert afterwards that all is well.

    Args:
        server: Server of MODEL, which is ended.
        may_be_refused: Whether a good request may be refused with a code that allows a retry; the
            time of its answer counts from the first try.
        metadata: Metadata of good requests, such as a token.
        slowest: Most seconds of a good answer.
        growth: Most bytes by which memory may grow during the attack.
        slack: Most bytes that may be kept afterwards, besides a tenth of the memory before.
        ceiling: Bytes of memory at which the server is killed.
    """
    pairs = questions(server, MODEL, metadata)
    server.hang_up()
    server.until(0, "sigmax_open_connections")
    before = Use.of(server)
    beside = Beside(server, pairs, may_be_refused, metadata)
    # Memory that is allocated once has been allocated by the good client's first requests.
    before.memory = resident(server)
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # VmHWM begins anew
    guard = Guard(server, ceiling)
    damage = Damage(before, before, before.memory)
    try:
        yield beside
    except AssertionError as error:
        damage.faults.append(str(error).partition("\n")[0])
        raise
    finally:
        good = beside.stop()
        damage.answers, damage.refused = good["answers"], good["refused"]
        damage.slowest = good["slowest"]
        damage.faults += [f"a good question failed: {fault}" for fault in good["faults"]]
        damage.expect(
            damage.slowest < slowest,
            f"the slowest good answer {good['slowest_kind']} took {damage.slowest:.1f} s",
        )
        aftermath(server, damage, slack)
        guard.stop()
        grown = damage.peak - before.memory
        damage.expect(
            grown <= growth, f"it took {grown >> 20} MiB, at most {growth >> 20} expected"
        )
        damage.expect(not guard.killed, f"it took over {ceiling >> 20} MiB of memory")
        report(damage)
    assert not damage.faults, "\n".join([str(damage), *damage.faults[:20], server.log()[-2000:]])


def aftermath(server: Server, damage: Damage, slack: int) -> None:
    """Wait for at most PATIENCE until nothing remains of an attack, then end the server."""
    if (code := server.process.poll()) is None:
        damage.peak = resident(server, "VmHWM")
        server.hang_up()
        patience = time.monotonic() + PATIENCE
        while left := remains(server, damage, slack):
            if time.monotonic() > patience:
                damage.faults += left
                break
            time.sleep(0.05)
        try:
            code = server.stop()
        except subprocess.TimeoutExpired:
            damage.faults.append("SIGTERM does not end it")
            server.process.kill()
            server.process.wait()
    damage.code = code
    damage.expect(code == 0, f"exit code {code}")
    damage.expect("not answered" not in server.log(), "requests were said to be lost")
    damage.expect("panicked" not in server.log(), "a thread panicked")


def remains(server: Server, damage: Damage, slack: int) -> list[str]:
    """Return the faults that remain: memory, descriptors, connections not yet given back."""
    try:
        damage.after = now = Use.of(server)
        held = server.metric("sigmax_message_bytes")
    except (OSError, IndexError) as error:
        return [f"it does not say how it is: {error}"]
    found = Damage(damage.before, now)
    before = damage.before
    mib = f"{before.memory >> 20} MiB before, {now.memory >> 20} after"
    found.expect(now.memory <= before.memory * 1.1 + slack, f"memory is kept: {mib}")
    # One descriptor more is allowed for the log, which is opened for its first line.
    found.expect(now.files <= before.files + 1, f"{now.files} descriptors, {before.files} before")
    found.expect(
        now.connections <= before.connections, f"{now.connections:.0f} connections are open still"
    )
    found.expect(held == 0, f"messages hold {held:.0f} bytes still")
    return found.faults


def report(damage: Damage) -> None:
    name = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[2]
    name = name.rpartition(" (")[0]
    print(f"{name}: {damage}")
    if file := os.environ.get("SIGMAX_HOSTILE_REPORT"):
        with Path(file).open("a") as table:
            table.write(damage.row(name))
