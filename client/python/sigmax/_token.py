"""The token of a client: where it comes from, and how long it is kept.

A token is kept until it expires or is refused, and is in no text, pickle or error of the SDK.
"""

import asyncio
import base64
import json
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable, iscoroutinefunction
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from sigmax._errors import InvalidCredentials
from sigmax._tls import File

TokenSource: TypeAlias = str | Callable[[], str]
AsyncTokenSource: TypeAlias = TokenSource | Callable[[], Awaitable[str]]

_MARGIN: Final = 30.0  # most seconds before its end that a JSON Web Token is renewed
_MARGIN_SHARE: Final = 0.2  # and most of the time that it has left when it comes
_EXPECTED: Final = "expected a token of visible ASCII characters"


class TokenFile:
    """A file with a token, which is read again when it has changed (`token_file`)."""

    def __init__(self, path: File) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: object = None
        self._token = ""
        self()

    def __call__(self) -> str:
        """Return the token that the file holds now, or held last where it is empty now.

        Raises:
            InvalidCredentials: The file cannot be read, or holds no token.
        """
        with self._lock:
            try:
                facts = self._path.stat()
                seen = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
                # What is no file, such as a pipe, can be read once only.
                if self._seen != seen and (self._path.is_file() or not self._token):
                    found = self._path.read_bytes().decode("ascii", "replace").strip()
                    # Who writes a file in its place empties it first, and a call may come between.
                    if found or not self._token:
                        self._token = _checked(found, os.fspath(self._path))
                        self._seen = seen
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise InvalidCredentials.in_argument(
                    "token", f"cannot read {os.fspath(self._path)}: {why}"
                ) from error
            return self._token

    def forget(self) -> None:
        """Have the file read by the next call, whether or not it seems to have changed."""
        self._seen = None

    def __repr__(self) -> str:
        return f"sigmax.token_file({os.fspath(self._path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (token_file, (os.fspath(self._path),))  # without the token


def token_file(path: File) -> TokenFile:
    """Make the `token` of a client from a file, which is read again when it has changed.

    That is what Kubernetes' projected tokens need. Space around the token is left out.

    Args:
        path: Path of the file.

    Raises:
        InvalidCredentials: The file cannot be read, or holds no token. A call raises it, too, where
            that is so later; but while a file is empty, its last token is sent.
    """
    return TokenFile(path)


class Token:
    """The token of one client, fetched when a call first needs it, and kept.

    Args:
        source: The token, or a callable that returns it.
        is_async: Whether `get_async` is used, so that the callable may be asynchronous.

    Raises:
        InvalidCredentials: The source is neither, or its text is no token.
    """

    def __init__(self, source: AsyncTokenSource, *, is_async: bool = False) -> None:
        if not callable(source):
            _checked(source, "token")
        elif not is_async and _is_async(source):
            raise InvalidCredentials.in_argument(
                "token", "expected a callable that is not asynchronous, which AsyncClient takes"
            )
        self._source = source
        self._lock = threading.Lock()
        self._async_lock = asyncio.Lock()
        self._kept = "" if callable(source) else source
        self._end = math.inf  # time at which the kept one is renewed, in seconds since 1970

    def get(self) -> str:
        """Return the token, asking for it where none is kept. Threads ask one at a time.

        Raises:
            InvalidCredentials: What the callable returns is no token.
            Exception: What the callable raises.
        """
        if kept := self._fresh():
            return kept
        with self._lock:
            return self._fresh() or self._keep(self._ask())

    async def get_async(self) -> str:
        """Return the token as `get` does. A callable that is not asynchronous runs in a thread."""
        if kept := self._fresh():
            return kept
        if isinstance(self._source, TokenFile):
            return self._source()
        async with self._async_lock:
            if kept := self._fresh():
                return kept
            if _is_async(self._source):
                answer = self._ask()
            else:
                answer = await asyncio.to_thread(self._ask)
            return self._keep(await answer if isawaitable(answer) else answer)

    def renew(self, refused: str) -> bool:
        """Drop a token that a server has refused; return whether another can be asked for."""
        if not callable(self._source):
            return False
        if isinstance(self._source, TokenFile):
            self._source.forget()
        with self._lock:
            if self._kept == refused:
                self._kept = ""
        return True

    def _fresh(self) -> str:
        return self._kept if time.time() < self._end else ""

    def _ask(self) -> Any:
        return self._source() if callable(self._source) else self._source

    def _keep(self, token: object) -> str:
        text = _checked(token, "token: the callable's answer")
        if not isinstance(self._source, TokenFile):  # it keeps its token itself
            self._end = _end_of(text)
            self._kept = text
        return text

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client's token is not pickled: make a client in each process")


def _is_async(source: AsyncTokenSource) -> bool:
    return iscoroutinefunction(source) or iscoroutinefunction(type(source).__call__)


def _checked(token: object, name: str) -> str:
    """Return the token where it is one. The error does not show it."""
    if not isinstance(token, str):
        raise InvalidCredentials.in_argument(
            "token", f"{name}: {_EXPECTED}, got {type(token).__name__}"
        )
    if not token or not all("!" <= character <= "~" for character in token):
        came = "one with other characters" if token else "an empty one"
        raise InvalidCredentials.in_argument("token", f"{name}: {_EXPECTED}, got {came}")
    return token


def _end_of(token: str) -> float:
    """Return the time at which to renew a token: some time before a JSON Web Token's `exp`.

    The signature is the server's to verify. A token without such an end is kept until a server
    refuses it, and so is one that has ended already: then a clock is wrong, most likely this one.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = float(claims["exp"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return math.inf
    left = end - time.time()
    return end - min(_MARGIN, left * _MARGIN_SHARE) if left > 0 else math.inf
