import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** gRPC's names of its codes. */
const NAMES = {
  [Code.Canceled]: "CANCELLED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "RESOURCE_EXHAUSTED",
  [Code.FailedPrecondition]: "FAILED_PRECONDITION",
  [Code.Aborted]: "ABORTED",
  [Code.OutOfRange]: "OUT_OF_RANGE",
  [Code.Unimplemented]: "UNIMPLEMENTED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "DATA_LOSS",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
} as const satisfies Record<Code, string>;

/** Name of a gRPC code other than OK. */
export type GrpcCode = (typeof NAMES)[Code];

/** A failed call. Errors that the client finds before it sends look the same as the server's. */
export class SigmaxError extends Error {
  override readonly name = "SigmaxError";

  /**
   * @param message Text for people: what was expected and what came.
   * @param code Name of the gRPC code, such as "INVALID_ARGUMENT".
   * @param reason Reason for programs, such as "SHAPE_MISMATCH"; "" where none was given.
   * @param fields Fields of the request that are wrong, each name with a description.
   * @param isRetryable Whether the same call may succeed later: the code is UNAVAILABLE or
   *   RESOURCE_EXHAUSTED, and neither the server nor TLS rules it out.
   */
  constructor(
    message: string,
    readonly code: GrpcCode,
    readonly reason: string = "",
    readonly fields: Readonly<Record<string, string>> = {},
    readonly isRetryable: boolean = false,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Makes the error of a call from whatever Connect has thrown. */
  static from(thrown: unknown): SigmaxError {
    if (thrown instanceof SigmaxError) return thrown;
    const error = ConnectError.from(thrown);
    if (error.cause instanceof SigmaxError) return error.cause;
    const violations = error
      .findDetails(BadRequestSchema)
      .flatMap((found) => found.fieldViolations);
    const isLost = isConnectionFault(error);
    return new SigmaxError(
      isLost ? `the connection failed: ${error.rawMessage.trim()}` : error.rawMessage,
      NAMES[isLost ? Code.Unavailable : error.code] ?? "UNKNOWN",
      error.findDetails(ErrorInfoSchema)[0]?.reason,
      Object.fromEntries(violations.map(({ field, description }) => [field, description])),
      isRetryable(error),
      { cause: error },
    );
  }
}

/** Makes the error for an argument that cannot be sent. The message begins with the field. */
export function invalid(field: string, reason: string, problem: string): SigmaxError {
  const message = `${field}: ${problem}`;
  return new SigmaxError(message, "INVALID_ARGUMENT", reason, { [field]: message });
}

/** Milliseconds after which the server asks for the next try (gRFC A6); undefined where it is silent. */
export function pushback(error: ConnectError): number | undefined {
  const text = error.metadata.get("grpc-retry-pushback-ms");
  if (text === null) return undefined;
  return /^\d+$/.test(text) ? Number(text) : -1;
}

/** Whether another try of the same call may succeed. */
export function isRetryable(error: ConnectError): boolean {
  if ((pushback(error) ?? 0) < 0) return false;
  if (isConnectionFault(error)) return !isTlsFault(error.cause);
  // Connect's own refusal of a message that is too large has no metadata, unlike a server's.
  const isFromServer = !error.metadata.keys().next().done;
  return error.code === Code.Unavailable || (error.code === Code.ResourceExhausted && isFromServer);
}

/**
 * Whether the connection failed, and no status came. gRPC says UNAVAILABLE then. Connect says ABORTED
 * or INTERNAL, with Node's error as the cause, or CANCELLED where Node closes a lost connection's calls.
 */
function isConnectionFault({ code, cause, rawMessage }: ConnectError): boolean {
  if (code === Code.Canceled) return rawMessage.startsWith("http/2 stream closed");
  const mayBe = code === Code.Aborted || code === Code.Internal || code === Code.Unavailable;
  return mayBe && cause instanceof Error && "code" in cause && !(cause instanceof TypeError);
}

/** Whether TLS let no connection be made: Node's errors of the network name the system's call. */
function isTlsFault(cause: unknown): boolean {
  const { code = "ERR_HTTP2", syscall } = (cause ?? {}) as NodeJS.ErrnoException;
  return syscall === undefined && !code.startsWith("ERR_HTTP2");
}
