/*
 * The driver's functions, looked up at run time: neither its headers nor the toolkit are needed to build, and a library
 * that is preloaded sees the look-ups as it sees those of any program that loads the driver by name.
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MB ((size_t)1 << 20)
#define OUT_OF_MEMORY 2
#define NO_SUCH_FUNCTION -1

/* Device memory is an address where it came from cuMemAlloc, and a handle where it came from cuMemCreate. */
typedef unsigned long long memory;

/* CUmemAllocationProp of pinned memory on one device, which can be exported as a file descriptor. */
struct physical {
	int type, handle_types;
	struct { int type, device; } location;
	void *windows;
	unsigned char flags[8];
};

/* nvmlMemory_v2_t */
struct nvml_memory {
	unsigned version;
	unsigned long long total, reserved, free, used;
};

#define CUDA(X) \
	X(cuInit, (unsigned)) \
	X(cuDeviceGet, (int *, int)) \
	X(cuDeviceGetPCIBusId, (char *, int, int)) \
	X(cuDevicePrimaryCtxRetain, (void **, int)) \
	X(cuDevicePrimaryCtxRelease_v2, (int)) \
	X(cuCtxSetCurrent, (void *)) \
	X(cuCtxSetLimit, (int, size_t)) \
	X(cuMemGetInfo_v2, (size_t *, size_t *)) \
	X(cuMemAlloc_v2, (memory *, size_t)) \
	X(cuMemFree_v2, (memory)) \
	X(cuMemsetD32_v2, (memory, unsigned, size_t)) \
	X(cuMemcpyDtoH_v2, (void *, memory, size_t)) \
	X(cuModuleLoadData, (void **, const void *)) \
	X(cuModuleUnload, (void *)) \
	X(cuModuleGetFunction, (void **, void *, const char *)) \
	X(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)) \
	X(cuCtxSynchronize, (void)) \
	X(cuStreamCreate, (void **, unsigned)) \
	X(cuStreamBeginCapture_v2, (void *, int)) \
	X(cuStreamEndCapture, (void *, void **)) \
	X(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long)) \
	X(cuGraphLaunch, (void *, void *)) \
	X(cuMemCreate, (memory *, size_t, const struct physical *, unsigned long long)) \
	X(cuMemRelease, (memory))

#define NVML(X) \
	X(nvmlInit_v2, (void)) \
	X(nvmlDeviceGetHandleByPciBusId_v2, (const char *, void **)) \
	X(nvmlDeviceGetMemoryInfo_v2, (void *, struct nvml_memory *))

#define DECLARE(name, parameters) static int(*name) parameters;
CUDA(DECLARE)
NVML(DECLARE)

static void check(int result, const char *call)
{
	if (result) {
		fprintf(stderr, "%s: error %d\n", call, result);
		exit(1);
	}
}

/* The result of a function that an older driver may lack. */
#define TRY(function, ...) ((function) ? (function)(__VA_ARGS__) : NO_SUCH_FUNCTION)
#define CALL(function, ...) check(TRY(function, __VA_ARGS__), #function)

static void *library(const char *name)
{
	void *loaded = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
	if (!loaded) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return loaded;
}

static int device;
static void *nvml_device;

/* Loads the driver and finds the first GPU that this process may see, in CUDA and in NVML. */
static void open_driver(void)
{
	char bus_id[32];
	void *cuda = library("libcuda.so.1"), *nvml = library("libnvidia-ml.so.1");
#define FIND_CUDA(name, parameters) *(void **)&name = dlsym(cuda, #name);
#define FIND_NVML(name, parameters) *(void **)&name = dlsym(nvml, #name);
	CUDA(FIND_CUDA)
	NVML(FIND_NVML)
	check(nvmlInit_v2 ? nvmlInit_v2() : NO_SUCH_FUNCTION, "nvmlInit_v2");
	CALL(cuInit, 0);
	CALL(cuDeviceGet, &device, 0);
	CALL(cuDeviceGetPCIBusId, bus_id, sizeof bus_id, device);
	CALL(nvmlDeviceGetHandleByPciBusId_v2, bus_id, &nvml_device);
}

static struct nvml_memory nvml_memory(void)
{
	struct nvml_memory info = {.version = sizeof info | 2 << 24};
	CALL(nvmlDeviceGetMemoryInfo_v2, nvml_device, &info);
	return info;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

static int context(void)
{
	void *made;
	int result = TRY(cuDevicePrimaryCtxRetain, &made, device);
	if (!result)
		CALL(cuCtxSetCurrent, made);
	return result;
}

static int create(memory *handle, size_t bytes)
{
	struct physical on_device = {.type = 1, .handle_types = 1, .location = {1, device}};
	return TRY(cuMemCreate, handle, bytes, &on_device, 0);
}

#endif
