"""Regime: TLS beside plaintext, and good clients beside a storm of handshakes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme

from bench import load, questions, servers
from bench.load import Load
from bench.measure import Contender, Run, Settings, in_turn
from bench.questions import Model, Question
from bench.report import Goal, Line
from bench.servers import EXAMPLES, Server, pinned

NAME = "1 row, 64 in flight, TLS"
STORM = "1 row, beside new clients over TLS"
# Requests in flight of the good clients in a storm: the server has room for handshakes, too.
IN_FLIGHT = 4
# New connections a second of a storm.
RATES = (500, 2000)
KINDS = {"ECDSA": "P-256", "RSA": "RSA-2048"}


def measure(settings: Settings) -> list[Line]:
    """Measure requests over TLS and plain, and good clients with and without storms."""
    model = Model("sequential")
    with TemporaryDirectory() as folder:
        lines = _requests(model, Path(folder), settings)
        for kind in KINDS:
            lines += _storms(model, Path(folder), kind, settings)
    return lines


def _requests(model: Model, folder: Path, settings: Settings) -> list[Line]:
    flags, authority = _certificate(folder, "ECDSA")
    with (
        servers.sigmax([model.repository], settings.server) as plain,
        servers.sigmax([model.repository], settings.server, *flags, name="tls") as over_tls,
    ):
        over_tls = over_tls.over(authority)
        contenders = [
            load.closed(f"{name}, {kind}", server, ask(plain, model, 1), settings)
            for kind, ask in (
                ("ModelInfer", questions.model_infer),
                ("Classify", questions.classify),
            )
            for name, server in (("plain", plain), ("TLS", over_tls))
        ]
        measured = in_turn(contenders, settings)
    lines = [Line(NAME, who.name, what) for who, what in zip(contenders, measured, strict=True)]
    for at in range(0, len(lines), 2):
        ours, peer = (measured[place].median.per_second for place in (at + 1, at))
        lines[at + 1].goals.append(Goal("of plaintext", ours / peer, 0.85))
    return lines


def _storms(model: Model, folder: Path, kind: str, settings: Settings) -> list[Line]:
    flags, authority = _certificate(folder, kind)
    with (
        servers.sigmax([model.repository], settings.server) as plain,
        servers.sigmax([model.repository], settings.server, *flags, name="tls") as over_tls,
    ):
        question = questions.model_infer(plain, model, 1)
        over_tls = over_tls.over(authority)
        storms: dict[int, list[dict[str, Any]]] = {rate: [] for rate in RATES}
        contenders = [load.closed("alone", over_tls, question, settings, IN_FLIGHT, 1)]
        for rate, came in storms.items():
            contenders.append(_beside(over_tls, question, rate, came, settings))
        measured = in_turn(contenders, settings)
    lines = [Line(STORM, f"{KINDS[kind]}, alone", measured[0])]
    for (rate, came), what in zip(storms.items(), measured[1:], strict=True):
        lines.append(Line(STORM, f"{KINDS[kind]}, {rate:,} new/s", what, [], [_told(came)]))
    return lines


def _beside(
    server: Server, question: Question, rate: int, came: list[dict[str, Any]], settings: Settings
) -> Contender:
    """Make a contender of the good clients beside a storm, whose results are appended to `came`."""

    def run(seconds: float) -> Run:
        words = [str(EXAMPLES / "storm"), server.address, str(rate), str(seconds)]
        # The good clients' own driver goes first on the core that both share.
        command = pinned(settings.load, ["nice", "-n", "19", *words])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as storm:
            (outcome,) = load.send(server, [Load(question, IN_FLIGHT, 1)], settings.load, seconds)
            printed, _ = storm.communicate()
        came.append(json.loads(printed))
        return outcome.clean().run()

    return Contender(f"beside {rate} a second", run)


def _told(came: list[dict[str, Any]]) -> str:
    def median(pick: Callable[[dict[str, Any]], float]) -> float:
        values = sorted(map(pick, came))
        return values[len(values) // 2]

    return (
        f"{median(lambda one: one['per_second']):,.0f} handshakes/s, "
        f"p50 {median(lambda one: one['p50'] or 0) / 1e3:.1f} ms, "
        f"p99 {median(lambda one: one['p99'] or 0) / 1e3:.1f} ms, "
        f"{sum(one['failed'] for one in came)} failed"
    )


def _certificate(folder: Path, kind: str) -> tuple[list[str], Path]:
    """Make a certificate with a key of this kind; return the server's flags and the authority."""
    issuer = trustme.CA()
    issued = issuer.issue_cert("localhost", key_type=trustme.KeyType[kind])
    authority, chain, key = (folder / f"{kind}-{name}.pem" for name in ("ca", "chain", "key"))
    issuer.cert_pem.write_to_path(str(authority))
    chain.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return [f"--tls-certificate={chain}", f"--tls-key={key}"], authority
