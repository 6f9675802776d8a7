"""Regime: more requests than the server can answer; how many are still answered in time?"""

from bench import load, questions, servers
from bench.load import Load, Outcome
from bench.measure import Measured, Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line
from bench.servers import Server

MODEL = "wide"
# Rows of a request. A refusal costs as much as receiving the request. The answer to one row costs
# little more, so that with one row the core is soon busy with refusals.
ROWS = (16, 1)
DEADLINE_MS = 50
TIMES = (0.5, 0.9, 1.0, 1.2, 2, 5)
CONNECTIONS = 8
# Deadline in milliseconds that is too short for any run of the model.
HOPELESS_MS = 0.05


def measure(settings: Settings) -> list[Line]:
    """Measure the capacity by 64 requests in flight, then loads that do not wait for answers."""
    model = Model(MODEL)
    with servers.sigmax([model.repository], settings.server) as ours:
        return [line for rows in ROWS for line in _overload(ours, model, rows, settings)]


def _overload(server: Server, model: Model, rows: int, settings: Settings) -> list[Line]:
    size = "1 row" if rows == 1 else f"{rows} rows"
    regime = f"{MODEL}, {size}, deadline {DEADLINE_MS} ms"
    question = questions.model_infer(server, model, rows)
    closed = load.closed("64 in flight", server, question, settings)
    (capacity,) = in_turn([closed], settings)
    refused = Load(question, 4, 16, deadline_ms=HOPELESS_MS)
    (refusing,) = load.send(server, [refused], settings.load, settings.seconds)
    cost = capacity.median.per_second / (sum(refusing.refused.values()) / refusing.seconds)
    lines = [
        Line(regime, "capacity: 64 in flight", capacity),
        Line(
            regime, "refused at once: 64 in flight", None, [], [f"{cost:.3f} of an answer's time"]
        ),
    ]
    for times in TIMES:
        rate = times * capacity.median.per_second
        offered = Load(question, CONNECTIONS, rate=rate, deadline_ms=DEADLINE_MS)
        before, memory = server.cpu_seconds(), server.resident_bytes()
        # The load lasts long enough for queues to fill.
        (outcome,) = load.send(server, [offered], settings.load, 2 * settings.seconds)
        cpu, memory = server.cpu_seconds() - before, server.resident_bytes() - memory
        good = outcome.good / outcome.seconds
        share = good / (capacity.median.per_second * min(times, 1))
        goals = [Goal("of what can be, in time", share, 0.9)]
        notes = [f"{good:,.0f}/s in time", *_fates(outcome), f"memory {memory / 2**20:+.0f} MiB"]
        if times > 1:
            # The share of capacity that remains on a core that refuses the rest of the requests.
            most = (1 - times * cost) / (1 - cost)
            notes.append(f"{most:.0%} are left by what refusing costs")
        measured = _measured(outcome, cpu)
        lines.append(Line(regime, f"{times:g} times capacity", measured, goals, notes))
    return lines


def _measured(outcome: Outcome, cpu_seconds: float) -> Measured | None:
    """Return the figures of an outcome; None where nothing was answered."""
    if not outcome.right:
        return None
    run = outcome.run(cpu_seconds)
    return Measured(run, run.per_second, run.per_second)


def _fates(outcome: Outcome) -> list[str]:
    """Return what happened to the other requests, as shares of all requests due."""
    fates = {
        "late": outcome.right - outcome.good,
        **outcome.refused,
        "not sent": outcome.offered - outcome.sent,
        "lost": outcome.lost,
    }
    return [f"{count / outcome.offered:.1%} {fate}" for fate, count in fates.items() if count]
