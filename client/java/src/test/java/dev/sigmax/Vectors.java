package dev.sigmax;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.sigmax.v1.DataType;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.TreeSet;

/**
 * Asks the server at SIGMAX_ADDRESS every case in the files of SIGMAX_VECTORS, and prints a line of
 * JSON for each: its name, whether the answer is the expected one, and otherwise what was found.
 */
final class Vectors {
  private Vectors() {}

  public static void main(String[] arguments) throws IOException {
    var json = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    List<Path> files;
    try (var found = Files.list(Path.of(System.getenv("SIGMAX_VECTORS")))) {
      files = found.filter(file -> file.toString().endsWith(".json")).sorted().toList();
    }
    try (SigmaxClient client = Servers.connect()) {
      for (Path file : files) {
        var cases = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
        for (JsonElement each : cases.getAsJsonArray("cases")) {
          System.out.println(json.toJson(run(client, each.getAsJsonObject())));
        }
      }
    }
  }

  private static JsonObject run(SigmaxClient client, JsonObject vector) {
    String part = vector.has("answer") ? "answer" : "error";
    JsonObject found = new JsonObject();
    try {
      found.add("answer", answer(ask(client, vector.getAsJsonObject("request"))));
    } catch (SigmaxException error) {
      found.add("error", error(error));
    } catch (RuntimeException unexpected) {
      found.addProperty("exception", unexpected.toString());
    }
    JsonObject line = new JsonObject();
    line.add("name", vector.get("name"));
    boolean ok = vector.get(part).equals(found.get(part));
    line.addProperty("ok", ok);
    if (!ok) {
      line.addProperty("found", found.toString());
    }
    return line;
  }

  private static Result ask(SigmaxClient client, JsonObject request) {
    var options =
        ClassifyOptions.builder()
            .version(request.get("version").getAsString())
            .head(request.get("head").getAsString())
            .topK(request.get("top_k").getAsInt())
            .returnProbabilities(request.get("return_probabilities").getAsBoolean());
    if (!request.get("threshold").isJsonNull()) {
      options.threshold(request.get("threshold").getAsFloat());
    }
    Tensor[] inputs =
        request.getAsJsonArray("inputs").asList().stream()
            .map(input -> tensor(input.getAsJsonObject()))
            .toArray(Tensor[]::new);
    return client.classify(request.get("model").getAsString(), options.build(), inputs);
  }

  private static Tensor tensor(JsonObject input) {
    String dtype = input.get("dtype").getAsString();
    return new Tensor(
        input.get("name").getAsString(),
        DataType.valueOf("DATA_TYPE_" + (dtype.isEmpty() ? "UNSPECIFIED" : dtype)),
        input.getAsJsonArray("shape").asList().stream().map(JsonElement::getAsLong).toList(),
        ByteBuffer.wrap(Base64.getDecoder().decode(input.get("data").getAsString())));
  }

  private static JsonObject answer(Result result) {
    JsonArray rows = new JsonArray();
    for (Classification classification : result.rows()) {
      JsonObject row = new JsonObject();
      row.add("classes", scored(classification.classes()));
      row.add("decision", scored(classification.decision()));
      rows.add(row);
    }
    JsonObject answer = new JsonObject();
    answer.addProperty("model", result.model());
    answer.addProperty("version", result.version());
    answer.addProperty("head", result.head());
    answer.add("rows", rows);
    answer.add(
        "probabilities",
        result.probabilities().<JsonElement>map(Vectors::json).orElse(JsonNull.INSTANCE));
    return answer;
  }

  private static JsonArray scored(List<ScoredClass> classes) {
    JsonArray array = new JsonArray();
    for (ScoredClass scored : classes) {
      JsonObject each = new JsonObject();
      each.addProperty("index", scored.index());
      each.addProperty("label", scored.label());
      int bits = Float.floatToRawIntBits(scored.probability());
      each.addProperty("bits", Integer.toUnsignedLong(bits));
      array.add(each);
    }
    return array;
  }

  private static JsonObject json(Tensor tensor) {
    byte[] data = new byte[tensor.data().remaining()];
    tensor.data().get(data);
    JsonArray shape = new JsonArray();
    tensor.shape().forEach(shape::add);
    JsonObject json = new JsonObject();
    json.addProperty("dtype", tensor.dtype().name().replace("DATA_TYPE_", ""));
    json.add("shape", shape);
    json.addProperty("data", Base64.getEncoder().encodeToString(data));
    return json;
  }

  private static JsonObject error(SigmaxException error) {
    JsonArray fields = new JsonArray();
    new TreeSet<>(error.fields().keySet()).forEach(fields::add);
    JsonObject json = new JsonObject();
    json.addProperty("code", error.code().name());
    json.addProperty("reason", error.reason());
    json.add("fields", fields);
    return json;
  }
}
