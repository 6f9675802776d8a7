"""Asks a Sigmax server with an unmodified pytriton ModelClient.

Usage: python pytriton_calls.py ADDRESS. Prints the answer of the model softmax as JSON.
"""

import json
import sys

import numpy as np
from pytriton.client import FuturesModelClient, ModelClient

ROW = np.array([0, 0, 9, 1, 0], np.float32)


def main(address: str) -> None:
    """Ask for one row, for a batch, and side by side."""
    url = f"grpc://{address}"
    with ModelClient(url, "softmax", init_timeout_s=60) as client:
        client.wait_for_model(60)
        config = client.model_config
        one = client.infer_sample(ROW)["p"]
        batch = client.infer_batch(np.stack([ROW, ROW]))["p"]
    with FuturesModelClient(url, "softmax") as client:
        later = client.infer_sample(ROW).result(60)["p"]
    same = bool((batch == one).all() and (later == one).all())
    said = {"max_batch_size": config.max_batch_size, "best": int(one.argmax()), "same": same}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
