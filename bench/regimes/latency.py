"""Regime: requests of one row, one in flight, which show the time of a single request."""

from contextlib import ExitStack

from bench import load, questions, servers
from bench.measure import Contender, Measured, Settings, in_turn
from bench.questions import Model, Question
from bench.report import Goal, Line
from bench.servers import BUILD, Server

NAME = "1 row, 1 in flight"
# Goals of the contenders: the peer, and the most that the mean may be, as a multiple of the peer's.
GOALS = {
    "sigmax": ("bare echo", 1.2),
    "sigmax, busy polling": ("sigmax", 0.6),
    "sigmax, unix": ("bare echo, unix", 1.2),
}


def measure(settings: Settings) -> list[Line]:
    """Measure the server against the bare echo: over TCP, with polling, and over a Unix socket."""
    model = Model("sequential")
    with ExitStack() as running:
        found = _contenders(running, model, settings)
        names = [who.name for who in found]
        measured = dict(zip(names, in_turn(found, settings), strict=True))
    return [Line(NAME, name, it, _goals(name, measured)) for name, it in measured.items()]


def _goals(name: str, measured: dict[str, Measured]) -> list[Goal]:
    if name not in GOALS:
        return []
    peer, bound = GOALS[name]
    mean = measured[name].median.mean_us / measured[peer].median.mean_us
    return [Goal(f"times the mean of: {peer}", mean, bound, most=True)]


def _contenders(running: ExitStack, model: Model, settings: Settings) -> list[Contender]:
    core = settings.server
    sockets = BUILD / "ours.sock", BUILD / "echo.sock"
    for socket in sockets:
        socket.unlink(missing_ok=True)
    unix, echo_unix = (f"unix:{socket}" for socket in sockets)
    listen = [f"--listen={unix}"] if servers.takes("--listen") else []
    ours = running.enter_context(servers.sigmax([model.repository], core, *listen))
    question = questions.model_infer(ours, model, 1)
    assert question.answer is not None
    size = len(question.answer) - 5
    noop = running.enter_context(servers.noop(core))
    grpcio = running.enter_context(servers.grpcio(model.file, core))
    by_hand = questions.model_infer(grpcio, model, 1)
    any_answer = question.with_any_answer()

    def alone(name: str, server: Server, question: Question) -> Contender:
        return load.closed(name, server, question, settings, connections=1, streams=1)

    echo = running.enter_context(servers.echo(core, size))
    contenders = [
        alone("sigmax", ours, question),
        alone("bare echo", echo, any_answer),
        alone("no-op engine", noop, any_answer),
        alone("grpcio", grpcio, by_hand),
    ]
    if servers.takes("--busy-poll-microseconds"):
        flag = f"--busy-poll-microseconds={settings.busy_poll_microseconds}"
        polling = servers.sigmax([model.repository], core, flag, name="sigmax, polling")
        server = running.enter_context(polling)
        contenders.append(alone("sigmax, busy polling", server, question))
    if listen:
        other = running.enter_context(servers.echo(core, size, echo_unix))
        contenders.append(alone("sigmax, unix", ours.at(unix), question))
        contenders.append(alone("bare echo, unix", other, any_answer))
    return contenders
