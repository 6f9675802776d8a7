/** Client of Sigmax, which serves classifiers over gRPC. The protocol's messages are in `sigmax/v1`. */
export {
  type ClassifyOptions,
  Client,
  type HealthStatus,
  type Inputs,
  type RequestOptions,
} from "./client.js";
export { connect, type ConnectOptions, type Tls } from "./connect.js";
export { type GrpcCode, SigmaxError } from "./errors.js";
export {
  type Head,
  type Model,
  ModelState,
  type ModelSummary,
  type ModelVersion,
  Task,
  type TensorDescription,
} from "./gen/sigmax/v1/classifier_pb.js";
export { ClassifiedRow, type Result, type ScoredClass } from "./result.js";
export { retry } from "./retry.js";
export { type DType, type Row, Tensor, type TypedArray, type Values } from "./tensor.js";
