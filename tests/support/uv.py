"""uv, which makes environments of their own for what a test runs."""

import os
import shutil

import pytest


def find_uv() -> str:
    """The Makefile's uv, or the one on the path; where there is none the test is skipped."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing: run make test, which installs it")
    return uv
