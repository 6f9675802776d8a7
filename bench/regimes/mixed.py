"""Regime: two models, 500 connections each, small and big requests together; none may starve."""

from bench import load, questions, servers
from bench.load import Load
from bench.measure import Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line
from bench.servers import Server

NAME = "2 models, 1,000 connections"
# Requests of one row per second to each model.
SMALL_RATE = 1000
SMALL_CONNECTIONS = 400
# Rows of a big request, and such requests per second: together about half of a core's capacity.
BIG = {"sequential": (1024, 1500), "digits": (64, 100)}
BIG_CONNECTIONS = 100
# Upper bound of the small requests' 99th percentile, in milliseconds.
P99_MS = 10


def measure(settings: Settings) -> list[Line]:
    """Measure the times of small requests, with and without big ones, and the server's memory."""
    asked = [Model(name) for name in BIG]
    repositories = [model.repository for model in asked]
    with servers.sigmax(repositories, settings.server) as ours:
        small = [
            Load(questions.model_infer(ours, model, 1), SMALL_CONNECTIONS, rate=SMALL_RATE)
            for model in asked
        ]
        big = [
            Load(questions.model_infer(ours, model, rows), BIG_CONNECTIONS, rate=rate)
            for model, (rows, rate) in zip(asked, BIG.values(), strict=True)
        ]
        contenders = [
            load.contender("small alone", ours, small, settings),
            load.contender("small beside big", ours, small + big, settings),
        ]
        alone, beside = in_turn(contenders, settings)
        # Resident memory after each repeat of the same load, which must not grow.
        held = [_held(ours, small + big, settings) for _ in range(settings.repeats)]
    assert beside.median.p99_us is not None
    goals = [
        Goal("ms at p99", beside.median.p99_us / 1e3, P99_MS, most=True),
        Goal("times the memory before", held[-1] / held[0], 1.05, most=True),
    ]
    note = f"MiB resident after each repeat: {', '.join(f'{size:.0f}' for size in held)}"
    return [
        Line(NAME, contenders[0].name, alone),
        Line(NAME, contenders[1].name, beside, goals, [note]),
    ]


def _held(server: Server, loads: list[Load], settings: Settings) -> float:
    """Send these loads, and return the server's resident memory after them, in MiB."""
    load.send(server, loads, settings.load, settings.seconds)
    return server.resident_bytes() / 2**20
