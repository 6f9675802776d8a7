"""Certificates that are replaced while the server runs."""

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from support.certificates import HOURS, Authority, Pair, client_context
from support.raw import INFER, Raw
from support.server import Server
from support.wire import Tensor, infer_request

Secure = Callable[..., Server]

ASKED = infer_request("softmax", Tensor.of("x", np.zeros((1, 5)))).SerializeToString()
BROKEN = "the certificate has changed and cannot be used"


def served(server: Server) -> bytes:
    """The certificate that a new client is shown."""
    with server.grpc.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return shown


def written(pair: Pair) -> bytes:
    """The certificate in a pair's file."""
    first = pair.certificate.read_text().partition("-----END")[0]
    return ssl.PEM_cert_to_DER_cert(f"{first}-----END CERTIFICATE-----\n")


def until_reloaded(server: Server, times: int, result: str = "taken") -> None:
    server.until(times, "sigmax_reloads_total", files="certificate", result=result)


@contextmanager
def load(server: Server) -> Iterator[list[str]]:
    """Ask on a kept connection and on new ones during the block; the result is what failed."""
    over, faults, answers = threading.Event(), list[str](), [0, 0]

    def ask(number: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channel = server.grpc.channel(options)
        while not over.is_set() or answers[number] == 0:
            try:
                channel.unary_unary(INFER)(ASKED, timeout=60)
                answers[number] += 1
            except grpc.RpcError as error:
                faults.append(str(error))
                return
            if number:
                channel.close()
                channel = server.grpc.channel(options)
        channel.close()

    threads = [threading.Thread(target=ask, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield faults
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_new_certificate_is_served_and_no_request_is_lost(
    secure: Secure, authority: Authority
) -> None:
    pair = authority.issue()
    server = secure(pair=pair)
    with load(server) as faults:
        for times in range(1, 4):
            new = authority.issue(kind="RSA" if times == 2 else "ECDSA")
            # The two files are replaced one after the other, in either order.
            order = [(pair.certificate, new.certificate), (pair.key, new.key)]
            for old, now in order if times % 2 else reversed(order):
                old.write_bytes(now.read_bytes())
            until_reloaded(server, times)
            assert served(server) == written(new)
    assert faults == []
    assert BROKEN not in server.log()
    assert server.stop() == 0


def test_a_secret_of_kubernetes_is_followed(
    secure: Secure, authority: Authority, tmp_path: Path
) -> None:
    """The files are links over `..data`, a link that is replaced by a new one."""
    folder = tmp_path / "secret"

    def publish(name: str, pair: Pair) -> None:
        (folder / name).mkdir(parents=True)
        Pair(folder / name / "tls.crt", folder / name / "tls.key").write(pair.contents)
        (folder / "..new").symlink_to(name)
        (folder / "..new").rename(folder / "..data")

    publish("..2026_1", authority.issue())
    for name in ("tls.crt", "tls.key"):
        (folder / name).symlink_to(f"..data/{name}")
    server = secure(pair=Pair(folder / "tls.crt", folder / "tls.key"))
    new = authority.issue()
    publish("..2026_2", new)
    until_reloaded(server, 1)
    assert served(server) == written(new)


def test_a_broken_certificate_changes_nothing_and_is_told_once(
    secure: Secure, authority: Authority
) -> None:
    pair = authority.issue()
    server = secure(pair=pair)
    first, second = authority.issue(), authority.issue()
    before = served(server)
    breaks: list[Callable[[], object]] = [
        lambda: pair.certificate.write_bytes(first.certificate.read_bytes()[:-30]),
        lambda: pair.certificate.write_bytes(first.certificate.read_bytes()),  # key of another
        lambda: pair.key.unlink(),
    ]
    for times, break_it in enumerate(breaks, 1):
        break_it()
        until_reloaded(server, times, "refused")
        assert served(server) == before
    for times, good in enumerate((first, second), 1):
        pair.write(good.contents)
        until_reloaded(server, times)
        assert served(server) == written(good)
    errors = [line for line in server.log().splitlines() if BROKEN in line]
    assert len(errors) == len(breaks)
    assert f"{pair.certificate}: expected certificates in PEM" in errors[0]
    assert f"{pair.key}: the key does not fit" in errors[1]
    assert f"{pair.key}: No such file" in errors[2]


def test_the_metric_tells_when_the_certificate_ends(secure: Secure, authority: Authority) -> None:
    pair = authority.issue(ends=24 * HOURS)
    server = secure(pair=pair)
    name = "sigmax_tls_certificate_expiry_seconds"
    before = server.metric(name)
    pair.write(authority.issue(ends=48 * HOURS).contents)
    until_reloaded(server, 1)
    assert abs(server.metric(name) - before - 24 * 3600) < 600


def test_other_authorities_of_clients_hold_for_new_connections(
    secure: Secure, authority: Authority, tmp_path: Path
) -> None:
    """An open connection lives on; a session of an earlier one is not resumed."""
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(clients.path.read_bytes())
    server = secure(f"--tls-client-ca={trusted}")
    old = client_context(authority.path, clients.issue("old"))
    new = client_context(authority.path, others.issue("new"))
    with Raw(server.grpc.connect(old)) as raw:
        assert raw.answer(raw.ask(INFER, ASKED)).status == "0"
        assert isinstance(raw.socket, ssl.SSLSocket)
        session = raw.socket.session
        os.replace(others.path, trusted)  # noqa: PTH105 - as tools do it
        until_reloaded(server, 1)
        with Raw(server.grpc.connect(new)) as again:
            assert again.answer(again.ask(INFER, ASKED)).status == "0"
        with Raw(server.grpc.connect(old, session=session)) as refused:
            assert refused.answer(refused.ask(INFER, ASKED)).status is None
            assert refused.closed
        assert raw.answer(raw.ask(INFER, ASKED)).status == "0"
