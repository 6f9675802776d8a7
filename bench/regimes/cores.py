"""Regime: server and load on the same cores, which shows the cost where nothing is pinned."""

from dataclasses import replace

from bench import load, questions, servers
from bench.measure import Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line

NAME = "1 row, cores shared with the load"


def measure(settings: Settings) -> list[Line]:
    """Measure server and load on all cores, against each on cores of its own."""
    model = Model("sequential")
    both = settings.server | settings.load
    free = replace(settings, server=both, load=both)
    with (
        servers.sigmax([model.repository], settings.server) as pinned,
        servers.sigmax([model.repository], both, name="sigmax, shared") as shared,
    ):
        contenders = [
            load.closed("pinned", pinned, questions.model_infer(pinned, model, 1), settings),
            load.closed("shared", shared, questions.model_infer(shared, model, 1), free),
        ]
        measured = in_turn(contenders, settings)
    pinned_s, shared_s = (each.median.per_second for each in measured)
    goals = [[], [Goal("of pinned", shared_s / pinned_s, 0.9)]]
    rows = zip(contenders, measured, goals, strict=True)
    return [Line(NAME, who.name, what, reach) for who, what, reach in rows]
