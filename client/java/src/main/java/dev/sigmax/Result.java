package dev.sigmax;

import dev.sigmax.v1.ClassifyResponse;
import java.util.List;
import java.util.Optional;

/**
 * The answer to a batch of rows.
 *
 * @param model name of the model that answered
 * @param version version that answered, as a decimal number
 * @param head name of the head that answered; empty where the model's one head has no name
 * @param rows answers to the rows, in the order of the request
 * @param probabilities the head's output, unchanged: of the shape [rows, classes], or [rows, 1] of
 *     a binary head; present where {@link ClassifyOptions#returnProbabilities} asked for it
 */
public record Result(
    String model,
    String version,
    String head,
    List<Classification> rows,
    Optional<Tensor> probabilities) {
  /** Makes an answer of a copy of the rows. */
  public Result {
    rows = List.copyOf(rows);
  }

  static Result of(ClassifyResponse response) {
    return new Result(
        response.getModelName(),
        response.getModelVersion(),
        response.getHead(),
        response.getRowsList().stream().map(Classification::of).toList(),
        response.hasProbabilities()
            ? Optional.of(Tensor.of(response.getProbabilities()))
            : Optional.empty());
  }
}
