// Needs a server: SIGMAX_ADDRESS and, where it asks for them, SIGMAX_CLIENT_TLS_CA and _TOKEN.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";

import { createClient } from "@connectrpc/connect";

import { ClassifierService, Task } from "../src/gen/sigmax/v1/classifier_pb.js";
import { fromEnvironment } from "./environment.js";

const skip = process.env["SIGMAX_ADDRESS"] ? false : "SIGMAX_ADDRESS is not set";

describe("a server", { skip }, () => {
  if (skip) return;
  const client = fromEnvironment();
  after(() => client.close());

  test("lists and describes its models", async () => {
    const [first] = await client.models();
    assert(first, "expected a model");
    const described = await client.model(first.name);
    assert.equal(described.name, first.name);
    assert(described.inputs.length > 0);
  });

  test("says its health", async () => {
    assert.match(await client.health(), /^(NOT_)?SERVING$/);
    await assert.rejects(client.health("no model"), { code: "NOT_FOUND" });
  });

  test("names an unknown model", async () => {
    const call = client.classify("no model", [1]);
    await assert.rejects(call, { code: "NOT_FOUND", reason: "UNKNOWN_MODEL" });
  });

  test("names a wrong field", async () => {
    const models = await client.models();
    const classifier = models.find(({ task }) => task !== Task.UNSPECIFIED);
    assert(classifier, "expected a model with a task");
    const call = client.classify(classifier.name, { "no input": [1] });
    await assert.rejects(call, ({ code, fields }: { code: string; fields: object }) => {
      assert.equal(code, "INVALID_ARGUMENT");
      return Object.keys(fields).length > 0;
    });
  });

  test("answers a stream by the generated stub", async () => {
    const requests = ["a", "b"].map((id) => ({ id, request: { modelName: "no model" } }));
    async function* send() {
      yield* requests;
    }
    const ids = [];
    for await (const { id, result } of createClient(
      ClassifierService,
      client.transport,
    ).classifyStream(send())) {
      assert.equal(result.case, "error");
      ids.push(id);
    }
    assert.deepEqual(ids.sort(), ["a", "b"]);
  });
});
