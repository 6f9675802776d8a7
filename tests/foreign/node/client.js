// Asks a Sigmax server rightly and wrongly, and prints what came of each call as JSON.
//
// Usage: node client.js ADDRESS MODEL INPUT WIDTH PROTO_FOLDER..., where the model takes
// FP32 [-1, WIDTH] and the folders hold the protos of both services and of google.rpc.
import { existsSync } from "node:fs";
import { join } from "node:path";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const [address, model, input, widthText, ...folders] = process.argv.slice(2);
const width = Number(widthText);
const GZIP = 2; // grpc.compressionAlgorithms.gzip

function services(...files) {
  return grpc.loadPackageDefinition(
    protoLoader.loadSync(files, { includeDirs: folders, keepCase: true }),
  );
}

// The details of an error: google.rpc.Status in the trailer grpc-status-details-bin.
const rpc = new protobuf.Root();
rpc.resolvePath = (_, file) =>
  folders.map((folder) => join(folder, file)).find((path) => existsSync(path)) ?? null;
rpc.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);

function reason(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (bytes === undefined) return "";
  const { details } = rpc.lookupType("google.rpc.Status").decode(bytes);
  const info = details.find(({ type_url }) => type_url.endsWith("/google.rpc.ErrorInfo"));
  return info ? rpc.lookupType("google.rpc.ErrorInfo").decode(info.value).reason : "";
}

// One row of FP32, little-endian: a 1 and then zeros.
function row(length) {
  const raw = Buffer.alloc(4 * length);
  raw.writeFloatLE(1);
  return raw;
}

function floats(raw) {
  return Array.from({ length: raw.length / 4 }, (_, index) => raw.readFloatLE(4 * index));
}

const calls = {
  Classify: (client, name, length, metadata, answered) =>
    client.Classify(
      {
        model_name: name,
        inputs: [{ name: input, dtype: "DATA_TYPE_FP32", shape: [1, length], raw: row(length) }],
        return_probabilities: true,
      },
      metadata,
      { deadline: Infinity },
      (error, answer) => answered(error, answer && floats(answer.probabilities.raw)),
    ),
  ModelInfer: (client, name, length, metadata, answered) =>
    client.ModelInfer(request(name, length), metadata, { deadline: Infinity }, (error, answer) =>
      answered(error, answer && floats(answer.raw_output_contents[0])),
    ),
  // Three requests on one stream; their answers are the same.
  ModelStreamInfer: (client, name, length, metadata, answered) => {
    // Errors come as statuses, with their details, as those of unary calls do.
    metadata.set("triton_grpc_error", "true");
    const stream = client.ModelStreamInfer(metadata, { deadline: Infinity });
    let last;
    stream.on("data", ({ infer_response }) => {
      last = floats(infer_response.raw_output_contents[0]);
    });
    stream.on("error", (error) => answered(error));
    stream.on("end", () => answered(null, last));
    for (let count = 0; count < 3; count++) stream.write(request(name, length));
    stream.end();
  },
};

function request(name, length) {
  return {
    model_name: name,
    inputs: [{ name: input, datatype: "FP32", shape: [1, length] }],
    raw_input_contents: [row(length)],
  };
}

function told(call, client, name, length, headers = {}) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
  return new Promise((resolve) => {
    calls[call](client, name, length, metadata, (error, probabilities) => {
      resolve(
        error
          ? { code: error.code, message: error.details, reason: reason(error) }
          : { code: 0, message: "", reason: "", probabilities },
      );
    });
  });
}

const { ClassifierService } = services("sigmax/v1/classifier.proto").sigmax.v1;
const { GRPCInferenceService } = services("inference/grpc_service.proto").inference;
const plain = grpc.credentials.createInsecure();
const results = {};
for (const [call, Service] of [
  ["Classify", ClassifierService],
  ["ModelInfer", GRPCInferenceService],
  ["ModelStreamInfer", GRPCInferenceService],
]) {
  const client = new Service(address, plain);
  const gzip = new Service(address, plain, { "grpc.default_compression_algorithm": GZIP });
  results[`${call} good`] = await told(call, client, model, width);
  results[`${call} shape`] = await told(call, client, model, width + 1);
  results[`${call} model`] = await told(call, client, "nobody", width);
  results[`${call} compressed`] = await told(call, gzip, model, width);
  // Sent as it is, so that it is the server that says it: the client keeps no time itself.
  results[`${call} deadline`] = await told(call, client, model, width, { "grpc-timeout": "1n" });
  results[`${call} again`] = await told(call, client, model, width);
  client.close();
  gzip.close();
}
console.log(JSON.stringify(results));
