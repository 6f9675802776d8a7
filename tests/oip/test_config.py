"""config.pbtxt and ModelConfig: read, completed, and held against what is served."""

from typing import Any

from sigmax_stubs import grpc_service_pb2 as pb
from support.server import Server
from support.wire import triton


def config(server: Server, model: str, version: str = "") -> Any:
    request = pb.ModelConfigRequest(name=model, version=version)
    return triton(server).ModelConfig(request, timeout=60).config
