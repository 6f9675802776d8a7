"""Regime: the CPU cost of busy polling where requests are few, at several rates."""

from bench import load, questions, servers
from bench.load import Load
from bench.measure import Measured, Settings
from bench.questions import Model, Question
from bench.report import Line
from bench.servers import Server

RATES = (100, 1_000, 5_000, 20_000)


def measure(settings: Settings) -> list[Line]:
    """Measure requests of one row, by a load that does not wait for answers."""
    model = Model("sequential")
    lines = []
    for cap in (0, settings.busy_poll_microseconds):
        flag = f"--busy-poll-microseconds={cap}"
        with servers.sigmax([model.repository], settings.server, flag) as server:
            question = questions.model_infer(server, model, 1)
            lines += [_line(server, question, cap, rate, settings) for rate in RATES]
    return lines


def _line(server: Server, question: Question, cap: int, rate: int, settings: Settings) -> Line:
    before = server.cpu_seconds()
    (outcome,) = load.send(server, [Load(question, rate=rate)], settings.load, settings.seconds)
    cpu = server.cpu_seconds() - before
    run = outcome.clean().run(cpu)
    note = f"{cpu / outcome.seconds:.0%} of a core"
    contender = f"{rate:,}/s, polling up to {cap} us"
    measured = Measured(run, run.per_second, run.per_second)
    return Line("1 row, few requests", contender, measured, [], [note])
