"""64 requests in flight on one connection: a client that has only one is not slower."""

from bench import load, questions, servers
from bench.measure import Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line

NAME = "1 row, one connection"


def measure(settings: Settings) -> list[Line]:
    """64 streams of one connection, against 16 on each of four."""
    model = Model("sequential")
    with servers.sigmax([model.repository], settings.server) as ours:
        question = questions.model_infer(ours, model, 1)
        contenders = [
            load.closed("1 x 64", ours, question, settings, connections=1, streams=64),
            load.closed("4 x 16", ours, question, settings, connections=4, streams=16),
        ]
        measured = in_turn(contenders, settings)
    one_s, four_s = (each.median.per_second for each in measured)
    goals = [[Goal("of four connections", one_s / four_s, 0.9)], []]
    rows = zip(contenders, measured, goals, strict=True)
    return [Line(NAME, who.name, what, reach) for who, what, reach in rows]
