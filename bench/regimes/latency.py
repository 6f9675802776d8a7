"""One row a request, one in flight: what a request costs that comes alone."""

from contextlib import ExitStack

from bench import load, questions, servers
from bench.measure import Contender, Settings, in_turn
from bench.questions import Model, Question
from bench.report import Goal, Line
from bench.servers import BUILD, Server

NAME = "1 row, 1 in flight"


def measure(settings: Settings) -> list[Line]:
    """Against the bare echo over the same transport, sleeping and polling, TCP and Unix."""
    model = Model("sequential")
    with ExitStack() as running:
        found = _contenders(running, model, settings)
        names = [who.name for who in found]
        measured = dict(zip(names, in_turn(found, settings), strict=True))
    mean = {name: it.median.mean_us for name, it in measured.items()}
    goals = {
        "sigmax": [_most("times the echo's mean", mean, "sigmax", "bare echo", 1.2)],
        "sigmax, busy polling": [
            _most("times the mean without", mean, "sigmax, busy polling", "sigmax", 0.6)
        ],
        "sigmax, unix": [
            _most("times the echo's mean", mean, "sigmax, unix", "bare echo, unix", 1.2)
        ],
    }
    return [Line(NAME, name, measured[name], goals.get(name, [])) for name in names]


def _most(text: str, mean: dict[str, float], name: str, peer: str, bound: float) -> Goal:
    return Goal(text, mean.get(name, 0) / mean[peer], bound, most=True)


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
