package dev.sigmax;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;

/** Sends a token with every call. */
final class Token extends CallCredentials {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Callable<String> token;

  Token(Callable<String> token) {
    this.token = token;
  }

  /** Returns the token, or throws an IllegalArgumentException that does not quote it. */
  static String check(String token) {
    if (token == null || !token.matches("[!-~]+")) {
      throw new IllegalArgumentException(
          "token: expected printable ASCII without spaces or line ends, got another text");
    }
    return token;
  }

  @Override
  public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
    executor.execute(
        () -> {
          Metadata metadata = new Metadata();
          try {
            metadata.put(AUTHORIZATION, "Bearer " + check(token.call()));
          } catch (Exception error) {
            applier.fail(
                Status.UNAUTHENTICATED
                    .withDescription("the token function failed")
                    .withCause(error));
            return;
          }
          applier.apply(metadata);
        });
  }
}
