/* NVIDIA's driver, as far as it is asked what GPUs there are. */

#include <stdlib.h>
#include <string.h>

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

int cuInit(unsigned flags) { return 0; }
int cuGetErrorString(int code, const char **text) {
    *text = NULL;
    return 0;
}
int cuDriverGetVersion(int *version) {
    *version = 13020;
    return 0;
}
int cuDeviceGetCount(int *count) {
    *count = (int)setting("SIMULATED_GPUS", 1);
    return 0;
}
int cuDeviceGet(int *handle, int number) {
    *handle = number;
    return 0;
}
int cuDeviceGetName(char *name, int size, int handle) {
    strncpy(name, "Simulated GPU", size);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int handle) {
    *bytes = (size_t)setting("SIMULATED_GPU_MIB", 1024) << 20;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int handle) {
    enum { MAJOR = 75 };
    *value = attribute == MAJOR ? 9 : 0;
    return 0;
}
