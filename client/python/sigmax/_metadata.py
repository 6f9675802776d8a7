"""The metadata that a client sends with every call, its token among them."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from sigmax._errors import InvalidInput, SigmaxError
from sigmax._token import Token

Pair: TypeAlias = tuple[str, str | bytes]
Metadata: TypeAlias = Mapping[str, str | bytes] | Iterable[Pair]

AUTHORIZATION: Final = "authorization"
_BEARER: Final = "Bearer "
_KEY: Final = re.compile(r"[0-9a-z_.-]+")


def read(metadata: Metadata | None) -> tuple[Pair, ...]:
    """Return the pairs of an argument `metadata`, checked by gRPC's rules.

    Raises:
        InvalidInput: A key or a value is not as gRPC takes it. The message shows no value.
    """
    if metadata is None:
        return ()
    try:
        pairs = metadata.items() if isinstance(metadata, Mapping) else metadata
        return tuple((_key(key), _value(key, value)) for key, value in pairs)
    except (TypeError, ValueError) as error:
        raise _invalid("pairs of a key and a value", type(metadata).__name__) from error


def _key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _invalid("keys of lower-case letters, digits, '-', '_' and '.'", repr(key))
    if key.startswith("grpc-"):
        raise _invalid("keys that do not begin with 'grpc-', which is gRPC's own", repr(key))
    return key


def _value(key: str, value: object) -> str | bytes:
    if key.endswith("-bin"):
        if isinstance(value, bytes):
            return value
        raise _invalid(f"bytes as the value of '{key}'", type(value).__name__)
    if not isinstance(value, str):
        raise _invalid(f"a text as the value of '{key}'", type(value).__name__)
    if not all(" " <= character <= "~" for character in value):
        raise _invalid(f"printable ASCII as the value of '{key}'", "other characters")
    return value


def _invalid(wanted: str, came: str) -> InvalidInput:
    message = f"metadata: expected {wanted}; got {came}"
    return InvalidInput.in_field("metadata", "BAD_FIELD", message)


class CallMetadata:
    """What is sent with each call.

    Args:
        pairs: Metadata that stay the same.
        token: Token of the client, for the header `authorization`; None for none.
    """

    def __init__(self, pairs: tuple[Pair, ...], token: Token | None) -> None:
        self._pairs = pairs
        self._token = token
        self.has_identity = token is not None or any(key == AUTHORIZATION for key, _ in pairs)

    def get(self) -> tuple[Pair, ...]:
        """Return the metadata of the next call.

        Raises:
            Exception: What the callable that returns the token raises.
        """
        return self._with(self._token.get()) if self._token else self._pairs

    async def get_async(self) -> tuple[Pair, ...]:
        """Return the metadata as `get` does."""
        return self._with(await self._token.get_async()) if self._token else self._pairs

    def renew(self, error: SigmaxError, sent: tuple[Pair, ...]) -> bool:
        """Return whether a call that has ended with this error can be sent with another token."""
        if self._token is None or error.code != "UNAUTHENTICATED":
            return False
        [(_, header), *_] = sent
        return self._token.renew(str(header).removeprefix(_BEARER))

    def _with(self, token: str) -> tuple[Pair, ...]:
        return ((AUTHORIZATION, _BEARER + token), *self._pairs)
