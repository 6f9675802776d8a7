"""The server of Sigmax: a control plane in Python around a data plane in Rust.

Python decides which models are served and how. Between the first byte of a request and the last
byte of its answer, only Rust runs. The command is `sigmax serve`, which is
`sigmax_server.cli.main`.
"""

import os

from sigmax_server.installed import version

__version__ = version("sigmax_server")

# ONNX Runtime sends telemetry to Microsoft unless this is set before its library is opened. Users
# of this server did not agree to telemetry, so the environment cannot turn it on again.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
