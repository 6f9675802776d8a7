package dev.sigmax;

import java.nio.file.Path;

/** The server that the environment names. */
final class Servers {
  private Servers() {}

  /** Connects to SIGMAX_ADDRESS: by TLS with SIGMAX_CLIENT_TLS_CA, with SIGMAX_CLIENT_TOKEN. */
  static SigmaxClient connect() {
    var builder = SigmaxClient.builder(System.getenv("SIGMAX_ADDRESS"));
    String authorities = System.getenv("SIGMAX_CLIENT_TLS_CA");
    if (authorities != null) {
      builder.trust(Path.of(authorities));
    }
    String token = System.getenv("SIGMAX_CLIENT_TOKEN");
    if (token != null) {
      builder.token(token);
    }
    return builder.build();
  }
}
