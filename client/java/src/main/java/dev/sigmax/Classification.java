package dev.sigmax;

import java.util.List;

/**
 * The answer to one row.
 *
 * @param classes most probable classes first, ties by the lower index; at most {@code topK}
 * @param decision classes decided on, in the order of their indices: exactly one of a binary or
 *     multi-class head; of a multi-label head every class over its threshold, perhaps none
 */
public record Classification(List<ScoredClass> classes, List<ScoredClass> decision) {
  /** Makes an answer of copies of the lists. */
  public Classification {
    classes = List.copyOf(classes);
    decision = List.copyOf(decision);
  }

  static Classification of(dev.sigmax.v1.Classification row) {
    return new Classification(scored(row.getClassesList()), scored(row.getDecisionList()));
  }

  private static List<ScoredClass> scored(List<dev.sigmax.v1.ScoredClass> classes) {
    return classes.stream()
        .map(c -> new ScoredClass(c.getIndex(), c.getLabel(), c.getProbability()))
        .toList();
  }

  /**
   * The one class decided on.
   *
   * @throws IllegalStateException if not exactly one class is, as may be with a multi-label head:
   *     {@link #decision} has them all
   */
  public ScoredClass decided() {
    if (decision.size() != 1) {
      throw new IllegalStateException(
          "expected one class decided on, got " + decision.size() + ": use decision()");
    }
    return decision.get(0);
  }

  /** Label of {@link #decided}; empty where the model declares no labels. */
  public String label() {
    return decided().label();
  }

  /** Index of {@link #decided}, from 0. */
  public int index() {
    return decided().index();
  }

  /** Probability of {@link #decided}, in [0, 1]. */
  public float probability() {
    return decided().probability();
  }
}
