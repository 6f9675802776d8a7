/* Errors, GPUs, and what tests set and count. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "simulator.h"

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void sim_lock(void) { pthread_mutex_lock(&mutex); }
void sim_unlock(int *unused) { pthread_mutex_unlock(&mutex); }

static __thread int device, last_error;
static int lost[MOST_GPUS];

void sim_lose(int gpu, int code) { lost[gpu] = lost[gpu] ? lost[gpu] : code; }
int sim_lost(int gpu) { return lost[gpu]; }
int sim_result(int code) {
    code = lost[device] ? lost[device] : code;
    if (code && code != NOT_READY)
        last_error = code;
    return code;
}
int cudaGetLastError(void) {
    int code = sim_result(last_error);
    last_error = OK;
    return code;
}
int cudaPeekAtLastError(void) { return sim_result(last_error); }

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {OK, "cudaSuccess", "no error"},
    {INVALID, "cudaErrorInvalidValue", "invalid argument"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
    {UNKNOWN_KERNEL, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {NO_SUCH_GPU, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {OTHER_GPU, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {NOT_READY, "cudaErrorNotReady", "device not ready"},
    {ILLEGAL_ADDRESS, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {TOO_LARGE_A_LAUNCH, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {KERNEL_FAILED, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {NOT_SUPPORTED, "cudaErrorNotSupported", "operation not supported"},
    {NOT_IN_A_CAPTURE, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {BROKEN_CAPTURE, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {OTHER_THREADS_CAPTURE, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};
enum { ERRORS = sizeof errors / sizeof *errors };

const char *cudaGetErrorName(int code) {
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].name;
    return "unrecognized error code";
}
const char *cudaGetErrorString(int code) {
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "unrecognized error code";
}

/* SIMULATED_GPU_FAULT is a file that holds the error's number, and goes when it is taken. */
int sim_wanted_fault(void) {
    const char *path = getenv("SIMULATED_GPU_FAULT");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        return OK;
    int code = INVALID;
    if (fscanf(file, "%d", &code) != 1)
        abort();
    fclose(file);
    unlink(path);
    return code;
}

struct counts *sim_counts(void) {
    static struct counts unshared, *counts;
    const char *path = getenv("SIMULATED_GPU_COUNTS");
    if (counts)
        return counts;
    counts = &unshared;
    if (path) {
        int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0 || ftruncate(file, sizeof unshared))
            abort();
        counts = mmap(NULL, sizeof unshared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    }
    return counts;
}

/* --- GPUs --- */

int sim_device(void) { return device; }

int cudaGetDeviceCount(int *count) {
    *count = sim_gpu_count();
    return sim_result(OK);
}
int cudaGetDevice(int *number) {
    *number = device;
    return sim_result(OK);
}
int cudaSetDevice(int number) {
    if (number < 0 || number >= sim_gpu_count())
        return sim_result(NO_SUCH_GPU);
    device = number;
    return sim_result(OK);
}
int cudaDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return sim_result(OK);
}
int cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

/* A cudaDeviceProp of CUDA 13, as far as it is asked for. */
union properties {
    char name[1008];
    struct { char to_memory[288]; size_t memory, block_shared; int registers, warp; };
    struct { char to_threads[320]; int block_threads, block_sides[3], grid_sides[3]; };
    struct { char to_major[360]; int major, minor; };
    struct { char to_processors[384]; int processors; };
    struct { char to_cache[596]; int cache, unused, processor_threads; };
    struct { char to_shared[624]; size_t processor_shared; };
    struct { char to_most[672]; size_t most_shared; };
};

int cudaGetDeviceProperties(union properties *out, int number) {
    union properties it = {GPU_NAME};
    it.memory = sim_gpu_memory(), it.cache = 50 << 20, it.registers = 65536;
    it.block_shared = 48 << 10, it.processor_shared = 228 << 10, it.most_shared = 227 << 10;
    it.warp = 32, it.block_threads = 1024, it.processor_threads = 2048, it.processors = 132;
    it.block_sides[0] = it.block_sides[1] = 1024, it.block_sides[2] = 64;
    it.grid_sides[0] = 0x7fffffff, it.grid_sides[1] = it.grid_sides[2] = 65535;
    it.major = CAPABILITY_MAJOR;
    *out = it;
    return sim_result(OK);
}

/* cudaDeviceAttr, as far as it is asked for. */
int cudaDeviceGetAttribute(int *value, int attribute, int number) {
    enum { WARP = 10, PROCESSORS = 16, MAJOR = 75, MINOR = 76, MOST_SHARED = 97 };
    union properties it;
    int code = cudaGetDeviceProperties(&it, number);
    switch (attribute) {
    case WARP: *value = it.warp; break;
    case PROCESSORS: *value = it.processors; break;
    case MAJOR: *value = it.major; break;
    case MINOR: *value = it.minor; break;
    case MOST_SHARED: *value = (int)it.most_shared; break;
    default: *value = 0;
    }
    return code;
}
