package dev.sigmax;

import com.google.protobuf.UnsafeByteOperations;
import dev.sigmax.v1.DataType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;

/**
 * A dense, row-major tensor.
 *
 * <p>The methods {@code of} of Java's arrays make tensors of the type that the array has: {@code
 * float} FP32, {@code double} FP64, {@code int} INT32, {@code long} INT64, {@code String} BYTES in
 * UTF-8. An array is one row, of the shape [1, size]; an array of arrays is a batch of rows.
 *
 * @param name name of the model's input; empty: the model's one input
 * @param dtype type of the elements; unspecified: the type of the model's input
 * @param shape size of each axis, the batch first
 * @param data elements in little-endian, without padding; of BYTES, each string after its length in
 *     4 bytes. The bytes are not copied: they must not change while a call uses the tensor
 */
public record Tensor(String name, DataType dtype, List<Long> shape, ByteBuffer data) {
  /** Makes a tensor of the bytes between the buffer's position and limit. */
  public Tensor {
    shape = List.copyOf(shape);
    data = data.slice().asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  /** Returns a tensor without a name, of the bytes between the buffer's position and limit. */
  public static Tensor of(DataType dtype, ByteBuffer data, long... shape) {
    return new Tensor("", dtype, Arrays.stream(shape).boxed().toList(), data);
  }

  /** Returns an FP32 tensor of one row. */
  public static Tensor of(float[] row) {
    return of(new float[][] {row});
  }

  /**
   * Returns an FP32 tensor of the shape [rows, size].
   *
   * @throws IllegalArgumentException if the rows have different sizes
   */
  public static Tensor of(float[][] rows) {
    int size = size(Arrays.stream(rows).mapToInt(row -> row.length).toArray());
    ByteBuffer data = allocate(rows.length, size, Float.BYTES);
    var elements = data.asFloatBuffer();
    Arrays.stream(rows).forEach(elements::put);
    return of(DataType.DATA_TYPE_FP32, data, rows.length, size);
  }

  /** Returns an FP64 tensor of one row. */
  public static Tensor of(double[] row) {
    return of(new double[][] {row});
  }

  /**
   * Returns an FP64 tensor of the shape [rows, size].
   *
   * @throws IllegalArgumentException if the rows have different sizes
   */
  public static Tensor of(double[][] rows) {
    int size = size(Arrays.stream(rows).mapToInt(row -> row.length).toArray());
    ByteBuffer data = allocate(rows.length, size, Double.BYTES);
    var elements = data.asDoubleBuffer();
    Arrays.stream(rows).forEach(elements::put);
    return of(DataType.DATA_TYPE_FP64, data, rows.length, size);
  }

  /** Returns an INT32 tensor of one row. */
  public static Tensor of(int[] row) {
    return of(new int[][] {row});
  }

  /**
   * Returns an INT32 tensor of the shape [rows, size].
   *
   * @throws IllegalArgumentException if the rows have different sizes
   */
  public static Tensor of(int[][] rows) {
    int size = size(Arrays.stream(rows).mapToInt(row -> row.length).toArray());
    ByteBuffer data = allocate(rows.length, size, Integer.BYTES);
    var elements = data.asIntBuffer();
    Arrays.stream(rows).forEach(elements::put);
    return of(DataType.DATA_TYPE_INT32, data, rows.length, size);
  }

  /** Returns an INT64 tensor of one row. */
  public static Tensor of(long[] row) {
    return of(new long[][] {row});
  }

  /**
   * Returns an INT64 tensor of the shape [rows, size].
   *
   * @throws IllegalArgumentException if the rows have different sizes
   */
  public static Tensor of(long[][] rows) {
    int size = size(Arrays.stream(rows).mapToInt(row -> row.length).toArray());
    ByteBuffer data = allocate(rows.length, size, Long.BYTES);
    var elements = data.asLongBuffer();
    Arrays.stream(rows).forEach(elements::put);
    return of(DataType.DATA_TYPE_INT64, data, rows.length, size);
  }

  /** Returns a BYTES tensor of one row, its texts in UTF-8. */
  public static Tensor of(String[] row) {
    return of(new String[][] {row});
  }

  /**
   * Returns a BYTES tensor of the shape [rows, size], its texts in UTF-8.
   *
   * @throws IllegalArgumentException if the rows have different sizes
   */
  public static Tensor of(String[][] rows) {
    int size = size(Arrays.stream(rows).mapToInt(row -> row.length).toArray());
    List<byte[]> texts =
        Arrays.stream(rows)
            .flatMap(Arrays::stream)
            .map(text -> text.getBytes(StandardCharsets.UTF_8))
            .toList();
    int bytes =
        texts.stream().mapToInt(text -> Integer.BYTES + text.length).reduce(0, Math::addExact);
    ByteBuffer data = allocate(1, 1, bytes);
    texts.forEach(text -> data.putInt(text.length).put(text));
    return of(DataType.DATA_TYPE_BYTES, data.flip(), rows.length, size);
  }

  /** Returns this tensor for the input of this name. */
  public Tensor named(String name) {
    return new Tensor(name, dtype, shape, data);
  }

  /** Elements in little-endian, a read-only buffer with a position of its own. */
  @Override
  public ByteBuffer data() {
    return data.duplicate().order(ByteOrder.LITTLE_ENDIAN);
  }

  /**
   * Returns a tensor of floats as an array of the shape [first size, product of the other sizes].
   *
   * @throws IllegalStateException if the type is not FP16, BF16, FP32 or FP64 (rounded to the
   *     nearest), or there is no axis
   */
  public float[][] toFloats() {
    if (shape.isEmpty()) {
      throw new IllegalStateException("expected a tensor with axes, got one without");
    }
    int rows = Math.toIntExact(shape.get(0));
    int size = Math.toIntExact(shape.stream().skip(1).reduce(1L, Math::multiplyExact));
    float[][] floats = new float[rows][size];
    ByteBuffer elements = data();
    for (float[] row : floats) {
      for (int i = 0; i < size; i++) {
        row[i] = nextFloat(elements);
      }
    }
    return floats;
  }

  private float nextFloat(ByteBuffer elements) {
    return switch (dtype) {
      case DATA_TYPE_FP16 -> half(elements.getShort());
      case DATA_TYPE_BF16 -> Float.intBitsToFloat(elements.getShort() << Short.SIZE);
      case DATA_TYPE_FP32 -> elements.getFloat();
      case DATA_TYPE_FP64 -> (float) elements.getDouble();
      default -> throw new IllegalStateException("expected a tensor of floats, got " + dtype);
    };
  }

  /** The value of an IEEE 754 binary16; Java has no such type before 20. */
  private static float half(short bits) {
    int exponent = bits >> 10 & 0x1f;
    int fraction = bits & 0x3ff;
    float magnitude =
        switch (exponent) {
          case 0 -> Math.scalb((float) fraction, -24);
          case 0x1f -> fraction == 0 ? Float.POSITIVE_INFINITY : Float.NaN;
          default -> Math.scalb((float) (fraction + 0x400), exponent - 25);
        };
    return bits < 0 ? -magnitude : magnitude;
  }

  static Tensor of(dev.sigmax.v1.Tensor message) {
    return new Tensor(
        message.getName(),
        message.getDtype(),
        message.getShapeList(),
        message.getRaw().asReadOnlyByteBuffer());
  }

  dev.sigmax.v1.Tensor toMessage() {
    return dev.sigmax.v1.Tensor.newBuilder()
        .setName(name)
        .setDtype(dtype)
        .addAllShape(shape)
        .setRaw(UnsafeByteOperations.unsafeWrap(data))
        .build();
  }

  /** The size that all rows have; 0 of no rows. */
  private static int size(int[] sizes) {
    for (int row = 1; row < sizes.length; row++) {
      if (sizes[row] != sizes[0]) {
        throw new IllegalArgumentException(
            "row %d: expected %d values as in row 0, got %d".formatted(row, sizes[0], sizes[row]));
      }
    }
    return sizes.length == 0 ? 0 : sizes[0];
  }

  private static ByteBuffer allocate(int rows, int size, int bytes) {
    int all = Math.multiplyExact(Math.multiplyExact(rows, size), bytes);
    return ByteBuffer.allocate(all).order(ByteOrder.LITTLE_ENDIAN);
  }
}
