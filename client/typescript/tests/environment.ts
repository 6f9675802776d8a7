import { type Client, connect } from "../src/index.js";

/** Makes the client for the server that the variables SIGMAX_ADDRESS and SIGMAX_CLIENT_... name. */
export function fromEnvironment(): Client {
  const {
    SIGMAX_ADDRESS: address,
    SIGMAX_CLIENT_TLS_CA: ca,
    SIGMAX_CLIENT_TOKEN: token,
  } = process.env;
  if (!address) throw new Error("SIGMAX_ADDRESS: expected the address of a server, got none");
  return connect(address, { tls: ca ? { ca } : false, token: token || undefined });
}
