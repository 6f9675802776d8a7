"""The variables by which the command, and clients that ask for it, find and enter a server.

Variables of the server are SIGMAX_ and the name of a setting, SIGMAX_TLS_KEY and SIGMAX_TOKEN_FILE
among them, with other meanings. A machine may have both, so those of a client are SIGMAX_CLIENT_.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sigmax._errors import InvalidCredentials

if TYPE_CHECKING:
    from sigmax._tls import Tls

ADDRESS: Final = "SIGMAX_ADDRESS"
TLS: Final = "SIGMAX_CLIENT_TLS"
TLS_CA: Final = "SIGMAX_CLIENT_TLS_CA"
TLS_CERTIFICATE: Final = "SIGMAX_CLIENT_TLS_CERTIFICATE"
TLS_KEY: Final = "SIGMAX_CLIENT_TLS_KEY"
TLS_SERVER_NAME: Final = "SIGMAX_CLIENT_TLS_SERVER_NAME"
TOKEN: Final = "SIGMAX_CLIENT_TOKEN"
TOKEN_FILE: Final = "SIGMAX_CLIENT_TOKEN_FILE"
DEFAULT_ADDRESS: Final = "localhost:8001"


def arguments(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments `address`, `tls` and `token` of a client. An empty variable is none.

    Raises:
        InvalidCredentials: A variable has a value that it cannot have, two contradict each other,
            or a file cannot be read.
    """
    from sigmax._token import token_file  # the names above are loaded without asyncio

    set_ = {name: value for name, value in variables.items() if value}
    if TOKEN in set_ and TOKEN_FILE in set_:
        raise InvalidCredentials.in_argument(
            "token", f"expected {TOKEN} or {TOKEN_FILE}, got both variables"
        )
    token = token_file(set_[TOKEN_FILE]) if TOKEN_FILE in set_ else set_.get(TOKEN)
    return {"address": set_.get(ADDRESS, DEFAULT_ADDRESS), "tls": _tls(set_), "token": token}


def _tls(variables: Mapping[str, str]) -> "Tls | None":
    from sigmax._tls import Tls

    parts = Tls(
        ca=variables.get(TLS_CA),
        certificate=variables.get(TLS_CERTIFICATE),
        key=variables.get(TLS_KEY),
        server_name=variables.get(TLS_SERVER_NAME, ""),
    )
    wanted = variables.get(TLS, "true" if parts != Tls() else "false")
    if wanted not in ("true", "false"):
        raise InvalidCredentials.in_argument("tls", f"expected {TLS}=true or false, got {wanted!r}")
    return parts if wanted == "true" else None
