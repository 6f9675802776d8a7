"""Regime: heavy models, alone and beside a light one, whose times must stay low."""

from bench import load, questions, servers
from bench.load import Load
from bench.measure import (
    Contender,
    Run,
    Settings,
    in_process,
    in_turn,
    running_in_process,
)
from bench.questions import Model
from bench.report import Goal, Line

# Requests per second to the light model, far below its capacity.
LIGHT_RATE = 2000


def measure(settings: Settings) -> list[Line]:
    """Measure `digits`, and a network of about 10 MB of weights."""
    names = ("digits", "wide")
    return [line for name in names for line in _alone(name, settings) + _beside(name, settings)]


def _alone(name: str, settings: Settings) -> list[Line]:
    """Measure the throughput, against ONNX Runtime in process at the batch size that forms."""
    model = Model(name)
    with (
        servers.sigmax([model.repository], settings.server) as ours,
        servers.noop(settings.server) as noop,
    ):
        question = questions.model_infer(ours, model, 1)
        nothing = questions.model_infer_of_anyone(Model("sequential"), 1)
        asked = load.closed("sigmax", ours, question, settings)
        rows = ours.batch_rows(model.name, lambda: asked.run(1))
        contenders = [
            asked,
            load.closed("no-op engine", noop, nothing, settings),
            in_process(model.file, round(rows), settings),
        ]
        measured, idle, limit = in_turn(contenders, settings)
    ours_s, idle_s = measured.median.per_second, idle.median.per_second
    limit_s = limit.median.per_second * round(rows)
    # The rate of one core that spends the time of both: on the rows, and on requests without work.
    both_s = 1 / (1 / limit_s + 1 / idle_s)
    goal = Goal("of ONNX Runtime in process", ours_s / limit_s, 0.9)
    both = f"{ours_s / both_s:.2f} of in process and no-op engine after each other"
    regime = f"{name}, 1 row, 64 in flight"
    return [
        Line(regime, "sigmax", measured, [goal], [f"{rows:.1f} rows a batch", both]),
        Line(regime, "no-op engine", idle),
        Line(regime, f"in process, {round(rows)} rows", limit, [], [f"{limit_s:,.0f} rows/s"]),
    ]


def _beside(name: str, settings: Settings) -> list[Line]:
    """Measure the light model's times, with and without 64 requests to the heavy one in flight.

    They are also measured beside a process without a server that runs the heavy model without a
    pause. That shows how long the kernel keeps a server waiting that shares its core.
    """
    heavy, light = Model(name), Model("sequential")
    with servers.sigmax([heavy.repository, light.repository], settings.server) as ours:
        steady = Load(questions.model_infer(ours, light, 1), connections=4, rate=LIGHT_RATE)
        flood = Load(questions.model_infer(ours, heavy, 1), connections=4, streams=16)
        flooded = load.contender(f"sequential beside {name}", ours, [steady, flood], settings)
        rows = round(ours.batch_rows(name, lambda: flooded.run(1)))
        alone = load.contender("sequential alone", ours, [steady], settings)

        def shared(seconds: float) -> Run:
            with running_in_process(heavy.file, rows, settings):
                return alone.run(seconds)

        other = Contender(f"sequential beside another process, {rows} rows of {name}", shared)
        contenders = [alone, flooded, other]
        measured = in_turn(contenders, settings)
    p99_us = [each.median.p99_us or 0 for each in measured]
    goal = Goal("times the p99 alone", p99_us[1] / p99_us[0], 2, most=True)
    kernel = f"{p99_us[2] / p99_us[0]:.3g} times the p99 alone"
    regime = f"{LIGHT_RATE:,}/s of sequential beside {name}"
    return [
        Line(regime, alone.name, measured[0]),
        Line(regime, flooded.name, measured[1], [goal]),
        Line(regime, other.name, measured[2], [], [kernel]),
    ]
