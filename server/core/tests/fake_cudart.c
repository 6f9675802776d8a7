/* CUDA's runtime functions over the host's memory, for tests: what is alive is counted, and errors
   are made on demand. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int device = -1, alive, error, lost, slow, slept;

/* The error that is wanted of memory and copies: once, or for ever. */
static int take(void) {
    int code = lost ? lost : error;
    error = 0;
    return code;
}

static int make(void **out, size_t size) {
    int code = take();
    if (code)
        return code;
    *out = malloc(size);
    /* Whoever takes new memory for zero is found out. */
    memset(*out, 0xab, size);
    alive++;
    return 0;
}

static int end(void *memory) {
    alive -= memory != NULL;
    free(memory);
    return 0;
}

int cudaSetDevice(int number) {
    device = number;
    return 0;
}
int cudaGetLastError(void) { return 0; }
const char *cudaGetErrorString(int code) {
    return code == 2 ? "out of memory" : "the fake's error";
}
int cudaMemGetInfo(size_t *free, size_t *all) {
    *free = 5 << 20;
    *all = 7 << 20;
    return lost;
}
int cudaMalloc(void **out, size_t size) { return make(out, size); }
int cudaFree(void *memory) { return end(memory); }
int cudaMallocHost(void **out, size_t size) { return make(out, size); }
int cudaFreeHost(void *memory) { return end(memory); }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    int code = take();
    if (!code)
        memcpy(to, from, size);
    return code;
}
int cudaStreamCreateWithFlags(void **out, unsigned flags) { return make(out, 1); }
int cudaStreamDestroy(void *stream) { return end(stream); }
int cudaStreamEndCapture(void *stream, void **graph) { return 401; }
int cudaGraphDestroy(void *graph) { return 0; }
int cudaEventCreateWithFlags(void **out, unsigned flags) { return make(out, 1); }
int cudaEventDestroy(void *event) { return end(event); }
int cudaEventRecord(void *event, void *stream) { return 0; }
int cudaEventQuery(void *event) { return slow ? 600 : 0; }
int cudaEventSynchronize(void *event) {
    slept++;
    return 0;
}

int fake_device(int unused) { return device; }
int fake_alive(int unused) { return alive; }
int fake_fail(int code) { return error = code; }
int fake_lose(int code) { return lost = code; }
int fake_slow(int yes) {
    slow = yes;
    return slept;
}
