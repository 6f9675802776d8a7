"""Regime: requests of one row, 64 in flight, which show the cost of the server itself."""

from bench import load, questions, servers
from bench.measure import Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line

NAME = "1 row, 64 in flight"


def measure(settings: Settings) -> list[Line]:
    """Measure the server against the hand-written one, and against an engine that does no work."""
    model = Model("sequential")
    with (
        servers.sigmax([model.repository], settings.server) as ours,
        servers.noop(settings.server) as noop,
        servers.grpcio(model.file, settings.server) as grpcio,
    ):
        infer = questions.model_infer(ours, model, 1)
        classify = questions.classify(ours, model, 1)
        by_hand = questions.model_infer(grpcio, model, 1)
        contenders = [
            load.closed("sigmax, ModelInfer", ours, infer, settings),
            load.closed("sigmax, Classify", ours, classify, settings),
            load.closed("no-op engine, ModelInfer", noop, infer.with_any_answer(), settings),
            load.closed("no-op engine, Classify", noop, classify, settings),
            load.closed("grpcio, ModelInfer", grpcio, by_hand, settings),
        ]
        measured = in_turn(contenders, settings)
    infer_s, classify_s, noop_infer_s, noop_classify_s, grpcio_s = (
        each.median.per_second for each in measured
    )
    goals = [
        _goals(infer_s, grpcio_s, noop_infer_s),
        _goals(classify_s, grpcio_s, noop_classify_s),
        *[[]] * 3,
    ]
    rows = zip(contenders, measured, goals, strict=True)
    return [Line(NAME, who.name, what, reach) for who, what, reach in rows]


def _goals(ours: float, grpcio: float, noop: float) -> list[Goal]:
    return [Goal("times grpcio", ours / grpcio, 38), Goal("of no-op", ours / noop, 0.85)]
