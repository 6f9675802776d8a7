import { create } from "@bufbuild/protobuf";
import {
  type CallOptions,
  type Client as Stub,
  createClient,
  type Transport,
} from "@connectrpc/connect";

import { invalid, SigmaxError } from "./errors.js";
import { Health, HealthCheckResponse_ServingStatus } from "./gen/grpc/health/v1/health_pb.js";
import {
  ClassifierService,
  ClassifyRequestSchema,
  DataType,
  type Model,
  type ModelSummary,
} from "./gen/sigmax/v1/classifier_pb.js";
import { type Result, toResult } from "./result.js";
import { Tensor, toTensor, type Values } from "./tensor.js";

const DEFAULT_TIMEOUT_MS = 10_000;
const LONGEST_TIMEOUT_MS = 86_400_000; // a day; gRPC and timers have an end not far beyond

/** Values of the model's one input; of each input by its name; or tensors with names. */
export type Inputs = Values | readonly Tensor[] | { readonly [name: string]: Values };

/** Options that every call has. */
export interface RequestOptions {
  /** Milliseconds until the call ends as DEADLINE_EXCEEDED; Infinity: never. */
  readonly timeoutMs?: number;
  /** Signal that ends the call as CANCELLED. */
  readonly signal?: AbortSignal;
}

/** Options of `Client.classify`. */
export interface ClassifyOptions extends RequestOptions {
  /** Version as a decimal number; by default the newest that is ready. */
  readonly version?: string;
  /** Name of the head that classifies; by default the first. */
  readonly head?: string;
  /** Most classes of each row; 0, the default: all. */
  readonly topK?: number;
  /** Threshold of every class, in [0, 1]; by default the model's own. */
  readonly threshold?: number;
  /** Whether the result has all probabilities, too. */
  readonly returnProbabilities?: boolean;
}

/** Whether a server, or one thing that it serves, can answer. */
export type HealthStatus = keyof typeof HealthCheckResponse_ServingStatus;

/** Asks a Sigmax server. `connect` makes one for Node. */
export class Client {
  readonly #classifier: Stub<typeof ClassifierService>;
  readonly #health: Stub<typeof Health>;
  readonly #timeoutMs: number;
  readonly #close: () => void;
  #isClosed = false;

  /**
   * @param transport Way to the server; any of Connect's, so also one for browsers.
   * @param options Deadline of calls that name none, in milliseconds (10 seconds); what `close` does.
   * @throws SigmaxError INVALID_ARGUMENT: the deadline is none.
   */
  constructor(
    readonly transport: Transport,
    options: { readonly timeoutMs?: number; readonly close?: () => void } = {},
  ) {
    this.#classifier = createClient(ClassifierService, transport);
    this.#health = createClient(Health, transport);
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#close = options.close ?? (() => {});
    toConnectTimeout(this.#timeoutMs);
  }

  /**
   * Classifies one row, or a batch of rows.
   *
   * @param model Name of the model.
   * @throws SigmaxError INVALID_ARGUMENT: the inputs or an option are wrong, as `fields` says;
   *   NOT_FOUND: there is no such model or version; or any other code of a call.
   */
  async classify(model: string, inputs: Inputs, options: ClassifyOptions = {}): Promise<Result> {
    const { threshold, topK = 0 } = options;
    if (!Number.isInteger(topK) || topK < 0 || topK >= 2 ** 32) {
      throw invalid("top_k", "BAD_FIELD", `expected 0 (all) or a number of classes, got ${topK}`);
    }
    const request = create(ClassifyRequestSchema, {
      modelName: model,
      modelVersion: options.version,
      head: options.head,
      topK,
      threshold: threshold === undefined ? undefined : Math.fround(threshold),
      returnProbabilities: options.returnProbabilities,
      inputs: toTensors(inputs).map(({ name, dtype, shape, data }) => ({
        name,
        dtype: DataType[dtype || "UNSPECIFIED"],
        shape: shape.map(BigInt),
        data: { case: "raw" as const, value: data },
      })),
    });
    const answer = await this.#call(options, (call) => this.#classifier.classify(request, call));
    return toResult(answer);
  }

  /** Lists all models of the server in the order of their names, with the state of each version. */
  async models(options: RequestOptions = {}): Promise<ModelSummary[]> {
    const answer = await this.#call(options, (call) => this.#classifier.listModels({}, call));
    return answer.models;
  }

  /**
   * Describes a version of a model: its inputs, heads, labels and limits.
   *
   * @param name Name of the model.
   * @throws SigmaxError NOT_FOUND: there is no such model or version; or any other code of a call.
   */
  async model(
    name: string,
    options: RequestOptions & { readonly version?: string } = {},
  ): Promise<Model> {
    const request = { modelName: name, modelVersion: options.version };
    const answer = await this.#call(options, (call) => this.#classifier.getModel(request, call));
    if (answer.model) return answer.model;
    throw new SigmaxError("expected a model in the server's answer, got none", "INTERNAL");
  }

  /**
   * Asks for the health of the server, or of one model.
   *
   * @param service Name of the model; "": the server.
   * @throws SigmaxError NOT_FOUND: the server does not know the name; or any other code of a call.
   */
  async health(service = "", options: RequestOptions = {}): Promise<HealthStatus> {
    const answer = await this.#call(options, (call) => this.#health.check({ service }, call));
    return HealthCheckResponse_ServingStatus[answer.status] as HealthStatus;
  }

  /** Closes the connection. Calls that wait, and later ones, end as CANCELLED. */
  close(): void {
    this.#isClosed = true;
    this.#close();
  }

  async #call<T>(
    { timeoutMs = this.#timeoutMs, signal }: RequestOptions,
    send: (options: CallOptions) => Promise<T>,
  ): Promise<T> {
    if (this.#isClosed) throw new SigmaxError("the client is closed: make another", "CANCELLED");
    try {
      return await send({ timeoutMs: toConnectTimeout(timeoutMs), signal });
    } catch (thrown) {
      throw SigmaxError.from(thrown);
    }
  }
}

/** Checks a deadline, and returns it as Connect takes it: whole milliseconds, and 0 for none. */
function toConnectTimeout(timeoutMs: number): number {
  if (timeoutMs === Infinity) return 0;
  if (timeoutMs > 0 && timeoutMs <= LONGEST_TIMEOUT_MS) return Math.ceil(timeoutMs);
  throw invalid(
    "timeoutMs",
    "BAD_FIELD",
    `expected milliseconds from 1 to ${LONGEST_TIMEOUT_MS}, or Infinity for none; got ${timeoutMs}`,
  );
}

function toTensors(inputs: Inputs): Tensor[] {
  if (typeof inputs !== "object" || inputs === null) {
    throw invalid("inputs", "BAD_FIELD", `expected rows, or an object of inputs, got ${inputs}`);
  }
  if (isTensors(inputs)) return [...inputs];
  if (isValues(inputs)) return [toTensor(inputs)];
  return Object.entries(inputs).map(([name, values]) => toTensor(values, name));
}

function isTensors(inputs: Inputs): inputs is readonly Tensor[] {
  return Array.isArray(inputs) && inputs.every((input) => input instanceof Tensor);
}

function isValues(inputs: Inputs): inputs is Values {
  return Array.isArray(inputs) || ArrayBuffer.isView(inputs) || inputs instanceof Tensor;
}
