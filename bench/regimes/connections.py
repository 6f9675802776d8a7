"""Regime: many requests in flight on one connection, which is to be as fast as several."""

from bench import load, questions, servers
from bench.measure import Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line

NAME = "1 row, one connection"
# Requests in flight. 64 requests on one connection travel together, so that server and driver wait
# for each other in turn; the bare echo shows the cost of that alone. With 256, both have work.
IN_FLIGHT = (64, 256)


def measure(settings: Settings) -> list[Line]:
    """Measure all streams on one connection, against a quarter of them on each of four."""
    model = Model("sequential")
    with servers.sigmax([model.repository], settings.server) as ours:
        question = questions.model_infer(ours, model, 1)
        assert question.answer is not None
        with servers.echo(settings.server, len(question.answer) - 5) as echo:
            contenders = [
                load.closed(
                    f"{server.name}, {connections} x {requests // connections}",
                    server,
                    question if server is ours else question.with_any_answer(),
                    settings,
                    connections,
                    requests // connections,
                )
                for server in (ours, echo)
                for requests in IN_FLIGHT
                for connections in (1, 4)
            ]
            measured = in_turn(contenders, settings)
    lines = [Line(NAME, who.name, what) for who, what in zip(contenders, measured, strict=True)]
    for at in range(0, len(lines), 2):
        one, four = (each.median.per_second for each in measured[at : at + 2])
        if contenders[at].name.startswith(ours.name):
            lines[at].goals.append(Goal("of four connections", one / four, 0.9))
        else:
            lines[at].notes.append(f"{one / four:.3g} of four connections")
    return lines
