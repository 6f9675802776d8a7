"""The command `sigmax health`, which loads neither NumPy nor the messages of other services."""

import argparse
import os

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from sigmax import _channel, _environment, _health, _retry
from sigmax._cli import parser
from sigmax._cli.printing import print_csv, print_lines, print_table
from sigmax._method import received


def health(options: argparse.Namespace) -> bool:
    """Print the status of a server, or of a model; return whether it is SERVING."""
    _retry.check_timeout(options.timeout)
    arguments = _environment.arguments(parser.variables(options, os.environ))
    connection = _channel.connection(**arguments)
    with _channel.open_channel(connection) as channel:
        method = _health.CHECK
        check = channel.unary_unary(method.path, method.serialize, method.parse)
        try:
            reply = check(
                StringValue(value=options.name),
                timeout=min(options.timeout, _retry.LONGEST_TIMEOUT),
                metadata=connection.metadata.get(),
            )
        except grpc.RpcError as failure:
            from sigmax._status import from_rpc_error  # errors need more messages than answers

            raise from_rpc_error(failure, connection) from failure
    status = _health.status_name(received(reply).value)
    if options.output == "json":
        print_lines([{"model": options.name, "status": status}])
    elif options.output == "csv":
        print_csv(("model", "status"), [(options.name, status)])
    else:
        print_table(None, [(status,)])
    return status == "SERVING"
