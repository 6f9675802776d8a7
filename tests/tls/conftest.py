"""A server over TLS, and the authority that its clients trust."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.certificates import Authority, Pair
from support.server import Serve, Server

Secure = Callable[..., Server]
"""A function that starts a server over TLS, with a pair or a new one, and these arguments."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority of the server's certificate."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of one small model."""
    files.save(files.softmax(), tmp_path / "models", "softmax")
    return tmp_path / "models"


@pytest.fixture
def secure(serve: Serve, models: Path, authority: Authority) -> Secure:
    """Starts servers over TLS for one test."""

    def start(*arguments: str | Path, pair: Pair | None = None, **others: Any) -> Server:
        flags = (pair or authority.issue()).flags
        others = {"authority": authority.path, **others}
        return serve(models, "--shards=1", *flags, *arguments, **others)

    return start
