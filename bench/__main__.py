"""Measures the named regimes, or all; prints one table, and writes it to bench/results/ as JSON.

    python -m bench [REGIME ...]

The exit code is 1 where a goal is missed.
"""

import sys

from bench import options, regimes, report, servers


def main() -> None:
    """Measure the regimes; all of them take less than ten minutes."""
    parser = options.parser(__doc__)
    parser.add_argument("regimes", nargs="*", metavar="REGIME", help=", ".join(regimes.ALL))
    given = parser.parse_args()
    if unknown := set(given.regimes) - set(regimes.ALL):
        parser.error(f"expected regimes of {', '.join(regimes.ALL)}, got {', '.join(unknown)}")
    chosen = options.settings(given)
    servers.build_examples()
    where = report.setting()
    lines: list[report.Line] = []
    for name in given.regimes or regimes.ALL:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        lines += regimes.ALL[name](chosen)
    print("\n".join(f"{key}: {text}  " for key, text in where.items()))
    print(f"\n{report.table(lines)}\n\nkept in {report.write(lines, where)}")
    sys.exit(not all(goal.reached for line in lines for goal in line.goals))


if __name__ == "__main__":
    main()
