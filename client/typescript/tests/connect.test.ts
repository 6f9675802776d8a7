import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../src/index.js";

const GOOD = [
  "host",
  "host:1",
  "10.0.0.1:80",
  "[::1]:443",
  "::1",
  "[0:0::1]:80",
  "HOST.",
  "unix:/run/s",
  "unix:///run/s",
];

for (const address of GOOD) {
  test(`${address} is an address`, () => connect(address).close());
}

const BAD = [
  "",
  ":1",
  "host:",
  "host:0",
  "a,b",
  "host?",
  "host ",
  "::1]:2",
  "host:99999",
  "http://host",
  "a:1,b:2",
  "me@host",
  "host/x",
  "[::1",
];

for (const address of BAD) {
  test(`${JSON.stringify(address)} is no address`, () => {
    assert.throws(() => connect(address), { code: "INVALID_ARGUMENT", reason: "BAD_ADDRESS" });
  });
}

const token = "a-secret";

for (const address of ["localhost", "127.0.0.9:1", "[::1]", "a.localhost", "unix:/run/s"]) {
  test(`a token goes to ${address} in plaintext`, () => connect(address, { token }).close());
}

for (const address of ["host", "10.0.0.1", "localhost.example", "127.1", "[::2]", "0.0.0.0"]) {
  test(`a token does not go to ${address} in plaintext`, () => {
    assert.throws(() => connect(address, { token }), /token: expected tls for/);
    connect(address, { token, tls: true }).close();
  });
}

test("a token of other characters is refused, and not shown", () => {
  assert.throws(
    () => connect("localhost", { token: "a b" }),
    ({ message }: Error) => message === "token: expected visible ASCII characters, got others",
  );
});

test("a token's function that fails ends the call", async () => {
  const failing = () => Promise.reject(new Error("no issuer"));
  const client = connect("localhost:1", { token: failing });
  await assert.rejects(client.models(), { code: "UNAUTHENTICATED", message: "no issuer" });
});

test("a file that is missing is named", () => {
  assert.throws(
    () => connect("host", { tls: { ca: "/no/ca.pem" } }),
    /tls: \/no\/ca\.pem: .*ENOENT/,
  );
});

test("a file that holds no certificate is named", () => {
  assert.throws(
    () => connect("host", { tls: { ca: import.meta.filename } }),
    /tls: .*connect\.test/,
  );
});

test("TLS over a Unix socket is refused", () => {
  assert.throws(() => connect("unix:/run/s", { tls: true }), /tls: expected none/);
});

test("a certificate without a key is refused", () => {
  assert.throws(() => connect("host", { tls: { certificate: "me.pem" } }), /certificate and key/);
});
