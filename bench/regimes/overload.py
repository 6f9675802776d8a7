"""More requests than can be answered: how many are still answered in time."""

from bench import load, questions, servers
from bench.load import Load, Outcome
from bench.measure import Measured, Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line
from bench.servers import Server

MODEL = "digits"
DEADLINE_MS = 50
TIMES = (0.5, 0.9, 1.0, 1.2, 2, 5)
CONNECTIONS = 8


def measure(settings: Settings) -> list[Line]:
    """Capacity first, by 64 requests in flight; then loads that do not wait for answers."""
    model = Model(MODEL)
    with servers.sigmax([model.repository], settings.server) as ours:
        question = questions.model_infer(ours, model, 1)
        closed = load.closed("64 in flight", ours, question, settings)
        (capacity,) = in_turn([closed], settings)
        regime = f"{MODEL}, deadline {DEADLINE_MS} ms"
        lines = [Line(regime, "capacity: 64 in flight", capacity)]
        for times in TIMES:
            rate = times * capacity.median.per_second
            offered = Load(question, CONNECTIONS, rate=rate, deadline_ms=DEADLINE_MS)
            lines.append(_line(regime, times, capacity, ours, offered, settings))
    return lines


def _line(
    regime: str,
    times: float,
    capacity: Measured,
    server: Server,
    offered: Load,
    settings: Settings,
) -> Line:
    before, memory = server.cpu_seconds(), server.resident_bytes()
    # Long enough for queues to fill.
    (outcome,) = load.send(server, [offered], settings.load, 2 * settings.seconds)
    memory = server.resident_bytes() - memory
    good = outcome.good / outcome.seconds
    share = good / (capacity.median.per_second * min(times, 1))
    measured = None
    if outcome.right:
        run = outcome.run(server.cpu_seconds() - before)
        measured = Measured(run, run.per_second, run.per_second)
    goals = [Goal("of what can be, in time", share, 0.9)]
    notes = [f"{good:,.0f}/s in time", *_fates(outcome), f"memory {memory / 2**20:+.0f} MiB"]
    return Line(regime, f"{times:g} times capacity", measured, goals, notes)


def _fates(outcome: Outcome) -> list[str]:
    """What became of the others, as shares of what was offered."""
    fates = {
        "late": outcome.right - outcome.good,
        **outcome.refused,
        "not sent": outcome.offered - outcome.sent,
        "lost": outcome.lost,
    }
    return [f"{count / outcome.offered:.1%} {fate}" for fate, count in fates.items() if count]
