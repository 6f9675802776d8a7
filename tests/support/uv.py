"""The tool uv, which makes environments for the programs that tests run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def find_uv() -> str:
    """Return the Makefile's uv, or the one on the path; skip the test where there is none."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing: run make test, which installs it")
    return uv


def make_environment(requirements: Path, folder: Path) -> Path:
    """Make an environment for this Python with what a file of requirements names.

    Returns:
        The environment's Python. The test is skipped where uv is missing.
    """
    uv, python = find_uv(), folder / "bin/python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    into = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
    subprocess.run([*into, "-r", str(requirements)], check=True, timeout=500)
    return python
