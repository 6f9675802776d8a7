"""Runs a command on a busy machine, and stops its processes for half a second now and then.

    python tests/busy.py COMMAND...

Four processes spin beside the command. Every few seconds one of the command's processes, or all of
them, are stopped for half a second. The output and the exit code are the command's own. A test that
fails here and not elsewhere depends on the speed of the machine.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

SPINNING = 4
STOPPED_SECONDS = 0.5
MOST_SECONDS_BETWEEN = 4.0
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10**6))"


def main() -> int:
    # A handler, so that what is stopped is continued and the spinning ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    command = subprocess.Popen(sys.argv[1:], start_new_session=True)
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(SPINNING)]
    try:
        while True:
            try:
                return command.wait(random.uniform(0, MOST_SECONDS_BETWEEN))
            except subprocess.TimeoutExpired:
                stop_some(command.pid)
    finally:
        if command.poll() is None:
            command.terminate()
        for each in spinning:
            each.kill()


def stop_some(session: int) -> None:
    """Stop a process of the session, or all of them, for a while."""
    processes = members(session)
    if processes and random.random() < 0.5:
        processes = [random.choice(processes)]
    try:
        send(processes, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
    finally:
        send(processes, signal.SIGCONT)


def members(session: int) -> list[int]:
    """The processes of a session, by what proc(5) says of all."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == session:
            found.append(int(stat.parent.name))
    return found


def send(processes: list[int], number: signal.Signals) -> None:
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)


if __name__ == "__main__":
    sys.exit(main())
