"""The server of Sigmax: a Python control plane around a Rust data plane.

Python decides what is served and how, before the first request and after the last one; between
a request's first byte and its answer's last, only Rust runs. The command is `sigmax serve`, which
is `sigmax_server.cli.main`.
"""

import os

from sigmax_server.installed import version

__version__ = version("sigmax_server")

# ONNX Runtime reports to its maker unless this is set before its library is opened. Nobody who
# serves a model asked for that, so no setting of the environment turns it back on.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
