/* Kernels of ONNX Runtime's CUDA provider, as far as linear layers and what lies between them need
   them. What an argument means has been read from the provider's calls. */

#include <math.h>

#include "simulator.h"

#define KERNEL(name) static void name(void **arguments)
#define AT(type, number) (*(type *)arguments[number])
#define FLOATS(number, count) ((float *)sim_reach(AT(void *, number), sizeof(float) * (count)))

/* (bias, out, count, columns, step of a row, step of a column, factor) */
KERNEL(broadcast_bias) {
    long count = AT(int, 2), columns = AT(int, 3), down = AT(int, 4), right = AT(int, 5);
    const float *bias = FLOATS(0, (count / columns - 1) * down + (columns - 1) * right + 1);
    float *out = FLOATS(1, count);
    for (long i = 0; bias && out && i < count; i++)
        out[i] = AT(float, 6) * bias[i / columns * down + i % columns * right];
}

/* (in, out, operator, count) */
static void of_one(void **arguments, float (*of)(float)) {
    long count = AT(int, 3);
    const float *in = FLOATS(0, count);
    float *out = FLOATS(1, count);
    for (long i = 0; in && out && i < count; i++)
        out[i] = of(in[i]);
}

static void of_two(const float *left, const float *right, float *out, long count, long each,
                   long channels, float (*of)(float, float)) {
    for (long i = 0; left && right && out && i < count; i++)
        out[i] = of(left[i], right[i / each % channels]);
}
/* (left, right, out, operator, count) */
static void of_pairs(void **arguments, float (*of)(float, float)) {
    long count = AT(int, 4);
    of_two(FLOATS(0, count), FLOATS(1, count), FLOATS(2, count), count, 1, count, of);
}
/* (left, right, how many in a row share one of the right, out, operator, count) */
static void of_channels(void **arguments, float (*of)(float, float)) {
    long each = AT(int, 2), count = AT(int, 5), channels = (count + each - 1) / each;
    of_two(FLOATS(0, count), FLOATS(1, channels), FLOATS(3, count), count, each, channels, of);
}
/* (left, right, how many in a row share one of the right, of how many, out, operator, count) */
static void of_channels_again(void **arguments, float (*of)(float, float)) {
    long each = AT(int, 2), channels = AT(int, 3), count = AT(int, 6);
    of_two(FLOATS(0, count), FLOATS(1, channels), FLOATS(4, count), count, each, channels, of);
}

static float relu(float x) { return x > 0 ? x : 0; }
static float sigmoid(float x) { return 1 / (1 + expf(-x)); }
static float add(float x, float y) { return x + y; }
static float subtract(float x, float y) { return x - y; }
static float divide(float x, float y) { return x / y; }

KERNEL(relu_of_one) { of_one(arguments, relu); }
KERNEL(sigmoid_of_one) { of_one(arguments, sigmoid); }
#define OF_TWO(operator)                                                                           \
    KERNEL(operator##_pairs) { of_pairs(arguments, operator); }                                    \
    KERNEL(operator##_channels) { of_channels(arguments, operator); }                              \
    KERNEL(operator##_channels_again) { of_channels_again(arguments, operator); }
OF_TWO(add)
OF_TWO(subtract)
OF_TWO(divide)

/* (out, in, rows, step of a row, columns) */
KERNEL(softmax) {
    long rows = AT(int, 2), step = AT(int, 3), columns = AT(int, 4);
    const float *in = FLOATS(1, (rows - 1) * step + columns);
    float *out = FLOATS(0, (rows - 1) * step + columns);
    for (long row = 0; in && out && row < rows; row++, in += step, out += step) {
        float most = in[0], sum = 0;
        for (long i = 1; i < columns; i++)
            most = fmaxf(most, in[i]);
        for (long i = 0; i < columns; i++)
            sum += out[i] = expf(in[i] - most);
        for (long i = 0; i < columns; i++)
            out[i] /= sum;
    }
}

#define CUDA "_ZN11onnxruntime4cuda"
#define BINARY(mangled, operator)                                                                  \
    {CUDA "24_BinaryElementWiseSimpleILb1ELb1EfffNS0_6OP_" mangled, operator##_pairs,              \
     {8, 8, 8, 1, 4}},                                                                             \
    {CUDA "37_BinaryElementWiseRhsPerChannelBatch1IfffNS0_6OP_" mangled, operator##_channels,      \
     {8, 8, 12, 8, 1, 4}},                                                                         \
    {CUDA "37_BinaryElementWiseRhsPerChannelBatchNIfffNS0_6OP_" mangled,                           \
     operator##_channels_again, {8, 8, 12, 12, 8, 1, 4}}

const struct kernel sim_kernels[] = {
    {CUDA "19BroadcastBiasKernelIfiLb0E", broadcast_bias, {8, 8, 8, 12, 4, 4, 4}},
    {CUDA "17_UnaryElementWiseIffNS0_7OP_Relu", relu_of_one, {8, 8, 1, 8}},
    {CUDA "17_UnaryElementWiseIffNS0_10OP_Sigmoid", sigmoid_of_one, {8, 8, 1, 8}},
    BINARY("Add", add),
    BINARY("Sub", subtract),
    BINARY("Div", divide),
    {CUDA "20softmax_warp_forwardIfffLi", softmax, {8, 8, 4, 4, 4}},
    {0},
};
