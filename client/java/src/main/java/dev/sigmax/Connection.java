package dev.sigmax;

import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.ManagedChannelRegistry;
import io.grpc.NameResolverRegistry;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** How a client reaches its server. */
final class Connection {
  private static final Pattern HOST_AND_PORT =
      Pattern.compile("(?<host>\\[[0-9A-Fa-f:.%]+\\]|[^\\s:/,@]+):(?<port>\\d{1,5})");
  private static final Pattern LOOPBACK =
      Pattern.compile("localhost|127(\\.\\d{1,3}){3}|\\[::1\\]");

  /** Retries obey the trailer grpc-retry-pushback-ms. Numbers are doubles, as in JSON. */
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "loadBalancingConfig",
          List.of(Map.of("round_robin", Map.of())),
          "methodConfig",
          List.of(
              Map.of(
                  "name",
                  List.of(Map.of()),
                  "retryPolicy",
                  Map.of(
                      "maxAttempts",
                      4.0,
                      "initialBackoff",
                      "0.1s",
                      "maxBackoff",
                      "2s",
                      "backoffMultiplier",
                      2.0,
                      "retryableStatusCodes",
                      List.of("UNAVAILABLE", "RESOURCE_EXHAUSTED")))));

  final String address;
  boolean tls;
  Path authorities;
  Path certificate;
  Path key;
  String serverName;
  Callable<String> token;
  int maxMessageBytes = 64 << 20;

  Connection(String address) {
    this.address = address;
  }

  /** Returns a channel, which connects with its first call. */
  ManagedChannel open() {
    checkAddress();
    ChannelCredentials credentials = tls ? tlsCredentials() : InsecureChannelCredentials.create();
    if (token != null) {
      if (!tls && !isThisMachine()) {
        throw new IllegalArgumentException(
            "token: expected TLS, for a token is not sent in plaintext to another machine; got "
                + address);
      }
      credentials = CompositeChannelCredentials.create(credentials, new Token(token));
    }
    var channel =
        builder(credentials)
            .defaultServiceConfig(SERVICE_CONFIG)
            .maxInboundMessageSize(maxMessageBytes)
            // Larger requests would not be kept for a retry.
            .perRpcBufferLimit(maxMessageBytes)
            .retryBufferSize(4L * maxMessageBytes);
    if (serverName != null) {
      channel.overrideAuthority(serverName);
    }
    return channel.build();
  }

  private ManagedChannelBuilder<?> builder(ChannelCredentials credentials) {
    try {
      return Grpc.newChannelBuilder(address, credentials);
    } catch (ManagedChannelRegistry.ProviderNotFoundException | IllegalArgumentException error) {
      var files = Stream.of(authorities, certificate, key).filter(Objects::nonNull).toList();
      if (files.isEmpty()) {
        throw error;
      }
      throw new IllegalArgumentException(
          "TLS: expected certificates and a key of PKCS #8 in PEM, in %s; %s"
              .formatted(files, error.getMessage()),
          error);
    }
  }

  private void checkAddress() {
    String scheme = address.contains(":") ? address.substring(0, address.indexOf(':')) : "";
    if (!HOST_AND_PORT.matcher(address).matches()
        && NameResolverRegistry.getDefaultRegistry().getProviderForScheme(scheme) == null) {
      throw new IllegalArgumentException(
          "address: expected HOST:PORT such as localhost:8001, or a target of grpc-java such as"
              + " dns:///HOST:PORT or unix:PATH; got '"
              + address
              + "'");
    }
  }

  private boolean isThisMachine() {
    var plain = HOST_AND_PORT.matcher(address.replaceFirst("^dns:///", ""));
    return address.startsWith("unix:")
        || plain.matches() && LOOPBACK.matcher(plain.group("host")).matches();
  }

  private ChannelCredentials tlsCredentials() {
    var builder = TlsChannelCredentials.newBuilder();
    try {
      if (authorities != null) {
        builder.trustManager(authorities.toFile());
      }
      if (certificate != null) {
        builder.keyManager(certificate.toFile(), key.toFile());
      }
    } catch (IOException error) {
      throw new IllegalArgumentException("TLS: expected files that can be read; " + error, error);
    }
    return builder.build();
  }
}
