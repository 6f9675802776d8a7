"""What the control plane says on standard error."""

import sys
from collections.abc import Iterable

from sigmax_server import model_config
from sigmax_server.repository import Found
from sigmax_server.text import plain


def say(text: str) -> None:
    """Say a line; what it quotes can make it no other."""
    print(f"sigmax serve: {plain(text)}", file=sys.stderr, flush=True)


def warn_of_unused(models: Iterable[Found]) -> None:
    """Say, once a model, which fields of its configuration are without effect."""
    # Versions of a model have one configuration.
    for found in {found.name: found for found in models}.values():
        if fields := model_config.unused(found.config):
            say(f"warning: {found.source}/config.pbtxt: without effect: {', '.join(fields)}")
