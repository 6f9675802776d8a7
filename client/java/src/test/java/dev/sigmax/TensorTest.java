package dev.sigmax;

import static dev.sigmax.v1.DataType.DATA_TYPE_BF16;
import static dev.sigmax.v1.DataType.DATA_TYPE_BYTES;
import static dev.sigmax.v1.DataType.DATA_TYPE_FP16;
import static dev.sigmax.v1.DataType.DATA_TYPE_FP32;
import static dev.sigmax.v1.DataType.DATA_TYPE_FP64;
import static dev.sigmax.v1.DataType.DATA_TYPE_INT32;
import static dev.sigmax.v1.DataType.DATA_TYPE_INT64;
import static dev.sigmax.v1.DataType.DATA_TYPE_UNSPECIFIED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sigmax.v1.DataType;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Values become messages of the right type, shape and bytes. */
class TensorTest {
  private static void assertMessage(Tensor tensor, DataType dtype, List<Long> shape, String hex) {
    var message = tensor.toMessage();
    assertEquals(dtype, message.getDtype());
    assertEquals(shape, message.getShapeList());
    assertEquals(hex, HexFormat.of().formatHex(message.getRaw().toByteArray()));
  }

  private static Tensor raw(DataType dtype, String hex, long... shape) {
    return Tensor.of(dtype, ByteBuffer.wrap(HexFormat.of().parseHex(hex)), shape);
  }

  @Test
  void anArrayIsOneRow() {
    assertMessage(
        Tensor.of(new float[] {1, -2}), DATA_TYPE_FP32, List.of(1L, 2L), "0000803f000000c0");
  }

  @Test
  void arraysAreABatch() {
    assertMessage(
        Tensor.of(new float[][] {{1}, {-2}}), DATA_TYPE_FP32, List.of(2L, 1L), "0000803f000000c0");
    assertMessage(
        Tensor.of(new double[][] {{1}}), DATA_TYPE_FP64, List.of(1L, 1L), "000000000000f03f");
    assertMessage(
        Tensor.of(new int[][] {{1, -1}}), DATA_TYPE_INT32, List.of(1L, 2L), "01000000ffffffff");
    assertMessage(
        Tensor.of(new long[][] {{1}, {-2}}),
        DATA_TYPE_INT64,
        List.of(2L, 1L),
        "0100000000000000feffffffffffffff");
  }

  @Test
  void textsFollowTheirLengthInBytes() {
    assertMessage(
        Tensor.of(new String[] {"a", "", "ü"}),
        DATA_TYPE_BYTES,
        List.of(1L, 3L),
        "0100000061" + "00000000" + "02000000c3bc");
  }

  @Test
  void aBatchMayBeEmpty() {
    assertMessage(Tensor.of(new float[0][]), DATA_TYPE_FP32, List.of(0L, 0L), "");
  }

  @Test
  void rowsOfDifferentSizesAreNamed() {
    var error =
        assertThrows(
            IllegalArgumentException.class, () -> Tensor.of(new float[][] {{1, 2}, {1, 2}, {1}}));
    assertEquals("row 2: expected 2 values as in row 0, got 1", error.getMessage());
  }

  @Test
  void aBufferIsSentFromItsPositionToItsLimit() {
    ByteBuffer data = ByteBuffer.wrap(new byte[] {0, 1, 2, 3}, 1, 2);
    Tensor tensor = Tensor.of(DATA_TYPE_UNSPECIFIED, data, 1, 2).named("x");
    tensor.data().getShort();
    assertMessage(tensor, DATA_TYPE_UNSPECIFIED, List.of(1L, 2L), "0102");
    assertEquals("x", tensor.toMessage().getName());
    assertEquals(1, data.position());
  }

  @Test
  void floatsOfEveryTypeAreRead() {
    float[][] expected = {{1, -2}, {0.5f, Float.POSITIVE_INFINITY}};
    assertArrayEquals(expected, raw(DATA_TYPE_FP16, "003c00c00038007c", 2, 2).toFloats());
    assertArrayEquals(expected, raw(DATA_TYPE_BF16, "803f00c0003f807f", 2, 2).toFloats());
    assertArrayEquals(
        expected, raw(DATA_TYPE_FP32, "0000803f000000c00000003f0000807f", 2, 2).toFloats());
    assertArrayEquals(new float[][] {{1}, {-2}}, Tensor.of(new double[][] {{1}, {-2}}).toFloats());
    assertArrayEquals(
        new float[][] {{0x1p-24f}, {Float.NaN}}, raw(DATA_TYPE_FP16, "0100017e", 2, 1).toFloats());
  }

  @Test
  void whatHoldsNoFloatsIsNotRead() {
    assertThrows(IllegalStateException.class, () -> Tensor.of(new int[] {1}).toFloats());
    assertThrows(IllegalStateException.class, () -> raw(DATA_TYPE_FP32, "00000000").toFloats());
  }
}
