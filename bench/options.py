"""What every measurement may be told on its command line."""

import argparse
import os
import sys

from bench.measure import Settings


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of these options."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--seconds", type=float, default=2, help="of one repeat")
    result.add_argument("--repeats", type=int, default=5, help="of every contender")
    result.add_argument(
        "--busy-poll-microseconds", type=int, default=200, help="of the contender that polls"
    )
    return result


def settings(given: argparse.Namespace) -> Settings:
    """What was given, with servers on one core and load on another."""
    server, load = cores()
    if server == load:
        sys.exit("bench: it needs two cores, one for the server and one for the load")
    return Settings(server, load, given.seconds, given.repeats, given.busy_poll_microseconds)


def cores() -> tuple[set[int], set[int]]:
    """The first core that there is, for servers, and the last, for load."""
    every = sorted(os.sched_getaffinity(0))
    return {every[0]}, {every[-1]}
