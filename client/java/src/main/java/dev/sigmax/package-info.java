/**
 * Client of Sigmax, which serves classifiers over gRPC.
 *
 * <p>{@link dev.sigmax.SigmaxClient} connects and asks, {@link dev.sigmax.Tensor} holds the rows,
 * {@link dev.sigmax.Result} the answer. Descriptions of models are the messages of the protocol, in
 * {@code dev.sigmax.v1}.
 */
package dev.sigmax;
