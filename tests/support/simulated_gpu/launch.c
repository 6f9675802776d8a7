/* How a program's kernels are found: what it has compiled in is registered when it is loaded, each
   with the address of a function of the host and its mangled name. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulator.h"

struct registered {
    const void *host;
    const char *name;
};
static struct registered *all;
static size_t count, room;
static bool is_sorted;

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void **handle) {}
void __cudaUnregisterFatBinary(void **handle) {}
void __cudaRegisterVar(void) {}
void __cudaRegisterFunction(void **handle, const void *host, char *name) {
    LOCKED;
    if (count == room) {
        room = room ? 2 * room : 4096;
        all = realloc(all, room * sizeof *all);
    }
    all[count++] = (struct registered){host, name};
    is_sorted = false;
}

static int by_host(const void *one, const void *other) {
    const struct registered *a = one, *b = other;
    return (a->host > b->host) - (a->host < b->host);
}
static const char *name_of(const void *host) {
    struct registered wanted = {host};
    if (!is_sorted)
        qsort(all, count, sizeof *all, by_host);
    is_sorted = true;
    const struct registered *found = bsearch(&wanted, all, count, sizeof *all, by_host);
    return found ? found->name : "";
}
static const struct kernel *kernel_of(const void *host) {
    const char *name = name_of(host);
    for (const struct kernel *it = sim_kernels; it->name; it++)
        if (!strncmp(name, it->name, strlen(it->name)))
            return it;
    fprintf(stderr, "simulated GPU: no kernel %s\n", name);
    return NULL;
}

enum { LARGEST_ARGUMENT = 16 };
struct launch {
    const struct kernel *kernel;
    _Alignas(16) char arguments[MOST_ARGUMENTS][LARGEST_ARGUMENT];
};
static void run(void *values) {
    struct launch *it = values;
    void *arguments[MOST_ARGUMENTS];
    for (int i = 0; i < MOST_ARGUMENTS; i++)
        arguments[i] = it->arguments[i];
    it->kernel->run(arguments);
}

int cudaLaunchKernel(const void *host, struct dim grid, struct dim block, void **arguments,
                     size_t shared, void *stream) {
    LOCKED;
    struct launch it = {kernel_of(host)};
    if (!it.kernel)
        return sim_result(UNKNOWN_KERNEL);
    for (int i = 0; i < MOST_ARGUMENTS && it.kernel->sizes[i]; i++)
        memcpy(it.arguments[i], arguments[i], it.kernel->sizes[i]);
    sim_counts()->kernels++;
    return sim_result(sim_launch(stream, run, &it, sizeof it));
}
int __cudaGetKernel(const void **out, const void *host) {
    *out = host;
    return sim_result(OK);
}
int __cudaLaunchKernel(const void *host, struct dim grid, struct dim block, void **arguments,
                       size_t shared, void *stream) {
    return cudaLaunchKernel(host, grid, block, arguments, shared, stream);
}

/* What stands between <<< and >>>, on the way to the launch. */
static __thread struct {
    struct dim grid, block;
    size_t shared;
    void *stream;
} call;
unsigned __cudaPushCallConfiguration(struct dim grid, struct dim block, size_t shared,
                                     void *stream) {
    call.grid = grid, call.block = block, call.shared = shared, call.stream = stream;
    return OK;
}
int __cudaPopCallConfiguration(struct dim *grid, struct dim *block, size_t *shared,
                               void **stream) {
    *grid = call.grid, *block = call.block, *shared = call.shared, *stream = call.stream;
    return OK;
}
