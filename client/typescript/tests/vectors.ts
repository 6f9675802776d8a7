// Asks the server at $SIGMAX_ADDRESS all vectors in the folder $SIGMAX_VECTORS, and prints a line of
// JSON for each.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

import {
  type Client,
  type DType,
  type Result,
  type ScoredClass,
  SigmaxError,
  Tensor,
} from "../src/index.js";
import { fromEnvironment } from "./environment.js";

interface TensorVector {
  name: string;
  dtype: DType;
  shape: number[];
  data: string;
}

interface Case {
  name: string;
  request: {
    model: string;
    version: string;
    head: string;
    top_k: number;
    threshold: number | null;
    return_probabilities: boolean;
    inputs: TensorVector[];
  };
  answer?: unknown;
  error?: { code: string; reason: string; fields: string[] };
}

async function ask(client: Client, { request }: Case): Promise<Pick<Case, "answer" | "error">> {
  const inputs = request.inputs.map(
    ({ dtype, shape, data, name }) => new Tensor(dtype, shape, Buffer.from(data, "base64"), name),
  );
  try {
    const result = await client.classify(request.model, inputs, {
      version: request.version,
      head: request.head,
      topK: request.top_k,
      threshold: request.threshold ?? undefined,
      returnProbabilities: request.return_probabilities,
    });
    return { answer: answerOf(result) };
  } catch (error) {
    if (!(error instanceof SigmaxError)) throw error;
    const { code, reason, fields } = error;
    return { error: { code, reason, fields: Object.keys(fields).sort() } };
  }
}

function answerOf({ model, version, head, rows, probabilities }: Result): unknown {
  return {
    model,
    version,
    head,
    rows: rows.map(({ classes, decision }) => ({
      classes: classes.map(classOf),
      decision: decision.map(classOf),
    })),
    probabilities: probabilities
      ? {
          dtype: probabilities.dtype,
          shape: probabilities.shape,
          data: Buffer.from(probabilities.data).toString("base64"),
        }
      : null,
  };
}

function classOf({ index, label, probability }: ScoredClass): unknown {
  return { index, label, bits: new Uint32Array(Float32Array.of(probability).buffer)[0] };
}

function expected({ answer, error }: Case): Pick<Case, "answer" | "error"> {
  return error ? { error: { ...error, fields: [...error.fields].sort() } } : { answer };
}

/** Prints a line of JSON in ASCII: some readers end lines at other characters, too. */
function print(line: object): void {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  console.log(JSON.stringify(line).replace(/[\u007f-\uffff]/g, escaped));
}

const folder = process.env["SIGMAX_VECTORS"];
if (!folder) throw new Error("SIGMAX_VECTORS: expected the folder of the vectors, got none");
const client = fromEnvironment();
for (const file of readdirSync(folder).filter((name) => name.endsWith(".json"))) {
  const { cases } = JSON.parse(readFileSync(join(folder, file), "utf8")) as { cases: Case[] };
  for (const each of cases) {
    const found = await ask(client, each);
    const ok = isDeepStrictEqual(found, expected(each));
    print({ name: each.name, ok, ...(ok ? {} : { found: JSON.stringify(found) }) });
  }
}
client.close();
