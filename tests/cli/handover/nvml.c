/* Prints what NVML says of the memory of the first GPU, by both versions of the call. */
#include <dlfcn.h>
#include <stdio.h>

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };

int main(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW), *device;
    if (!library) return 1;
    int (*init)(void) = dlsym(library, "nvmlInit_v2");
    int (*handle)(unsigned, void **) = dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    int (*info)(void *, struct memory *) = dlsym(library, "nvmlDeviceGetMemoryInfo");
    int (*info_v2)(void *, struct memory_v2 *) = dlsym(library, "nvmlDeviceGetMemoryInfo_v2");
    struct memory one;
    struct memory_v2 two = { sizeof two | 2 << 24 };
    if (init() || handle(0, &device) || info(device, &one) || info_v2(device, &two)) return 2;
    printf("v1 %llu %llu %llu\n", one.total, one.free, one.used);
    printf("v2 %llu %llu %llu\n", two.total, two.free, two.used);
    return 0;
}
