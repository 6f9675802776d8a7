"""The tool uv, which makes environments for the programs that tests run."""

import os
import shutil

import pytest


def find_uv() -> str:
    """Return the Makefile's uv, or the one on the path; skip the test where there is none."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing: run make test, which installs it")
    return uv
