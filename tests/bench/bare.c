/*
 * The bare minimum that gpu-balloon is measured against: the same calls of the driver, and nothing else.
 *
 *   bare GPUS BYTES CHUNK    holds BYTES in chunks of CHUNK on each of the GPUs 0..GPUS-1, one thread a GPU
 *
 * Prints `ready` once everything is held. Each line on standard input is then a change, and is answered with the
 * nanoseconds that the driver's calls took: `+BYTES` and `-BYTES` on GPU 0, `0` for freeing everything, which ends it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef unsigned long long address;
typedef struct { char bytes[16]; } uuid;

static int (*init)(unsigned), (*device_count)(int *), (*device_get)(int *, int), (*device_uuid)(uuid *, int);
static int (*device_name)(char *, int, int), (*device_bus_id)(char *, int, int), (*device_total)(size_t *, int);
static int (*device_attribute)(int *, int, int);
static int (*context_flags)(int, unsigned), (*context_retain)(void **, int), (*context_current)(void *);
static int (*context_release)(int), (*context_limit)(int, size_t);
static int (*memory_info)(size_t *, size_t *), (*memory_allocate)(address *, size_t), (*memory_free)(address);

struct gpu {
	int device;
	size_t bytes, chunk, count;
	address *chunks;
	void *context;
};

static void check(int result, const char *call)
{
	if (result) {
		fprintf(stderr, "bare: %s: error %d\n", call, result);
		exit(1);
	}
}
#define CALL(function, ...) check(function(__VA_ARGS__), #function)

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (!found) {
		fprintf(stderr, "bare: no %s\n", name);
		exit(1);
	}
	return found;
}

static void load(void)
{
	void *cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (!cuda) {
		fprintf(stderr, "bare: %s\n", dlerror());
		exit(1);
	}
	init = symbol(cuda, "cuInit");
	device_count = symbol(cuda, "cuDeviceGetCount");
	device_get = symbol(cuda, "cuDeviceGet");
	device_uuid = symbol(cuda, "cuDeviceGetUuid_v2");
	device_name = symbol(cuda, "cuDeviceGetName");
	device_bus_id = symbol(cuda, "cuDeviceGetPCIBusId");
	device_total = symbol(cuda, "cuDeviceTotalMem_v2");
	device_attribute = symbol(cuda, "cuDeviceGetAttribute");
	context_flags = symbol(cuda, "cuDevicePrimaryCtxSetFlags_v2");
	context_retain = symbol(cuda, "cuDevicePrimaryCtxRetain");
	context_release = symbol(cuda, "cuDevicePrimaryCtxRelease_v2");
	context_current = symbol(cuda, "cuCtxSetCurrent");
	context_limit = symbol(cuda, "cuCtxSetLimit");
	memory_info = symbol(cuda, "cuMemGetInfo_v2");
	memory_allocate = symbol(cuda, "cuMemAlloc_v2");
	memory_free = symbol(cuda, "cuMemFree_v2");
}

static void grow(struct gpu *gpu, size_t bytes)
{
	for (size_t end = gpu->count + bytes / gpu->chunk; gpu->count < end; gpu->count++)
		CALL(memory_allocate, &gpu->chunks[gpu->count], gpu->chunk);
}

static void shrink(struct gpu *gpu, size_t bytes)
{
	for (size_t end = gpu->count - bytes / gpu->chunk; gpu->count > end; gpu->count--)
		CALL(memory_free, gpu->chunks[gpu->count - 1]);
}

static void *hold(void *argument)
{
	struct gpu *gpu = argument;
	size_t free, total;
	CALL(context_flags, gpu->device, 4);
	CALL(context_retain, &gpu->context, gpu->device);
	CALL(context_current, gpu->context);
	for (int limit = 0; limit < 3; limit++)
		CALL(context_limit, limit, 0);
	CALL(memory_info, &free, &total);
	grow(gpu, gpu->bytes);
	return NULL;
}

static long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bare GPUS BYTES CHUNK\n");
		return 2;
	}
	int gpus = atoi(argv[1]), count, mode;
	size_t bytes = strtoull(argv[2], NULL, 10), chunk = strtoull(argv[3], NULL, 10), total;
	struct gpu *gpu = calloc(gpus, sizeof *gpu);
	pthread_t *threads = calloc(gpus, sizeof *threads);
	char text[128];
	uuid id;

	load();
	CALL(init, 0);
	CALL(device_count, &count);
	for (int i = 0; i < gpus; i++) {
		gpu[i] = (struct gpu){.bytes = bytes, .chunk = chunk};
		/* Room to grow to twice the size. */
		gpu[i].chunks = calloc(2 * bytes / chunk + 1, sizeof *gpu[i].chunks);
		CALL(device_get, &gpu[i].device, i);
		CALL(device_uuid, &id, gpu[i].device);
		CALL(device_name, text, sizeof text, gpu[i].device);
		CALL(device_bus_id, text, sizeof text, gpu[i].device);
		CALL(device_attribute, &mode, 20, gpu[i].device);
		CALL(device_total, &total, gpu[i].device);
	}
	for (int i = 0; i < gpus; i++)
		pthread_create(&threads[i], NULL, hold, &gpu[i]);
	for (int i = 0; i < gpus; i++)
		pthread_join(threads[i], NULL);
	CALL(context_current, gpu[0].context);
	puts("ready");
	fflush(stdout);

	while (fgets(text, sizeof text, stdin)) {
		long start = now();
		size_t change = strtoull(text + 1, NULL, 10);
		if (text[0] == '+')
			grow(&gpu[0], change);
		else if (text[0] == '-')
			shrink(&gpu[0], change);
		else
			for (int i = 0; i < gpus; i++) {
				CALL(context_current, gpu[i].context);
				shrink(&gpu[i], gpu[i].count * chunk);
				CALL(context_release, gpu[i].device);
			}
		printf("%ld\n", now() - start);
		fflush(stdout);
		if (text[0] == '0')
			break;
	}
	return 0;
}
