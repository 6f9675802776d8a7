/* cuBLAS, as far as linear layers need it; and of cuBLASLt what the provider's start does.

   Matrices lie column by column. Sums are taken in the order of k, so a row's bits do not depend on
   the rows beside it. */

#include <stdlib.h>

#include "simulator.h"

enum { EXECUTION_FAILED = 13 };
/* Of cublasMath_t: products of tensor cores, in TF32. */
enum { TF32 = 3 };

struct handle {
    void *stream;
    int mode;
};

int cublasCreate_v2(struct handle **out) {
    *out = calloc(1, sizeof **out);
    return OK;
}
int cublasDestroy_v2(struct handle *it) {
    free(it);
    return OK;
}
int cublasSetStream_v2(struct handle *it, void *stream) {
    it->stream = stream;
    return OK;
}
int cublasSetMathMode(struct handle *it, int mode) {
    it->mode = mode;
    return OK;
}
int cublasGetMathMode(struct handle *it, int *mode) {
    *mode = it->mode;
    return OK;
}
const char *cublasGetStatusName(int code) {
    return code == EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_UNKNOWN";
}
const char *cublasGetStatusString(int code) {
    return code == EXECUTION_FAILED ? "the GPU program failed to execute" : "unknown";
}

int cublasLtCreate(struct handle **out) { return cublasCreate_v2(out); }
int cublasLtDestroy(struct handle *it) { return cublasDestroy_v2(it); }

/* A matrix as it lies: its side between columns, and between matrices. */
struct matrix {
    const float *at;
    bool turned;
    long leading, next;
};
struct product {
    bool is_tf32;
    long rows, columns, inner, count;
    float alpha, beta;
    struct matrix a, b, c;
};

static float *reach(const struct matrix *it, long rows, long columns, long count) {
    long last = it->turned ? (rows - 1) * it->leading + columns : (columns - 1) * it->leading + rows;
    return sim_reach(it->at, sizeof(float) * ((count - 1) * it->next + last));
}
/* A float with the 10 bits of mantissa that TF32 has, rounded to the nearest. */
static float to_tf32(float x) {
    union {
        float x;
        uint32_t bits;
    } it = {x};
    it.bits = (it.bits + 0x1000) & ~UINT32_C(0x1fff);
    return it.x;
}
static void multiply_one(const struct product *it, const float *a, const float *b, float *c) {
    long down = it->a.turned ? it->a.leading : 1, right = it->a.turned ? 1 : it->a.leading;
    for (long column = 0; column < it->columns; column++) {
        float *restrict out = c + column * it->c.leading;
        for (long row = 0; row < it->rows; row++)
            out[row] = it->beta ? it->beta * out[row] : 0;
        for (long k = 0; k < it->inner; k++) {
            long at = it->b.turned ? k * it->b.leading + column : column * it->b.leading + k;
            const float factor = it->alpha * b[at], *values = a + k * right;
            if (it->is_tf32)
                for (long row = 0; row < it->rows; row++)
                    out[row] += to_tf32(factor) * to_tf32(values[row * down]);
            else if (down == 1)
                for (long row = 0; row < it->rows; row++)
                    out[row] += factor * values[row];
            else
                for (long row = 0; row < it->rows; row++)
                    out[row] += factor * values[row * down];
        }
    }
}
static void multiply(void *values) {
    const struct product *it = values;
    const float *a = reach(&it->a, it->rows, it->inner, it->count);
    const float *b = reach(&it->b, it->inner, it->columns, it->count);
    float *c = reach(&it->c, it->rows, it->columns, it->count);
    for (long i = 0; a && b && c && i < it->count; i++)
        multiply_one(it, a + i * it->a.next, b + i * it->b.next, c + i * it->c.next);
}

int cublasSgemmStridedBatched(struct handle *it, int turn_a, int turn_b, int m, int n, int k,
                              const float *alpha, const float *a, int lda, long next_a,
                              const float *b, int ldb, long next_b, const float *beta, float *c,
                              int ldc, long next_c, int count) {
    struct product product = {
        it->mode == TF32, m, n, k, count, *alpha, *beta,
        {a, turn_a, lda, next_a}, {b, turn_b, ldb, next_b}, {c, false, ldc, next_c},
    };
    return sim_launch(it->stream, multiply, &product, sizeof product) ? EXECUTION_FAILED : OK;
}
int cublasSgemm_v2(struct handle *it, int turn_a, int turn_b, int m, int n, int k,
                   const float *alpha, const float *a, int lda, const float *b, int ldb,
                   const float *beta, float *c, int ldc) {
    return cublasSgemmStridedBatched(it, turn_a, turn_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta,
                                     c, ldc, 0, 1);
}
