/* NVIDIA's driver, as far as it is asked what GPUs there are. */

#include <string.h>

#include "simulator.h"

int cuInit(unsigned flags) { return 0; }
int cuGetErrorString(int code, const char **text) {
    *text = NULL;
    return 0;
}
int cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return 0;
}
int cuDeviceGetCount(int *count) {
    *count = sim_gpu_count();
    return 0;
}
int cuDeviceGet(int *handle, int number) {
    *handle = number;
    return 0;
}
int cuDeviceGetName(char *name, int size, int handle) {
    strncpy(name, GPU_NAME, size);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int handle) {
    *bytes = sim_gpu_memory();
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int handle) {
    enum { MAJOR = 75 };
    *value = attribute == MAJOR ? CAPABILITY_MAJOR : 0;
    return 0;
}
