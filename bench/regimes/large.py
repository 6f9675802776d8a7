"""Regime: requests of 1,024 rows, 64 in flight, which show the cost of moving the tensors."""

from bench import load, questions, servers
from bench.measure import Settings, in_process, in_turn
from bench.questions import Model
from bench.report import Goal, Line

NAME = "1,024 rows, 64 in flight"
ROWS = 1024


def measure(settings: Settings) -> list[Line]:
    """Measure the server against ONNX Runtime with the same rows in process, on one core."""
    model = Model("sequential")
    with (
        servers.sigmax([model.repository], settings.server, "--shared-memory") as ours,
        servers.grpcio(model.file, settings.server) as grpcio,
        questions.model_infer_shared(ours, model, ROWS) as shared,
    ):
        infer = questions.model_infer(ours, model, ROWS)
        by_hand = questions.model_infer(grpcio, model, ROWS)
        contenders = [
            load.closed("sigmax, ModelInfer", ours, infer, settings),
            load.closed("sigmax, shared memory", ours, shared, settings),
            load.closed("grpcio, ModelInfer", grpcio, by_hand, settings),
            in_process(model.file, ROWS, settings),
        ]
        measured = in_turn(contenders, settings)
    ours_s, *_, limit_s = (each.median.per_second for each in measured)
    goals = [[Goal("of ONNX Runtime in process", ours_s / limit_s, 0.6)], *[[]] * 3]
    rows = zip(contenders, measured, goals, strict=True)
    return [Line(NAME, who.name, what, reach) for who, what, reach in rows]
