package dev.sigmax;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/** A call that failed. */
public final class SigmaxException extends RuntimeException {
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  private final Status.Code code;
  private final String reason;
  private final Map<String, String> fields;
  private final boolean retryable;

  private SigmaxException(
      Throwable cause, Status status, Metadata trailers, com.google.rpc.Status details) {
    super(message(status), cause);
    String pushback = trailers.get(PUSHBACK);
    code = status.getCode();
    reason = detail(details, ErrorInfo.class).map(ErrorInfo::getReason).orElse("");
    fields = detail(details, BadRequest.class).map(SigmaxException::fields).orElse(Map.of());
    retryable =
        (code == Status.Code.UNAVAILABLE || code == Status.Code.RESOURCE_EXHAUSTED)
            && (pushback == null || !pushback.startsWith("-"));
  }

  static SigmaxException of(Throwable error) {
    Metadata trailers = Status.trailersFromThrowable(error);
    return new SigmaxException(
        error,
        Status.fromThrowable(error),
        trailers == null ? new Metadata() : trailers,
        StatusProto.fromThrowable(error));
  }

  /** The code of the gRPC status, never OK. */
  public Status.Code code() {
    return code;
  }

  /** Reason for programs, such as "SHAPE_MISMATCH"; empty where none was given. */
  public String reason() {
    return reason;
  }

  /** Fields of the request that are wrong, each with a description; may be empty. */
  public Map<String, String> fields() {
    return fields;
  }

  /**
   * Whether another try of the same call may succeed: its code is UNAVAILABLE or
   * RESOURCE_EXHAUSTED, and the server does not say that another try fails, too.
   */
  public boolean isRetryable() {
    return retryable;
  }

  /** The code, what gRPC or the server says, and the first cause, such as a wrong certificate. */
  private static String message(Status status) {
    String said = status.getDescription() == null ? "no message" : status.getDescription();
    Throwable cause = status.getCause();
    while (cause != null && cause.getCause() != null) {
      cause = cause.getCause();
    }
    // After the first line, grpc-java tells its pipeline.
    said = status.getCode() + ": " + said.split("\n", 2)[0];
    return cause == null || cause.getMessage() == null ? said : said + ": " + cause.getMessage();
  }

  private static Map<String, String> fields(BadRequest request) {
    Map<String, String> fields = new LinkedHashMap<>();
    for (var field : request.getFieldViolationsList()) {
      fields.merge(field.getField(), field.getDescription(), (one, other) -> one + "; " + other);
    }
    return Collections.unmodifiableMap(fields);
  }

  private static <T extends Message> Optional<T> detail(
      com.google.rpc.Status status, Class<T> type) {
    if (status == null) {
      return Optional.empty();
    }
    for (Any any : status.getDetailsList()) {
      if (any.is(type)) {
        try {
          return Optional.of(any.unpack(type));
        } catch (InvalidProtocolBufferException malformed) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }
}
