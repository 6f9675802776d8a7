import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { SecureClientSessionOptions } from "node:http2";
import { BlockList, connect as connectSocket, isIP, isIPv6, type Socket } from "node:net";
import { createSecureContext } from "node:tls";

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { Client } from "./client.js";
import { invalid, type SigmaxError } from "./errors.js";
import { retry } from "./retry.js";

const DEFAULT_PORT = "8001";
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;
const PING_INTERVAL_MS = 60_000;
const PING_TIMEOUT_MS = 20_000;

/** TLS of a connection. Files are in PEM, and are read once. */
export interface Tls {
  /** File of the authorities of the server's certificate; by default those that Node knows. */
  readonly ca?: string | URL;
  /** File of the client's own certificate, with those of its issuers. */
  readonly certificate?: string | URL;
  /** File of the key of the client's certificate. */
  readonly key?: string | URL;
  /** Name in the server's certificate, where it is not that of the address. */
  readonly serverName?: string;
}

/** Options of `connect`. */
export interface ConnectOptions {
  /** TLS; true: with the authorities that Node knows. By default the connection is plaintext. */
  readonly tls?: boolean | Tls;
  /** Token that each call shows, or a function that is called for it before each try of a call. */
  readonly token?: string | (() => string | Promise<string>);
  /** Milliseconds until a call ends as DEADLINE_EXCEEDED (10 seconds); Infinity: never. */
  readonly timeoutMs?: number;
  /** Most tries of a call (4), the first included; see `retry`. */
  readonly maxAttempts?: number;
  /** Most bytes of a request or an answer (64 MiB). */
  readonly maxMessageBytes?: number;
}

/**
 * Makes a client for Node, with one HTTP/2 connection, which is opened by the first call.
 *
 * @param address "HOST", "HOST:PORT" (8001 where there is no port) or "unix:PATH".
 * @throws SigmaxError INVALID_ARGUMENT: the address is none, a file cannot be used, or a token would
 *   be sent in plaintext to another machine.
 */
export function connect(address: string, options: ConnectOptions = {}): Client {
  const { tls = false, token, maxMessageBytes = MAX_MESSAGE_BYTES } = options;
  const target = parse(address);
  check(address, target, options);
  const baseUrl = `${tls ? "https" : "http"}://${target.authority}`;
  const session = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
    tls ? secure(tls === true ? {} : tls) : { createConnection: onSocket(target.path) },
  );
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager: session,
    interceptors: [
      retry(options.maxAttempts),
      ...(token === undefined ? [] : [authorization(token)]),
    ],
    acceptCompression: [],
    readMaxBytes: maxMessageBytes,
    writeMaxBytes: maxMessageBytes,
  });
  return new Client(transport, { timeoutMs: options.timeoutMs, close: () => session.abort() });
}

/** Checks that a token goes in plaintext to this machine only, and that TLS goes over TCP. */
function check(address: string, target: Target, { tls, token }: ConnectOptions): void {
  if (token !== undefined && !tls && !target.isLocal) {
    throw credentials("token", `expected tls for ${address}: plaintext can be read on the way`);
  }
  if (tls && target.path !== undefined) {
    throw credentials("tls", `expected none for ${address}, which stays on this machine`);
  }
  if (typeof token === "string") checkToken(token);
}

/** Where a server is. */
interface Target {
  /** Host and port as in a URL. */
  readonly authority: string;
  /** Path of a Unix socket; undefined for TCP. */
  readonly path: string | undefined;
  /** Whether the server is on this machine, by the address alone. */
  readonly isLocal: boolean;
}

function parse(address: string): Target {
  const path = /^unix:(?:\/\/(?=\/))?(.+)$/s.exec(address)?.[1];
  if (path !== undefined) return { authority: "localhost", path, isLocal: true };
  // A URL of no known scheme keeps its port, and its host as it is.
  const text = `grpc://${isIPv6(address) ? `[${address}]` : address}`;
  const url = /[\s\\/?#@,]|:$/.test(address) || !URL.canParse(text) ? undefined : new URL(text);
  if (!url?.hostname || url.port === "0") {
    const expected = 'expected one "HOST", "HOST:PORT" or "unix:PATH"';
    throw invalid("address", "BAD_ADDRESS", `${expected}, got ${JSON.stringify(address)}`);
  }
  const authority = url.port ? url.host : `${url.host}:${DEFAULT_PORT}`;
  return { authority, path: undefined, isLocal: isLoopback(url.hostname) };
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8);
LOOPBACK.addAddress("::1", "ipv6");

function isLoopback(host: string): boolean {
  const ip = host.replace(/^\[(.*)\]$/, "$1");
  if (isIP(ip)) return LOOPBACK.check(ip, isIPv6(ip) ? "ipv6" : "ipv4");
  return /(^|\.)localhost\.?$/i.test(host);
}

/** How Node reaches a Unix socket; undefined for TCP, which it knows. */
function onSocket(path: string | undefined): (() => Socket) | undefined {
  return path === undefined ? undefined : () => connectSocket(path);
}

/** Reads the files of TLS. */
function secure({ ca, certificate, key, serverName }: Tls): SecureClientSessionOptions {
  if ((certificate === undefined) !== (key === undefined)) {
    throw credentials("tls", "expected certificate and key together, got one of both");
  }
  const files = {
    ca: read(ca, (pem) => new X509Certificate(pem)),
    cert: read(certificate, (pem) => new X509Certificate(pem)),
    key: read(key, (pem) => createSecureContext({ key: pem })),
  };
  try {
    createSecureContext(files);
  } catch (error) {
    throw credentials("tls", `${certificate} and ${key}: ${messageOf(error)}`);
  }
  return { ...files, servername: serverName };
}

/** Reads a file, if one is named, and checks what it holds. */
function read(file: string | URL | undefined, check: (pem: Buffer) => unknown): Buffer | undefined {
  if (file === undefined) return undefined;
  try {
    const pem = readFileSync(file);
    check(pem);
    return pem;
  } catch (error) {
    throw credentials("tls", `${file}: ${messageOf(error)}`);
  }
}

/** Shows a token with each try of a call. */
function authorization(token: string | (() => string | Promise<string>)): Interceptor {
  return (next) => async (request) => {
    request.header.set("authorization", `Bearer ${await current(token)}`);
    return next(request);
  };
}

async function current(token: string | (() => string | Promise<string>)): Promise<string> {
  if (typeof token === "string") return token;
  try {
    return checkToken(await token());
  } catch (error) {
    throw new ConnectError(messageOf(error), Code.Unauthenticated, undefined, undefined, error);
  }
}

/** Returns a token that is one. The error does not show it. */
function checkToken(token: unknown): string {
  if (typeof token === "string" && /^[!-~]+$/.test(token)) return token;
  const came = token === "" ? "an empty one" : typeof token === "string" ? "others" : typeof token;
  throw credentials("token", `expected visible ASCII characters, got ${came}`);
}

function credentials(argument: string, problem: string): SigmaxError {
  return invalid(argument, "BAD_CREDENTIALS", problem);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
