import { SigmaxError } from "./errors.js";
import {
  type Classification,
  type ClassifyResponse,
  DataType,
  type Tensor as TensorMessage,
} from "./gen/sigmax/v1/classifier_pb.js";
import { type DType, Tensor } from "./tensor.js";

/** A class and its probability. */
export interface ScoredClass {
  /** Index of the class, from 0. */
  readonly index: number;
  /** Name of the class; "" where the model declares no labels. */
  readonly label: string;
  /** Probability of the class, in [0, 1]; a value of float32. */
  readonly probability: number;
}

/** The answer to one row. */
export class ClassifiedRow {
  constructor(
    /** Most probable classes first, ties by the lower index; at most `topK`. */
    readonly classes: readonly ScoredClass[],
    /** Classes decided on, by index: one, or of a multi-label model any number. */
    readonly decision: readonly ScoredClass[],
  ) {}

  /**
   * Label of the one class decided on, of a binary or multi-class model.
   *
   * @throws SigmaxError FAILED_PRECONDITION: a multi-label model decided on none or several classes,
   *   which are in `decision`. `index` and `probability` throw it, too.
   */
  get label(): string {
    return this.#decided().label;
  }

  /** Index of the one class decided on. */
  get index(): number {
    return this.#decided().index;
  }

  /** Probability of the one class decided on. */
  get probability(): number {
    return this.#decided().probability;
  }

  #decided(): ScoredClass {
    const [only, ...others] = this.decision;
    if (only && others.length === 0) return only;
    throw new SigmaxError(
      `expected a decision for one class, got ${this.decision.length}: use decision, for several labels`,
      "FAILED_PRECONDITION",
    );
  }
}

/** The answer to a batch of rows. */
export interface Result {
  /** Name of the model that answered. */
  readonly model: string;
  /** Version that answered, as a decimal number. */
  readonly version: string;
  /** Name of the head that classified the rows; "" where the model's one head has no name. */
  readonly head: string;
  /** Answers to the rows, in the order of the request. */
  readonly rows: readonly ClassifiedRow[];
  /**
   * Output of the head, of the shape [rows, classes], or one probability for each row of a binary
   * head; undefined unless `returnProbabilities`. `probabilities.values` is the array of numbers.
   */
  readonly probabilities: Tensor | undefined;
}

/** Makes the result from the server's answer. */
export function toResult(answer: ClassifyResponse): Result {
  return {
    model: answer.modelName,
    version: answer.modelVersion,
    head: answer.head,
    rows: answer.rows.map(toRow),
    probabilities: answer.probabilities && toOwnTensor(answer.probabilities),
  };
}

function toRow({ classes, decision }: Classification): ClassifiedRow {
  return new ClassifiedRow(classes, decision);
}

function toOwnTensor({ name, dtype, shape, data }: TensorMessage): Tensor {
  const raw = data.case === "raw" ? data.value : new Uint8Array();
  return new Tensor(DataType[dtype] as DType, shape.map(Number), raw, name);
}
