"""Load for compose.yaml: asks one model as fast as h2load can, for half a minute.

It learns the model's input from the server; `make bench` is what measures.
"""

import math
import os
import sys
from pathlib import Path

import sigmax
from sigmax.v1 import classifier_pb2

BODY = Path("/tmp/body")


def main() -> None:
    """Becomes h2load."""
    address, name = os.environ["SIGMAX_ADDRESS"], os.environ["SIGMAX_MODEL"]
    with sigmax.Client(address) as client:
        client.wait_until_ready(model=name)
        model = client.model(name)
    if [tensor.dtype for tensor in model.inputs] != ["FP32"]:
        sys.exit(f"load: expected a model of one FP32 input, {name} has {model.inputs}")
    # Any row will do: zeros, and 1 where a size may be any.
    shape = [max(size, 1) for size in model.inputs[0].shape]
    count = math.prod(shape)
    tensor = classifier_pb2.Tensor(dtype="DATA_TYPE_FP32", shape=shape, raw=bytes(4 * count))
    request = classifier_pb2.ClassifyRequest(model_name=name, inputs=[tensor])
    message = request.SerializeToString()
    BODY.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    command = ["h2load", "-c", "4", "-m", "16", "-D", "30", "-d", str(BODY)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    os.execvp("h2load", [*command, f"http://{address}/sigmax.v1.ClassifierService/Classify"])


if __name__ == "__main__":
    main()
