import { ConnectError, type Interceptor } from "@connectrpc/connect";

import { isRetryable, pushback } from "./errors.js";

const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;
const MULTIPLIER = 2;
const JITTER = 0.2;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Retries unary calls that fail as UNAVAILABLE or RESOURCE_EXHAUSTED, as gRPC's own libraries do by a
 * service config (gRFC A6), which Connect does not read. The pauses are 0.1 s, doubled up to 2 s, with
 * a jitter of 20 %. The server's trailer grpc-retry-pushback-ms names the pause instead, or, by a
 * negative number, ends the tries. The call's deadline covers all tries and pauses. Streams pass.
 *
 * @param maxAttempts Most tries of a call, the first included.
 */
export function retry(maxAttempts = 4): Interceptor {
  return (next) => async (request) => {
    if (request.stream) return next(request);
    let backoff = FIRST_BACKOFF_MS;
    for (let attempt = 1; ; attempt++) {
      try {
        return await next(request);
      } catch (thrown) {
        const error = ConnectError.from(thrown);
        if (attempt >= maxAttempts || request.signal.aborted || !isRetryable(error)) throw error;
        const asked = pushback(error);
        await pause(asked ?? backoff * (1 + JITTER * (2 * Math.random() - 1)), request.signal);
        backoff =
          asked === undefined ? Math.min(backoff * MULTIPLIER, MAX_BACKOFF_MS) : FIRST_BACKOFF_MS;
      }
    }
  };
}

/** Waits; throws the signal's reason as soon as it is aborted. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const onTime = () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    };
    const timer = setTimeout(onTime, Math.min(milliseconds, LONGEST_TIMER_MS));
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
