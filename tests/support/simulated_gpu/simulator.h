/* What the parts of the simulated GPU share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* --- What there is, in this header for the driver as well, which is a library of its own --- */

#define GPU_NAME "Simulated GPU"
enum { MOST_GPUS = 2, CUDA_VERSION = 13020, CAPABILITY_MAJOR = 9 };

static inline long sim_setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}
static inline int sim_gpu_count(void) {
    long count = sim_setting("SIMULATED_GPUS", 1);
    return count < MOST_GPUS ? (int)count : MOST_GPUS;
}
static inline size_t sim_gpu_memory(void) {
    return (size_t)sim_setting("SIMULATED_GPU_MIB", 1024) << 20;
}

/* cudaError_t, as far as it comes up. */
enum {
    OK = 0,
    INVALID = 1,
    OUT_OF_MEMORY = 2,
    UNKNOWN_KERNEL = 98,
    NO_SUCH_GPU = 101,
    OTHER_GPU = 400,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    TOO_LARGE_A_LAUNCH = 701,
    KERNEL_FAILED = 719,
    NOT_SUPPORTED = 801,
    NOT_IN_A_CAPTURE = 900,
    BROKEN_CAPTURE = 901,
    OTHER_THREADS_CAPTURE = 908,
};

/* --- state.c --- */

/* Everything is done by one thread at a time. */
void sim_lock(void);
void sim_unlock(int *unused);
#define LOCKED __attribute__((cleanup(sim_unlock), unused)) int locked = (sim_lock(), 0)

/* The error, for the caller and for who asks later; or the one that the thread's GPU is lost by. */
int sim_result(int code);
/* From now on all that has to do with a GPU gives this. */
void sim_lose(int gpu, int code);
int sim_lost(int gpu);
/* The error that a test wants of a launch, once. */
int sim_wanted_fault(void);

/* The calling thread's GPU. */
int sim_device(void);

/* For tests: what has been done, in the file's order; each number has 8 bytes. */
struct counts {
    long used[MOST_GPUS], allocations, kernels, captures, broken_captures, replays;
};
struct counts *sim_counts(void);

/* --- memory.c --- */

/* Where so many bytes of a GPU lie, or of pinned memory; NULL where there are none such. */
void *sim_memory(const void *address, size_t bytes);
/* The same for a kernel: of its own GPU alone, and what it must not touch is its end. */
void *sim_reach(const void *address, size_t bytes);

/* --- stream.c --- */

/* Puts work on a stream: it is called with a copy of the values once something waits for it. */
int sim_enqueue(void *stream, void (*run)(void *values), const void *values, size_t bytes);
/* The same for what only the stream's own GPU can do. */
int sim_launch(void *stream, void (*run)(void *values), const void *values, size_t bytes);
/* The GPU whose work is being done. */
int sim_running(void);
/* An error for what must not be called while something is captured, and that capture's end. */
int sim_refused(void);
int sim_wait_for_all(void);

/* --- kernels.c --- */

struct dim {
    unsigned x, y, z;
};

enum { MOST_ARGUMENTS = 8 };

struct kernel {
    /* What its mangled name begins with. */
    const char *name;
    void (*run)(void **arguments);
    /* The bytes of each argument; 0: no more. */
    unsigned char sizes[MOST_ARGUMENTS];
};
/* The last has no name. */
extern const struct kernel sim_kernels[];
