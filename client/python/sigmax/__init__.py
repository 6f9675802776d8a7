"""The client of a Sigmax server: `Client` for threads, `AsyncClient` for asyncio.

Names are loaded when they are first used. The command `sigmax` imports this package, too, and so
starts a server without loading gRPC and NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigmax._aio import AsyncClient
    from sigmax._client import Client
    from sigmax._errors import (
        AccessDenied,
        Cancelled,
        DeadlineExceeded,
        InvalidAddress,
        InvalidCredentials,
        InvalidInput,
        ModelNotFound,
        NotSupported,
        Overloaded,
        ServerFault,
        SigmaxError,
        Unavailable,
    )
    from sigmax._inputs import Inputs
    from sigmax._model import Head, Model, ModelSummary, ModelVersion, TensorSpec
    from sigmax._result import Classification, Result, ScoredClass, Timings
    from sigmax._tls import Tls
    from sigmax._token import token_file

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Cancelled",
    "Classification",
    "Client",
    "DeadlineExceeded",
    "Head",
    "Inputs",
    "InvalidAddress",
    "InvalidCredentials",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelSummary",
    "ModelVersion",
    "NotSupported",
    "Overloaded",
    "Result",
    "ScoredClass",
    "ServerFault",
    "SigmaxError",
    "TensorSpec",
    "Timings",
    "Tls",
    "Unavailable",
    "token_file",
]

_HOMES = {
    "AsyncClient": "_aio",
    "Client": "_client",
    "Head": "_model",
    "Inputs": "_inputs",
    "Model": "_model",
    "ModelSummary": "_model",
    "ModelVersion": "_model",
    "TensorSpec": "_model",
    "Classification": "_result",
    "Result": "_result",
    "ScoredClass": "_result",
    "Timings": "_result",
    "Tls": "_tls",
    "token_file": "_token",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'sigmax' has no attribute '{name}'")
    # Names that `_HOMES` lacks are the error classes, all in one module.
    value: object = getattr(import_module(f"sigmax.{_HOMES.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
