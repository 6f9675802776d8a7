"""The options that all measurements have on the command line."""

import argparse
import os
import sys

from bench.measure import Settings


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with these options."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--seconds", type=float, default=2, help="duration of one repeat")
    result.add_argument("--repeats", type=int, default=5, help="number of repeats of a contender")
    result.add_argument(
        "--busy-poll-microseconds", type=int, default=200, help="limit of the contender that polls"
    )
    return result


def settings(given: argparse.Namespace) -> Settings:
    """Return the settings from the parsed options, with servers on one core and load on another."""
    server, load = cores()
    if server == load:
        sys.exit("bench: it needs two cores, one for the server and one for the load")
    return Settings(server, load, given.seconds, given.repeats, given.busy_poll_microseconds)


def cores() -> tuple[set[int], set[int]]:
    """Return the first usable core, for servers, and the last, for load."""
    every = sorted(os.sched_getaffinity(0))
    return {every[0]}, {every[-1]}
