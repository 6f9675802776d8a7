"""Compares another commit's server with this one, in the same run: `make bench-compare BASE=...`.

    python -m bench.compare COMMIT [REGIME ...]

The other commit is checked out and built below build/, in an environment of its own. This commit's
driver measures both in turn, so that both run on the machine in the same state.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import load, options, questions, report, servers
from bench.load import Load
from bench.measure import Contender, Measured, Run, Settings, in_turn
from bench.questions import Model
from bench.regimes.overload import CONNECTIONS, DEADLINE_MS, MODEL, ROWS
from bench.servers import BUILD, ROOT, SIGMAX, Server

Regime = Callable[[str, Server, Settings], Contender]


def main() -> None:
    """Build the other commit, measure both servers, and print one table."""
    parser = options.parser(__doc__)
    parser.add_argument("base", metavar="COMMIT", help="what to compare with")
    parser.add_argument("regimes", nargs="*", metavar="REGIME", help=", ".join(REGIMES))
    given = parser.parse_intermixed_args()
    if unknown := set(given.regimes) - set(REGIMES):
        parser.error(f"expected regimes of {', '.join(REGIMES)}, got {', '.join(unknown)}")
    chosen = options.settings(given)
    servers.build_examples()
    base = built(given.base)
    repositories = [Model(name).repository for name in ("sequential", "digits", "wide")]
    print("\n".join(f"{key}: {text}  " for key, text in report.setting().items()))
    print(f"before: {given.base}\n")
    print("| regime | before/s | after/s | after / before | spreads | p99 us | CPU us |")
    print("| :-- | --: | --: | --: | --: | --: | --: |")
    with (
        servers.sigmax(repositories, chosen.server, name="before", command=base) as before,
        servers.sigmax(repositories, chosen.server, name="after", command=SIGMAX) as after,
    ):
        for name in given.regimes or REGIMES:
            both = [REGIMES[name](name, server, chosen) for server in (before, after)]
            print(row(name, *in_turn(both, chosen)), flush=True)


def built(commit: str) -> Path:
    """Return the `sigmax` command of this commit, which is built first where it is missing."""
    full = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    tree = BUILD / "base" / full
    if not tree.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        add = ["git", "worktree", "add", "--detach", str(tree), full]
        subprocess.run(add, cwd=ROOT, check=True)
    # These variables would lead the build to this tree's environment instead of its own.
    inherited = ("VENV", "UV_PROJECT_ENVIRONMENT", "MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if name not in inherited}
    subprocess.run(["make", "build"], cwd=tree, env=environment, check=True)
    return tree / ".venv/bin/sigmax"


def row(name: str, before: Measured, after: Measured) -> str:
    """Return one line of the table: the medians, and the spreads of the repeats."""
    old, new = before.median, after.median
    cells = [f"{old.per_second:,.0f}", f"{new.per_second:,.0f}"]
    cells += [f"{new.per_second / old.per_second:.2f}"]
    spreads = [(it.most - it.least) / it.median.per_second for it in (before, after)]
    cells += [" and ".join(f"{spread:.0%}" for spread in spreads)]
    cells += [f"{old.p99_us:,.0f} to {new.p99_us:,.0f}", f"{old.cpu_us:,.1f} to {new.cpu_us:,.1f}"]
    return f"| {name} | {' | '.join(cells)} |"


def model_infer(model: str, rows: int, connections: int, streams: int) -> Regime:
    """Make a regime of ModelInfer with a fixed number of requests in flight."""

    def regime(name: str, server: Server, settings: Settings) -> Contender:
        question = questions.model_infer(server, Model(model), rows)
        return load.closed(name, server, question, settings, connections, streams)

    return regime


def classify(name: str, server: Server, settings: Settings) -> Contender:
    """Classify one row with each request, 64 in flight."""
    question = questions.classify(server, Model("sequential"), 1)
    return load.closed(name, server, question, settings)


def steady(name: str, server: Server, settings: Settings) -> Contender:
    """Send 50,000 requests/s, about a third of the capacity; the figure to look at is the p99."""
    question = questions.model_infer(server, Model("sequential"), 1)
    return load.contender(name, server, [Load(question, 4, rate=50_000)], settings)


def overload(name: str, server: Server, settings: Settings) -> Contender:
    """Send twice the requests that the server can answer; the rate is that of answers in time."""
    question = questions.model_infer(server, Model(MODEL), ROWS[0])
    (capacity,) = load.send(server, [Load(question, 4, 16)], settings.load, 1)
    offered = Load(
        question, CONNECTIONS, rate=2 * capacity.right / capacity.seconds, deadline_ms=DEADLINE_MS
    )

    def run(seconds: float) -> Run:
        before = server.cpu_seconds()
        (outcome,) = load.send(server, [offered], settings.load, seconds)
        every = outcome.run(server.cpu_seconds() - before)
        return replace(every, per_second=outcome.good / outcome.seconds)

    return Contender(name, run)


REGIMES: dict[str, Regime] = {
    "small": model_infer("sequential", 1, 4, 16),
    "classify": classify,
    "latency": model_infer("sequential", 1, 1, 1),
    "steady": steady,
    "large": model_infer("sequential", 1024, 4, 16),
    "connections": model_infer("sequential", 1, 256, 1),
    "one-connection": model_infer("sequential", 1, 1, 64),
    "digits": model_infer("digits", 1, 4, 16),
    "wide": model_infer("wide", 1, 4, 16),
    "overload": overload,
}


if __name__ == "__main__":
    main()
