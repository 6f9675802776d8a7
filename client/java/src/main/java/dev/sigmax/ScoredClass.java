package dev.sigmax;

/**
 * A class and its probability.
 *
 * @param index index of the class, from 0
 * @param label name of the class; empty where the model declares no labels
 * @param probability probability of the class, in [0, 1]
 */
public record ScoredClass(int index, String label, float probability) {}
