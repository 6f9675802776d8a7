/* Memory of GPUs, and pinned memory of the host.

   The host cannot reach a GPU's memory: its addresses are mapped without access, and the simulator
   goes by a second mapping of the same pages. New memory holds rubbish, which are NaNs for floats. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "simulator.h"

enum { ALIGNMENT = 512, RUBBISH = 0xff };

struct block {
    struct block *next;
    char *at;
    size_t size;
};

static struct gpu {
    char *shown, *inside;
    /* In the order of their addresses. */
    struct block *blocks;
} gpus[MOST_GPUS];
static struct block *pinned;

static struct gpu *gpu(void) {
    struct gpu *it = &gpus[sim_device()];
    size_t size = sim_gpu_memory();
    if (it->shown)
        return it;
    int file = memfd_create("gpu", MFD_CLOEXEC), flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (file < 0 || ftruncate(file, size))
        abort();
    it->inside = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    it->shown = mmap(NULL, size, PROT_NONE, flags, -1, 0);
    close(file);
    return it;
}

static size_t rounded(size_t size) { return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static struct block *block_of(struct block *it, const void *address, size_t bytes) {
    const char *at = address;
    while (it && !(at >= it->at && at + bytes <= it->at + it->size))
        it = it->next;
    return it;
}

static void *memory_of(const struct gpu *it, const void *address, size_t bytes) {
    const char *at = address;
    return block_of(it->blocks, address, bytes) ? it->inside + (at - it->shown) : NULL;
}

void *sim_memory(const void *address, size_t bytes) {
    void *found = block_of(pinned, address, bytes) ? (void *)address : NULL;
    for (const struct gpu *it = gpus; it < gpus + MOST_GPUS && !found; it++)
        found = memory_of(it, address, bytes);
    return found;
}

void *sim_reach(const void *address, size_t bytes) {
    void *found = block_of(pinned, address, bytes) ? (void *)address : NULL;
    if (!found)
        found = memory_of(&gpus[sim_running()], address, bytes);
    if (!found)
        sim_lose(sim_running(), ILLEGAL_ADDRESS);
    return found;
}

static void put_in(struct block **link, char *at, size_t size) {
    struct block *new = malloc(sizeof *new);
    *new = (struct block){*link, at, size};
    *link = new;
}

/* The size of the block that begins there, which the list does not have any more; or 0. */
static size_t take_out(struct block **link, void *address) {
    while (*link && (*link)->at != address)
        link = &(*link)->next;
    struct block *old = *link;
    if (!old)
        return 0;
    size_t size = old->size;
    *link = old->next;
    free(old);
    return size;
}

int cudaMalloc(void **out, size_t size) {
    LOCKED;
    int code = sim_refused();
    *out = NULL;
    if (code || !size)
        return sim_result(code);
    struct gpu *it = gpu();
    struct block **link = &it->blocks;
    char *at = it->shown;
    size = rounded(size);
    for (; *link && (size_t)((*link)->at - at) < size; link = &(*link)->next)
        at = (*link)->at + (*link)->size;
    if (size > (size_t)(it->shown + sim_gpu_memory() - at))
        return sim_result(OUT_OF_MEMORY);
    put_in(link, at, size);
    sim_counts()->used[it - gpus] += size;
    sim_counts()->allocations++;
    memset(it->inside + (at - it->shown), RUBBISH, size);
    *out = at;
    return sim_result(OK);
}

int cudaFree(void *address) {
    LOCKED;
    int code = sim_refused();
    if (code || !address)
        return sim_result(code);
    sim_wait_for_all();
    size_t size = 0;
    for (int i = 0; i < MOST_GPUS && !size; i++) {
        size = take_out(&gpus[i].blocks, address);
        sim_counts()->used[i] -= size;
    }
    return sim_result(size ? OK : INVALID);
}

int cudaHostAlloc(void **out, size_t size, unsigned flags) {
    LOCKED;
    int code = sim_refused();
    *out = NULL;
    if (code || !size)
        return sim_result(code);
    *out = aligned_alloc(ALIGNMENT, rounded(size));
    memset(*out, RUBBISH, rounded(size));
    put_in(&pinned, *out, size);
    sim_counts()->allocations++;
    return sim_result(OK);
}
int cudaMallocHost(void **out, size_t size) { return cudaHostAlloc(out, size, 0); }

int cudaFreeHost(void *address) {
    LOCKED;
    int code = sim_refused();
    if (code || !address)
        return sim_result(code);
    sim_wait_for_all();
    if (!take_out(&pinned, address))
        return sim_result(INVALID);
    free(address);
    return sim_result(OK);
}

int cudaMemGetInfo(size_t *left, size_t *all) {
    LOCKED;
    *all = sim_gpu_memory();
    *left = *all - sim_counts()->used[sim_device()];
    return sim_result(OK);
}

/* A cudaPointerAttributes. */
struct attributes {
    int kind, gpu;
    const void *on_gpu, *on_host;
    long reserved[8];
};
int cudaPointerGetAttributes(struct attributes *out, const void *address) {
    enum { PAGEABLE, PINNED, GPU };
    LOCKED;
    *out = (struct attributes){PAGEABLE, sim_device()};
    for (int i = 0; i < MOST_GPUS; i++)
        if (memory_of(&gpus[i], address, 1))
            *out = (struct attributes){GPU, i, address};
    if (block_of(pinned, address, 1))
        *out = (struct attributes){PINNED, sim_device(), address, address};
    return sim_result(OK);
}
