import { invalid } from "./errors.js";
import { DataType } from "./gen/sigmax/v1/classifier_pb.js";

/** Type of a tensor's elements by its name in the protocol; "" is the type of the model's input. */
export type DType = Exclude<keyof typeof DataType, "UNSPECIFIED"> | "";

/** Numbers that are in memory as the protocol has them. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

/**
 * The values of one row, or the elements of a tensor. `number[]` is FP32, `bigint[]` INT64, `boolean[]`
 * BOOL and `string[]` BYTES, as UTF-8; a typed array is what its name says.
 */
export type Row =
  readonly number[] | readonly bigint[] | readonly boolean[] | readonly string[] | TypedArray;

/** One row, of the shape [1, values]; a batch of rows, of [rows, values]; or a tensor of any shape. */
export type Values = Row | readonly Row[] | Tensor;

type Kind = { new (length: number): TypedArray; new (buffer: ArrayBuffer): TypedArray };

const KINDS: readonly (readonly [Exclude<DType, "">, Kind])[] = [
  ["FP32", Float32Array],
  ["FP64", Float64Array],
  ["INT8", Int8Array],
  ["INT16", Int16Array],
  ["INT32", Int32Array],
  ["INT64", BigInt64Array],
  ["UINT8", Uint8Array],
  ["UINT8", Uint8ClampedArray],
  ["UINT16", Uint16Array],
  ["UINT32", Uint32Array],
  ["UINT64", BigUint64Array],
];

/** A dense, row-major tensor, as it is on the wire. */
export class Tensor {
  /**
   * @param dtype Type of the elements; "": the type of the model's input, whatever it is.
   * @param shape Size of each axis, the batch first.
   * @param data Elements in little-endian, without padding; each string of BYTES after its length in
   *   4 bytes.
   * @param name Name of the input; "": the model's one input.
   * @throws SigmaxError INVALID_ARGUMENT: a size is no whole number. The server checks all else.
   */
  constructor(
    readonly dtype: DType,
    readonly shape: readonly number[],
    readonly data: Uint8Array,
    readonly name: string = "",
  ) {
    const wrong = shape.find((size) => !Number.isInteger(size));
    if (wrong !== undefined) {
      throw invalid("shape", "BAD_FIELD", `expected whole numbers, got ${wrong} in [${shape}]`);
    }
  }

  /**
   * Makes a tensor from its elements, in row-major order.
   *
   * @param shape Size of each axis, the batch first.
   * @throws SigmaxError INVALID_ARGUMENT: the elements are of no type or of several, or do not fit
   *   their type.
   */
  static of(elements: Row, shape: readonly number[], name = ""): Tensor {
    const array = toTyped(elements);
    if (array === undefined) return new Tensor("BYTES", shape, encodeTexts(elements), name);
    const dtype = typeof elements[0] === "boolean" ? "BOOL" : dtypeOf(array);
    return new Tensor(dtype, shape, littleEndian(bytesOf(array), array.BYTES_PER_ELEMENT), name);
  }

  /**
   * The elements of any type of numbers. FP16 and BF16 become `Float32Array`, which holds them exactly;
   * BOOL becomes 0 and 1.
   *
   * @throws SigmaxError INVALID_ARGUMENT: the elements are strings, or of no type.
   */
  get values(): TypedArray {
    if (this.dtype === "FP16") return Float32Array.from(this.#words(), halfToNumber);
    if (this.dtype === "BF16") {
      return new Float32Array(Uint32Array.from(this.#words(), (word) => word << 16).buffer);
    }
    if (this.dtype === "BOOL") return this.data.slice();
    const kind = KINDS.find(([dtype]) => dtype === this.dtype)?.[1];
    if (!kind) throw invalid("dtype", "BAD_FIELD", `expected numbers, got '${this.dtype}'`);
    const size = new kind(0).BYTES_PER_ELEMENT;
    return new kind(littleEndian(this.data, size).buffer as ArrayBuffer);
  }

  #words(): Uint16Array {
    return new Uint16Array(littleEndian(this.data, 2).buffer);
  }
}

/**
 * Makes the tensor of an input.
 *
 * @throws SigmaxError INVALID_ARGUMENT: the values are none, the rows are of several lengths or types,
 *   or a value does not fit its type.
 */
export function toTensor(values: Values, name = ""): Tensor {
  if (values instanceof Tensor) {
    return name ? new Tensor(values.dtype, values.shape, values.data, name) : values;
  }
  const first: unknown = values[0];
  if (!isRow(first)) return Tensor.of(values as Row, [1, values.length], name);
  const rows = values as readonly Row[];
  const other = rows.findIndex((row) => !isRow(row) || row.length !== first.length);
  if (other >= 0) {
    const came = isRow(rows[other]) ? rows[other].length : describe(rows[other]);
    throw wrongValues(`expected ${first.length} values in each row, got ${came} in row ${other}`);
  }
  return Tensor.of(joined(rows, first), [rows.length, first.length], name);
}

function isRow(value: unknown): value is Row {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

/** Joins rows of one length and one type. */
function joined(rows: readonly Row[], first: Row): Row {
  if (Array.isArray(first)) return (rows as readonly unknown[]).flat() as unknown as Row;
  const kind = KINDS.find(([, kind]) => first instanceof kind)?.[1];
  const other = rows.find((row) => !kind || !(row instanceof kind));
  if (!kind || other) {
    throw wrongValues(`expected rows of one type, got ${describe(other ?? first)}`);
  }
  const all = new kind(rows.length * first.length);
  rows.forEach((row, index) => all.set(row as never, index * first.length));
  return all;
}

function isTyped(row: Row): row is TypedArray {
  return ArrayBuffer.isView(row);
}

/** Makes an array of the elements' type; undefined where these are texts. */
function toTyped(elements: Row): TypedArray | undefined {
  if (isTyped(elements)) return elements;
  switch (typeof elements[0]) {
    case "number":
      return fill(new Float32Array(elements.length), elements, "number", isFloat32);
    case "bigint":
      return fill(new BigInt64Array(elements.length), elements, "bigint", isInt64);
    case "boolean":
      return fill(new Uint8Array(elements.length), elements, "boolean");
    case "string":
      return undefined;
    default:
      throw wrongValues(
        `expected numbers, bigints, booleans or strings, got ${describe(elements[0])}`,
      );
  }
}

/** Fills an array with elements that are all of one type, and fit it. */
function fill<A extends TypedArray>(
  array: A,
  elements: Row,
  type: string,
  fits: (element: never) => boolean = () => true,
): A {
  for (let index = 0; index < elements.length; index++) {
    const element = elements[index];
    if (typeof element !== type) {
      throw wrongValues(`expected a ${type} at ${index}, got ${describe(element)}`);
    }
    if (!fits(element as never)) {
      throw wrongValues(`expected a value of ${dtypeOf(array)} at ${index}, got ${element}`);
    }
    array[index] = element as never;
  }
  return array;
}

function isFloat32(value: number): boolean {
  return Number.isFinite(Math.fround(value)) || !Number.isFinite(value);
}

function isInt64(value: bigint): boolean {
  return BigInt.asIntN(64, value) === value;
}

function dtypeOf(array: TypedArray): DType {
  const found = KINDS.find(([, kind]) => array instanceof kind);
  if (!found) throw wrongValues(`expected a typed array of numbers, got ${describe(array)}`);
  return found[0];
}

function encodeTexts(elements: Row): Uint8Array {
  const encoder = new TextEncoder();
  const texts = Array.from(elements as Iterable<unknown>, (element, index) => {
    if (typeof element === "string") return encoder.encode(element);
    throw wrongValues(`expected a string at ${index}, got ${describe(element)}`);
  });
  const all = new Uint8Array(texts.reduce((size, text) => size + 4 + text.length, 0));
  let at = 0;
  for (const text of texts) {
    new DataView(all.buffer).setUint32(at, text.length, true);
    all.set(text, at + 4);
    at += 4 + text.length;
  }
  return all;
}

function bytesOf(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

const IS_BIG_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 0;

/** Copies elements of `size` bytes from this machine's order of bytes to little-endian, or back. */
function littleEndian(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes);
  if (IS_BIG_ENDIAN) {
    for (let at = 0; at < copy.length; at += size) copy.subarray(at, at + size).reverse();
  }
  return copy;
}

/** Value of an IEEE 754 binary16. */
function halfToNumber(word: number): number {
  const sign = word >> 15 ? -1 : 1;
  const exponent = (word >> 10) & 0x1f;
  const fraction = word & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function wrongValues(problem: string) {
  return invalid("inputs", "BAD_ELEMENT", problem);
}

function describe(value: unknown): string {
  return typeof value === "object" && value !== null
    ? `a ${value.constructor?.name ?? "object"}`
    : `${value === undefined || value === null ? "" : `a ${typeof value}, `}${String(value)}`;
}
