import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createRouterTransport,
  type HandlerContext,
} from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import {
  ClassifierService,
  type ClassifyRequest,
  ClassifyResponseSchema,
} from "../src/gen/sigmax/v1/classifier_pb.js";
import { Client, connect, retry, SigmaxError, Tensor } from "../src/index.js";

type Classify = (request: ClassifyRequest, context: HandlerContext) => Promise<object> | object;

/** A client of a service in this process. */
function clientOf(classify: Classify, options?: { timeoutMs?: number }): Client {
  const service = {
    classify: async (request: ClassifyRequest, context: HandlerContext) =>
      create(ClassifyResponseSchema, await classify(request, context)),
  };
  const transport = createRouterTransport(({ service: add }) => add(ClassifierService, service), {
    transport: { interceptors: [retry()] },
  });
  return new Client(transport, options);
}

/** A client of a service that refuses each try, and the tries. */
function refusing(code: Code, pushback?: string): { client: Client; tries: number[] } {
  const tries: number[] = [];
  const client = clientOf(() => {
    tries.push(performance.now());
    throw new ConnectError("no", code, pushback ? { "grpc-retry-pushback-ms": pushback } : {});
  });
  return { client, tries };
}

async function errorOf(call: Promise<unknown>): Promise<SigmaxError> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert(error instanceof SigmaxError, `expected a SigmaxError, got ${error}`);
  return error;
}

test("a request has the inputs and the options", async () => {
  let asked: ClassifyRequest | undefined;
  const client = clientOf((request) => ((asked = request), {}));
  await client.classify(
    "m",
    { x: [1], y: [2n] },
    { version: "3", head: "h", topK: 2, threshold: 0 },
  );
  assert(asked);
  assert.deepEqual(
    asked.inputs.map(({ name, shape }) => [name, shape]),
    [
      ["x", [1n, 1n]],
      ["y", [1n, 1n]],
    ],
  );
  const { modelName, modelVersion, head, topK, threshold, returnProbabilities } = asked;
  assert.deepEqual(
    { modelName, modelVersion, head, topK, threshold, returnProbabilities },
    {
      modelName: "m",
      modelVersion: "3",
      head: "h",
      topK: 2,
      threshold: 0,
      returnProbabilities: false,
    },
  );
  await client.classify("m", [Tensor.of([1], [1, 1], "a"), Tensor.of([1], [1, 1])]);
  assert.deepEqual(
    asked.inputs.map(({ name }) => name),
    ["a", ""],
  );
  assert.equal(asked.threshold, undefined);
});

test("a result has the decision of each row", async () => {
  const cat = { index: 1, label: "cat", probability: 0.75 };
  const client = clientOf(() => ({
    modelName: "m",
    modelVersion: "1",
    rows: [{ classes: [cat], decision: [cat] }, { decision: [] }, { decision: [cat, cat] }],
  }));
  const { rows, probabilities } = await client.classify("m", [1]);
  const [one, none, several] = rows;
  assert(one && none && several);
  assert.deepEqual([one.label, one.index, one.probability], ["cat", 1, 0.75]);
  assert.throws(() => none.label, /expected a decision for one class, got 0/);
  assert.throws(() => several.index, /expected a decision for one class, got 2/);
  assert.equal(probabilities, undefined);
});

test("an error has its reason and its fields", async () => {
  const violation = { field: "inputs[0].shape", description: "expected [2]" };
  const client = clientOf(() => {
    throw new ConnectError("wrong", Code.InvalidArgument, {}, [
      { desc: ErrorInfoSchema, value: { reason: "SHAPE_MISMATCH", domain: "sigmax" } },
      { desc: BadRequestSchema, value: { fieldViolations: [violation] } },
    ]);
  });
  const error = await errorOf(client.classify("m", [1]));
  assert.deepEqual(
    [error.message, error.code, error.reason, error.fields, error.isRetryable],
    ["wrong", "INVALID_ARGUMENT", "SHAPE_MISMATCH", { "inputs[0].shape": "expected [2]" }, false],
  );
});

for (const code of [Code.Unavailable, Code.ResourceExhausted]) {
  test(`a call that fails as ${Code[code]} has four tries`, async () => {
    const { client, tries } = refusing(code);
    const error = await errorOf(client.classify("m", [1]));
    assert.deepEqual([tries.length, error.isRetryable], [4, true]);
    const pauses = tries.slice(1).map((time, index) => time - (tries[index] ?? 0));
    [80, 160, 320].forEach((least, index) =>
      assert((pauses[index] ?? 0) >= least - 1, `${pauses}`),
    );
  });
}

for (const [code, pushback] of [
  [Code.ResourceExhausted, "-1"],
  [Code.Unavailable, "soon"],
  [Code.Internal, undefined],
] as const) {
  test(`a call that fails as ${Code[code]} with the pushback ${pushback} has one try`, async () => {
    const { client, tries } = refusing(code, pushback);
    const error = await errorOf(client.classify("m", [1]));
    assert.deepEqual([tries.length, error.isRetryable], [1, false]);
  });
}

test("the server names the pause, and the deadline ends it", async () => {
  const { client, tries } = refusing(Code.Unavailable, "3600000");
  const error = await errorOf(client.classify("m", [1], { timeoutMs: 300 }));
  assert.deepEqual([error.code, tries.length], ["DEADLINE_EXCEEDED", 1]);
});

test("the deadline of the client ends a call", async () => {
  const never: Classify = (_, { signal }) => once(signal, "abort");
  const error = await errorOf(clientOf(never, { timeoutMs: 20 }).classify("m", [1]));
  assert.equal(error.code, "DEADLINE_EXCEEDED");
});

test("a signal ends a call", async () => {
  const never: Classify = (_, { signal }) => once(signal, "abort");
  const signal = AbortSignal.timeout(20);
  const error = await errorOf(clientOf(never).classify("m", [1], { signal }));
  assert.equal(error.code, "CANCELLED");
});

for (const timeoutMs of [0, -1, NaN, 1e9]) {
  test(`a deadline of ${timeoutMs} ms is refused`, () => {
    assert.throws(() => connect("localhost", { timeoutMs }), /timeoutMs: expected milliseconds/);
  });
}

test("a number of classes below 0 is refused", async () => {
  const error = await errorOf(clientOf(() => ({})).classify("m", [1], { topK: -1 }));
  assert.deepEqual(Object.keys(error.fields), ["top_k"]);
});

test("a closed client refuses calls", async () => {
  const client = connect("localhost:1");
  client.close();
  assert.equal((await errorOf(client.models())).code, "CANCELLED");
});

test("a server that is not there is unavailable", async () => {
  const { listener, address } = await listening(() => {});
  await new Promise((closed) => listener.close(closed));
  const error = await errorOf(connect(address, { maxAttempts: 1 }).models());
  assert.deepEqual([error.code, error.isRetryable], ["UNAVAILABLE", true]);
  assert.match(error.message, /ECONNREFUSED/);
});

for (const lose of ["resetAndDestroy", "end"] as const) {
  test(`a connection that is lost (${lose}) is unavailable, and tried again`, async (context) => {
    let connections = 0;
    const { listener, address } = await listening((socket) => {
      connections++;
      socket.once("data", () => socket[lose]());
    });
    context.after(() => listener.close());
    const error = await errorOf(connect(address, { maxAttempts: 2 }).models());
    assert.deepEqual([error.code, error.isRetryable, connections], ["UNAVAILABLE", true, 2]);
  });
}

test("a message that is too large is not tried again", async (context) => {
  const { listener, address } = await listening(() => {});
  context.after(() => listener.close());
  const client = connect(address, { maxMessageBytes: 10 });
  context.after(() => client.close());
  const error = await errorOf(client.classify("m", [1, 2, 3]));
  assert.deepEqual([error.code, error.isRetryable], ["RESOURCE_EXHAUSTED", false]);
});

test("closing ends calls that wait, and they are not tried again", async (context) => {
  let connections = 0;
  const { listener, address } = await listening((socket) => {
    connections++;
    socket.once("data", () => client.close());
  });
  context.after(() => listener.close());
  const client = connect(address);
  assert.equal((await errorOf(client.models())).code, "CANCELLED");
  assert.equal(connections, 1);
});

async function listening(
  connected: (socket: Socket) => void,
): Promise<{ listener: Server; address: string }> {
  const listener = createServer(connected).listen(0, "127.0.0.1");
  await once(listener, "listening");
  return { listener, address: `127.0.0.1:${(listener.address() as AddressInfo).port}` };
}
