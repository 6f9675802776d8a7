"""A short soak: every answer is right, and neither memory nor open files grow."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_nothing_grows_and_every_answer_is_right() -> None:
    # Times are only told here: a machine that runs tests may do other things too.
    command = [sys.executable, "-m", "bench.soak", "20", "--times-may-vary"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every one right" in done.stdout
