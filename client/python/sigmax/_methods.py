"""The methods of a server that the clients call, but for its health (`_health`)."""

from typing import Final

from sigmax import inference_pb2
from sigmax._method import Method
from sigmax.v1 import classifier_pb2 as pb

_CLASSIFIER: Final = "/sigmax.v1.ClassifierService"
CLASSIFY: Final = Method(f"{_CLASSIFIER}/Classify", pb.ClassifyRequest, pb.ClassifyResponse)
CLASSIFY_STREAM: Final = Method(
    f"{_CLASSIFIER}/ClassifyStream", pb.ClassifyStreamRequest, pb.ClassifyStreamResponse
)
LIST_MODELS: Final = Method(
    f"{_CLASSIFIER}/ListModels", pb.ListModelsRequest, pb.ListModelsResponse
)
GET_MODEL: Final = Method(f"{_CLASSIFIER}/GetModel", pb.GetModelRequest, pb.GetModelResponse)
INFER: Final = Method(
    "/inference.GRPCInferenceService/ModelInfer",
    inference_pb2.ModelInferRequest,
    inference_pb2.ModelInferResponse,
)
