package dev.sigmax;

import com.google.common.util.concurrent.FutureCallback;
import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.ListenableFuture;
import com.google.common.util.concurrent.MoreExecutors;
import dev.sigmax.v1.ClassifierServiceGrpc;
import dev.sigmax.v1.ClassifyRequest;
import dev.sigmax.v1.ClassifyResponse;
import dev.sigmax.v1.GetModelRequest;
import dev.sigmax.v1.ListModelsRequest;
import dev.sigmax.v1.Model;
import dev.sigmax.v1.ModelSummary;
import io.grpc.Channel;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;

/**
 * Asks a Sigmax server to classify. Threads may share a client; it has one connection to each
 * address of the server.
 *
 * <p>A call that fails with UNAVAILABLE or RESOURCE_EXHAUSTED is tried up to 4 times within its
 * deadline, after the time that the server names, or after 0.1 s and more. Every other failure, and
 * the last one, is a {@link SigmaxException}.
 */
public final class SigmaxClient implements AutoCloseable {
  private final ManagedChannel channel;
  private final Duration deadline;

  private SigmaxClient(ManagedChannel channel, Duration deadline) {
    this.channel = channel;
    this.deadline = deadline;
  }

  /**
   * Connects without TLS, with the default options of {@link #builder}.
   *
   * @throws IllegalArgumentException if the address is none
   */
  public static SigmaxClient connect(String address) {
    return builder(address).build();
  }

  /**
   * Returns the options of a client.
   *
   * @param address HOST:PORT, {@code unix:PATH}, or another target of grpc-java such as {@code
   *     dns:///HOST:PORT}. Calls go to all addresses of a name in turn
   */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /**
   * Classifies rows with the default options.
   *
   * @param model name of the model
   * @param inputs one tensor for each input of the model, in any order
   * @throws SigmaxException if the call fails
   */
  public Result classify(String model, Tensor... inputs) {
    return classify(model, ClassifyOptions.DEFAULT, inputs);
  }

  /**
   * Classifies rows.
   *
   * @param model name of the model
   * @param options what is asked for
   * @param inputs one tensor for each input of the model, in any order
   * @throws SigmaxException if the call fails
   */
  public Result classify(String model, ClassifyOptions options, Tensor... inputs) {
    ClassifyRequest request = request(model, options, inputs);
    Duration time = options.deadline().orElse(deadline);
    return Result.of(
        answer(
            () ->
                ClassifierServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(time)
                    .classify(request)));
  }

  /** Classifies rows with the default options, and does not wait for the answer. */
  public CompletableFuture<Result> classifyAsync(String model, Tensor... inputs) {
    return classifyAsync(model, ClassifyOptions.DEFAULT, inputs);
  }

  /**
   * Classifies rows, and does not wait for the answer.
   *
   * @return the result, or a {@link SigmaxException} if the call fails; cancelling it cancels the
   *     call
   */
  public CompletableFuture<Result> classifyAsync(
      String model, ClassifyOptions options, Tensor... inputs) {
    ListenableFuture<ClassifyResponse> call =
        ClassifierServiceGrpc.newFutureStub(channel)
            .withDeadlineAfter(options.deadline().orElse(deadline))
            .classify(request(model, options, inputs));
    CompletableFuture<Result> result = new CompletableFuture<>();
    result.whenComplete((done, error) -> call.cancel(true));
    Futures.addCallback(
        call,
        new FutureCallback<>() {
          @Override
          public void onSuccess(ClassifyResponse response) {
            result.complete(Result.of(response));
          }

          @Override
          public void onFailure(Throwable error) {
            result.completeExceptionally(SigmaxException.of(error));
          }
        },
        MoreExecutors.directExecutor());
    return result;
  }

  /**
   * Lists the models of the server in the order of their names, with the state of each version.
   *
   * @throws SigmaxException if the call fails
   */
  public List<ModelSummary> models() {
    return answer(
            () ->
                ClassifierServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(deadline)
                    .listModels(ListModelsRequest.getDefaultInstance()))
        .getModelsList();
  }

  /**
   * Describes the newest ready version of a model.
   *
   * @throws SigmaxException if the call fails; NOT_FOUND: there is no such model
   */
  public Model model(String name) {
    return model(name, "");
  }

  /**
   * Describes a version of a model.
   *
   * @param version a decimal number; empty: the newest that is ready
   * @throws SigmaxException if the call fails; NOT_FOUND: there is no such model or version
   */
  public Model model(String name, String version) {
    var request = GetModelRequest.newBuilder().setModelName(name).setModelVersion(version).build();
    return answer(
            () ->
                ClassifierServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(deadline)
                    .getModel(request))
        .getModel();
  }

  /** Asks by grpc.health.v1 whether the server is ready. */
  public ServingStatus health() {
    return health("");
  }

  /**
   * Asks by grpc.health.v1 whether a service is ready.
   *
   * @param service name of a service or a model; empty: the server
   * @throws SigmaxException if the call fails; NOT_FOUND: there is no such service
   */
  public ServingStatus health(String service) {
    var request = HealthCheckRequest.newBuilder().setService(service).build();
    return answer(
            () -> HealthGrpc.newBlockingStub(channel).withDeadlineAfter(deadline).check(request))
        .getStatus();
  }

  /** The connection, for the stubs of {@code dev.sigmax.v1}: it sends the token, and retries. */
  public Channel channel() {
    return channel;
  }

  /** Takes no more calls, and disconnects when those that run have ended. Does not wait. */
  @Override
  public void close() {
    channel.shutdown();
  }

  private static ClassifyRequest request(String model, ClassifyOptions options, Tensor... inputs) {
    var request =
        ClassifyRequest.newBuilder()
            .setModelName(model)
            .setModelVersion(options.version())
            .setHead(options.head())
            .setTopK(options.topK())
            .setReturnProbabilities(options.returnProbabilities());
    options.threshold().ifPresent(request::setThreshold);
    for (Tensor input : inputs) {
      request.addInputs(input.toMessage());
    }
    return request.build();
  }

  private static <T> T answer(Supplier<T> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException error) {
      throw SigmaxException.of(error);
    }
  }

  /** Options of a client. By default there is no TLS and no token. */
  public static final class Builder {
    private final Connection connection;
    private Duration deadline = Duration.ofSeconds(10);

    private Builder(String address) {
      connection = new Connection(address);
    }

    /** Speaks TLS, and trusts the authorities of this Java (or of its trust store's properties). */
    public Builder tls() {
      connection.tls = true;
      return this;
    }

    /** Speaks TLS, and trusts the authorities in this file, in PEM. */
    public Builder trust(Path authorities) {
      connection.authorities = authorities;
      return tls();
    }

    /**
     * Speaks TLS, and shows a certificate.
     *
     * @param certificate file of the certificate, and of those of its issuers, in PEM
     * @param key file of its key, in PEM as PKCS #8, without a password
     */
    public Builder certificate(Path certificate, Path key) {
      connection.certificate = certificate;
      connection.key = key;
      return tls();
    }

    /** Expects this name in the server's certificate, whatever the address is. */
    public Builder serverName(String name) {
      connection.serverName = name;
      return this;
    }

    /** Sends this token with every call, as {@code authorization: Bearer}. */
    public Builder token(String token) {
      Token.check(token);
      return token(() -> token);
    }

    /**
     * Sends the token that a function returns, which is called for every call, by several threads.
     * A call whose function throws fails with UNAUTHENTICATED, and is not sent.
     */
    public Builder token(Callable<String> token) {
      connection.token = token;
      return this;
    }

    /** Sets the most time of a call, its retries included; by default 10 s. */
    public Builder deadline(Duration deadline) {
      this.deadline = deadline;
      return this;
    }

    /**
     * Sets the most bytes of an answer, and of a request that may be retried; by default 64 MiB.
     */
    public Builder maxMessageBytes(int bytes) {
      connection.maxMessageBytes = bytes;
      return this;
    }

    /**
     * Returns a client, which connects with its first call.
     *
     * @throws IllegalArgumentException if the address is none, a file cannot be used for TLS, or a
     *     token would be sent in plaintext to another machine
     */
    public SigmaxClient build() {
      return new SigmaxClient(connection.open(), deadline);
    }
  }
}
