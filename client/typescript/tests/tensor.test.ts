import assert from "node:assert/strict";
import { test } from "node:test";

import { type Row, SigmaxError, Tensor, type Values } from "../src/index.js";
import { toTensor } from "../src/tensor.js";

function facts({ dtype, shape, data, name }: Tensor): unknown {
  return { dtype, shape, data: Buffer.from(data).toString("hex"), name };
}

const ROWS: [what: string, values: Values, dtype: string, shape: number[], hex: string][] = [
  ["numbers", [1, -2], "FP32", [1, 2], "0000803f000000c0"],
  ["rows of numbers", [[1], [-2]], "FP32", [2, 1], "0000803f000000c0"],
  ["floats", Float32Array.of(1, -2), "FP32", [1, 2], "0000803f000000c0"],
  ["rows of floats", [Float32Array.of(1), Float32Array.of(-2)], "FP32", [2, 1], "0000803f000000c0"],
  ["doubles", Float64Array.of(1), "FP64", [1, 1], "000000000000f03f"],
  ["bigints", [-2n], "INT64", [1, 1], "feffffffffffffff"],
  ["unsigned bigints", BigUint64Array.of(2n ** 64n - 2n), "UINT64", [1, 1], "feffffffffffffff"],
  ["signed bytes", Int8Array.of(-1, 1), "INT8", [1, 2], "ff01"],
  ["a buffer", Buffer.of(1, 2), "UINT8", [1, 2], "0102"],
  ["shorts", Uint16Array.of(258), "UINT16", [1, 1], "0201"],
  ["booleans", [true, false], "BOOL", [1, 2], "0100"],
  ["texts", [["é"], [""]], "BYTES", [2, 1], "02000000c3a900000000"],
  ["part of an array", Int16Array.of(1, 2, 3).subarray(1, 2), "INT16", [1, 1], "0200"],
];

for (const [what, values, dtype, shape, data] of ROWS) {
  test(`${what} become ${dtype}`, () => {
    assert.deepEqual(facts(toTensor(values, "x")), { dtype, shape, data, name: "x" });
  });
}

test("a tensor keeps its shape and gets the name of its input", () => {
  const image = Tensor.of(Float32Array.of(1, 2, 3, 4), [1, 1, 2, 2]);
  assert.deepEqual(toTensor(image, "x").shape, [1, 1, 2, 2]);
  assert.equal(toTensor(image, "x").name, "x");
});

const WRONG: [what: string, values: unknown, message: RegExp][] = [
  ["no values", [], /expected numbers.* got undefined/],
  ["rows of several lengths", [[1, 2], [3]], /expected 2 values in each row, got 1 in row 1/],
  ["a value among rows", [[1], 2], /expected 1 values in each row, got a number, 2 in row 1/],
  ["a text among numbers", [1, "2"], /expected a number at 1, got a string, 2/],
  ["a hole", [1, , 3], /expected a number at 1, got undefined/],
  ["a number among texts", ["a", 1], /expected a string at 1, got a number, 1/],
  ["a number over FP32", [1e39], /expected a value of FP32 at 0, got 1e\+39/],
  ["an integer over INT64", [2n ** 63n], /expected a value of INT64 at 0, got 9223372036854775808/],
  ["rows of several types", [Int8Array.of(1), Int16Array.of(1)], /one type, got a Int16Array/],
  ["more axes", [[[1]]], /got a Array/],
];

for (const [what, values, message] of WRONG) {
  test(`${what} are refused`, () => {
    assert.throws(() => toTensor(values as Values), { name: "SigmaxError", message });
  });
}

test("a shape of no whole numbers is refused", () => {
  assert.throws(() => Tensor.of([1], [0.5]), /shape: expected whole numbers, got 0.5/);
});

test("values are those that a tensor was made of, and aligned", () => {
  for (const [, values] of ROWS) {
    if (!ArrayBuffer.isView(values)) continue;
    const { dtype, shape, data } = toTensor(values);
    const unaligned = new Uint8Array(data.length + 1);
    unaligned.set(data, 1);
    const found = new Tensor(dtype, shape, unaligned.subarray(1)).values;
    assert.deepEqual([...found], [...(values as Row & Iterable<unknown>)]);
  }
});

test("values of 16 bits are widened exactly", () => {
  const words = [0x0000, 0x8001, 0x3c00, 0xc500, 0x7bff, 0x7c00, 0xfc00, 0x0400];
  const data = new Uint8Array(Uint16Array.from(words).buffer);
  const halves = [0, -(2 ** -24), 1, -5, 65504, Infinity, -Infinity, 2 ** -14];
  assert.deepEqual([...new Tensor("FP16", [8], data).values], halves);
  assert.deepEqual(
    [...new Tensor("BF16", [2], Uint8Array.of(0x80, 0x3f, 0x20, 0xc1)).values],
    [1, -10],
  );
});

test("values of strings are refused", () => {
  assert.throws(() => Tensor.of(["a"], [1]).values, SigmaxError);
});
