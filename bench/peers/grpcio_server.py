"""A hand-written server to compare with: grpcio, a pool of threads, ONNX Runtime in the process.

The server answers `inference.GRPCInferenceService/ModelInfer` for one FP32 model, unchecked:

    python bench/peers/grpcio_server.py MODEL.onnx
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime  # type: ignore[import-untyped]

sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
messages: Any
services: Any
messages, services = grpc.protos_and_services("inference/grpc_service.proto")

# More threads answered fewer requests when measured: they share one interpreter lock and one core.
THREADS = 4


def answer_with(model: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Return the handler of ModelInfer for this model file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def model_infer(request: Any, context: grpc.ServicerContext) -> Any:
        tensors = {
            tensor.name: np.frombuffer(raw, np.float32).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        response = messages.ModelInferResponse(
            model_name=request.model_name, model_version="1", id=request.id
        )
        for name, values in zip(names, session.run(names, tensors), strict=True):
            response.outputs.add(name=name, datatype="FP32", shape=values.shape)
            response.raw_output_contents.append(values.tobytes())
        return response

    return model_infer


def main() -> None:
    """Serve on a free port until the process is ended."""
    (model,) = sys.argv[1:]

    class Service(services.GRPCInferenceServiceServicer):  # type: ignore[misc]
        ModelInfer = staticmethod(answer_with(model))

    server = grpc.server(ThreadPoolExecutor(THREADS))
    services.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"ready: gRPC 127.0.0.1:{port}, HTTP none;", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
