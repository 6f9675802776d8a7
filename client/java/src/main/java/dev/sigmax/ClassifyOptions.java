package dev.sigmax;

import java.time.Duration;
import java.util.Optional;

/**
 * What a call of {@code classify} asks for beside the rows.
 *
 * @param version version of the model, as a decimal number; empty: the newest that is ready
 * @param head name of the model's head; empty: the first
 * @param topK most classes to return for each row, as an unsigned number; 0: all
 * @param threshold threshold of every class, in [0, 1]; an error for multi-class models; empty: the
 *     model's own
 * @param returnProbabilities whether to return the tensor of all probabilities as well
 * @param deadline most time of the call, its retries included; empty: the client's
 */
public record ClassifyOptions(
    String version,
    String head,
    int topK,
    Optional<Float> threshold,
    boolean returnProbabilities,
    Optional<Duration> deadline) {
  /** The options of a call that names none. */
  public static final ClassifyOptions DEFAULT = builder().build();

  /** Returns a builder of the default options. */
  public static Builder builder() {
    return new Builder();
  }

  /** Sets options one by one; each option is described at {@link ClassifyOptions}. */
  public static final class Builder {
    private String version = "";
    private String head = "";
    private int topK;
    private Optional<Float> threshold = Optional.empty();
    private boolean returnProbabilities;
    private Optional<Duration> deadline = Optional.empty();

    private Builder() {}

    /** Asks a version of the model, a decimal number, instead of the newest that is ready. */
    public Builder version(String version) {
      this.version = version;
      return this;
    }

    /** Asks a head of the model instead of the first. */
    public Builder head(String head) {
      this.head = head;
      return this;
    }

    /** Sets the most classes to return for each row; 0: all. */
    public Builder topK(int topK) {
      this.topK = topK;
      return this;
    }

    /** Sets the threshold of every class, in [0, 1], instead of the model's own. */
    public Builder threshold(float threshold) {
      this.threshold = Optional.of(threshold);
      return this;
    }

    /** Asks for the tensor of all probabilities as well. */
    public Builder returnProbabilities(boolean returnProbabilities) {
      this.returnProbabilities = returnProbabilities;
      return this;
    }

    /** Sets the most time of the call, its retries included. */
    public Builder deadline(Duration deadline) {
      this.deadline = Optional.of(deadline);
      return this;
    }

    /** Returns the options. */
    public ClassifyOptions build() {
      return new ClassifyOptions(version, head, topK, threshold, returnProbabilities, deadline);
    }
  }
}
