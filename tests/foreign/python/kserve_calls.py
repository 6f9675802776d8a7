"""Asks a Sigmax server with an unmodified InferenceGRPCClient of KServe.

Usage: python kserve_calls.py ADDRESS. Prints the answers of the model softmax as JSON.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

ROW = np.array([[0, 0, 9, 1, 0]], np.float32)


async def ask(address: str) -> dict[str, object]:
    """Ask with raw and with typed contents."""
    client = InferenceGRPCClient(address)
    best = {}
    for form, binary in (("raw", True), ("typed", False)):
        tensor = InferInput("x", list(ROW.shape), "FP32")
        tensor.set_data_from_numpy(ROW, binary_data=binary)
        request = InferRequest(model_name="softmax", infer_inputs=[tensor])
        reply = await client.infer(request)
        best[form] = int(reply.outputs[0].as_numpy().argmax())
    return {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready("softmax"),
        "best": best,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
