"""Measures the regimes that are named, or all; prints one table, and writes bench/results/.

    python -m bench [REGIME ...]

Exits with 1 where a goal is missed.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from bench import regimes, report, servers
from bench.measure import Settings


def main() -> None:
    """All of it takes less than ten minutes."""
    parser = arguments(__doc__ or "")
    parser.add_argument("regimes", nargs="*", metavar="REGIME", help=", ".join(regimes.ALL))
    given = parser.parse_args()
    if unknown := set(given.regimes) - set(regimes.ALL):
        parser.error(f"expected regimes of {', '.join(regimes.ALL)}, got {', '.join(unknown)}")
    chosen = settings(given)
    servers.build_examples()
    where = report.setting()
    lines: list[report.Line] = []
    for name in given.regimes or regimes.ALL:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        lines += regimes.ALL[name](chosen)
    print("\n".join(f"{key}: {text}  " for key, text in where.items()))
    print(f"\n{report.table(lines)}\n\nkept in {report.write(lines, where)}")
    sys.exit(not all(goal.reached for line in lines for goal in line.goals))


def arguments(description: str) -> argparse.ArgumentParser:
    """What every measurement may be told."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=5, help="of every contender")
    parser.add_argument(
        "--busy-poll-microseconds", type=int, default=200, help="of the contender that polls"
    )
    return parser


def settings(given: argparse.Namespace) -> Settings:
    """Servers on the first core that there is, load on the last."""
    cores: Sequence[int] = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench: it needs two cores, one for the server and one for the load")
    return Settings(
        server={cores[0]},
        load={cores[-1]},
        seconds=given.seconds,
        repeats=given.repeats,
        busy_poll_microseconds=given.busy_poll_microseconds,
    )


if __name__ == "__main__":
    main()
