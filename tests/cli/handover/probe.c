/* A job in C that does what it reads on stdin, as `gpu-sim client` does, for the calls that that has not.
   It asks dlsym for cuGetProcAddress_v2, and that for everything else, as cudart does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*resolver)(const char *, void **, int, uint64_t, void *);
static resolver get;

/* The function as CUDA 12.8 has it; flag 2 asks for per-thread default streams. */
static void *find(const char *name, uint64_t flags) {
    void *function = NULL;
    if (get(name, &function, 12080, flags, NULL) != 0 || !function) {
        printf("error no %s\n", name);
        exit(3);
    }
    return function;
}

#define CALL(name, ...) ((int (*)())find(#name, flags))(__VA_ARGS__)

static uint64_t things[4096];

struct place { uint32_t kind, handle_types, location; int32_t id; void *windows; unsigned char rest[72]; };

struct config { unsigned grid[3], block[3], shared; void *stream, *attributes; unsigned count; };

static int answer(int status, const char *text) {
    if (status) printf("error %d\n", status); else printf("ok %s\n", text);
    fflush(stdout);
    return status;
}

int main(int count, char **words) {
    uint64_t flags = count > 1 && !strcmp(words[1], "ptsz") ? 2 : 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library || !(get = (resolver)dlsym(library, "cuGetProcAddress_v2"))) return 3;
    char line[256], verb[64], text[64], code[256];
    unsigned long a = 0, b = 0;
    uint64_t context = 0;
    while (fgets(line, sizeof line, stdin)) {
        a = b = 0;
        if (sscanf(line, "%63s %lu %lu", verb, &a, &b) < 1) continue;
        snprintf(text, sizeof text, "%d", getpid());
        size_t size = (size_t)b << 20, pitch = 0;
        if (!strcmp(verb, "pid")) answer(0, text);
        /* First of all, but in a child that is to use CUDA not before the fork */
        else if (!strcmp(verb, "init")) answer(CALL(cuInit, 0), "");
        else if (!strcmp(verb, "ctx")) {
            int status = CALL(cuDevicePrimaryCtxRetain, &context, (int)a);
            answer(status ? status : CALL(cuCtxSetCurrent, context), "");
        } else if (!strcmp(verb, "create_context")) answer(CALL(cuCtxCreate, &context, NULL, 0u, (int)a), "");
        else if (!strcmp(verb, "destroy_context")) answer(CALL(cuCtxDestroy, context), "");
        else if (!strcmp(verb, "no_context")) answer(CALL(cuCtxSetCurrent, (uint64_t)0), "");
        /* THING MB */
        else if (!strcmp(verb, "alloc")) answer(CALL(cuMemAlloc, &things[a], size), "");
        else if (!strcmp(verb, "pitch")) answer(CALL(cuMemAllocPitch, &things[a], &pitch, (size_t)1 << 20, (size_t)b, 4u), "");
        else if (!strcmp(verb, "free")) answer(CALL(cuMemFree, things[a]), "");
        else if (!strcmp(verb, "async")) answer(CALL(cuMemAllocAsync, &things[a], size, NULL), "");
        else if (!strcmp(verb, "free_async")) answer(CALL(cuMemFreeAsync, things[a], NULL), "");
        /* THING STREAM */
        else if (!strcmp(verb, "free_in")) answer(CALL(cuMemFreeAsync, things[a], things[b]), "");
        else if (!strcmp(verb, "sync")) answer(CALL(cuStreamSynchronize, NULL), "");
        else if (!strcmp(verb, "keep_pool")) {
            uint64_t pool, all = ~(uint64_t)0;
            int status = CALL(cuDeviceGetDefaultMemPool, &pool, (int)a);
            answer(status ? status : CALL(cuMemPoolSetAttribute, pool, 4, &all), "");
        } else if (!strcmp(verb, "trim")) {
            uint64_t pool;
            int status = CALL(cuDeviceGetDefaultMemPool, &pool, (int)a);
            answer(status ? status : CALL(cuMemPoolTrimTo, pool, (size_t)0), "");
        }
        /* THING VALUE: writes it from end to end and reads the last byte */
        else if (!strcmp(verb, "fill")) {
            size_t length = 0;
            unsigned char last = 0;
            int status = CALL(cuMemGetAddressRange, NULL, &length, things[a]);
            if (!status) status = CALL(cuMemsetD8, things[a], (unsigned char)b, length);
            if (!status) status = CALL(cuMemcpyDtoH, &last, things[a] + length - 1, (size_t)1);
            snprintf(text, sizeof text, "%u", last);
            answer(status, text);
        } else if (!strcmp(verb, "range")) {
            uint64_t base = 0;
            size_t length = 0;
            int status = CALL(cuMemGetAddressRange, &base, &length, things[a] + 5);
            snprintf(text, sizeof text, "%d %zu", (int)(things[a] - base), length >> 20);
            answer(status, text);
        }
        /* What the driver knows of an address in the middle of a thing, by the number of the attribute: of an address, how far
           into the range it is */
        else if (!strcmp(verb, "attribute") || !strcmp(verb, "attributes")) {
            uint64_t value = 0, at = things[a] + 5;
            void *place = &value;
            int which = (int)b;
            int one = !strcmp(verb, "attribute");
            int status = one ? CALL(cuPointerGetAttribute, &value, which, at) : CALL(cuPointerGetAttributes, 1, &which, &place, at);
            if (which == 1) value = value == context;
            if (which == 3) value = value == at;
            if (which == 11) value = things[a] - value;
            snprintf(text, sizeof text, "%lu", value);
            answer(status, text);
        }
        /* Whether device B can access a thing, and lets it */
        else if (!strcmp(verb, "access")) {
            int place[2] = { 1, (int)b };
            unsigned long long access = 0;
            int status = CALL(cuMemGetAccess, &access, place, things[a]);
            snprintf(text, sizeof text, "%llu", access);
            answer(status, text);
        } else if (!strcmp(verb, "peer")) {
            uint64_t owner = context, accessor;
            int status = CALL(cuDevicePrimaryCtxRetain, &accessor, (int)a);
            if (!status) status = CALL(cuCtxSetCurrent, accessor);
            if (!status) status = CALL(cuCtxEnablePeerAccess, owner, 0u);
            if (!status) status = CALL(cuCtxSetCurrent, owner);
            answer(status, "");
        }
        /* Physical memory: THING MB, on device 0 */
        else if (!strcmp(verb, "create")) {
            struct place place = { .kind = 1, .location = 1, .id = 0 };
            answer(CALL(cuMemCreate, &things[a], size, &place, (uint64_t)0), "");
        } else if (!strcmp(verb, "create_rdma")) {
            struct place place = { .kind = 1, .handle_types = 1, .location = 1, .id = 0, .rest = { 0, 1 } };
            answer(CALL(cuMemCreate, &things[a], size, &place, (uint64_t)0), "");
        } else if (!strcmp(verb, "release")) answer(CALL(cuMemRelease, things[a]), "");
        /* RANGE MB; then maps thing B there */
        else if (!strcmp(verb, "reserve")) answer(CALL(cuMemAddressReserve, &things[a], size, (size_t)0, (uint64_t)0, (uint64_t)0), "");
        else if (!strcmp(verb, "map")) {
            unsigned long mb = 0;
            sscanf(line, "%*s %*s %*s %lu", &mb);
            answer(CALL(cuMemMap, things[a], (size_t)mb << 20, (size_t)0, things[b], (uint64_t)0), "");
        } else if (!strcmp(verb, "unmap")) answer(CALL(cuMemUnmap, things[a], size), "");
        /* An array of MB, one byte an element */
        else if (!strcmp(verb, "array")) {
            struct { size_t width, height; uint32_t format, channels; } shape = { 1 << 10, b << 10, 1, 1 };
            answer(CALL(cuArrayCreate, &things[a], &shape), "");
        } else if (!strcmp(verb, "free_array")) answer(CALL(cuArrayDestroy, things[a]), "");
        else if (!strcmp(verb, "stream")) answer(CALL(cuStreamCreate, &things[a], 0), "");
        else if (!strcmp(verb, "event")) answer(CALL(cuEventCreate, &things[a], 0), "");
        else if (!strcmp(verb, "pinned")) answer(CALL(cuMemHostAlloc, &things[a], size, 0), "");
        /* A program with MB of variables; and one with a function that needs B bytes of local memory, which THING becomes */
        else if (!strcmp(verb, "code")) {
            snprintf(code, sizeof code, ".version 7.0\n.global .align 4 .b8 table[%zu];\n", size);
            answer(CALL(cuModuleLoadData, &things[a], code), "");
        } else if (!strcmp(verb, "kernel")) {
            uint64_t module;
            snprintf(code, sizeof code, ".version 7.0\n.visible .entry deep()\n{\n.local .align 16 .b8 stack[%lu];\n}\n", b);
            int status = CALL(cuModuleLoadData, &module, code);
            answer(status ? status : CALL(cuModuleGetFunction, &things[a], module, "deep"), "");
        } else if (!strcmp(verb, "launch"))
            answer(CALL(cuLaunchKernel, things[a], 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), "");
        else if (!strcmp(verb, "launch_ex")) {
            struct config config = { .grid = { 1, 1, 1 }, .block = { 32, 1, 1 } };
            answer(CALL(cuLaunchKernelEx, &config, things[a], NULL, NULL), "");
        } else if (!strcmp(verb, "launch_together"))
            answer(CALL(cuLaunchCooperativeKernel, things[a], 1, 1, 1, 32, 1, 1, 0, NULL, NULL), "");
        /* The same in a graph */
        else if (!strcmp(verb, "graph")) {
            void *stream, *graph, *executable;
            int status = CALL(cuStreamCreate, &stream, 1);
            if (!status) status = CALL(cuStreamBeginCapture, stream, 2);
            if (!status) status = CALL(cuLaunchKernel, things[a], 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL);
            if (!status) status = CALL(cuStreamEndCapture, stream, &graph);
            if (!status) status = CALL(cuGraphInstantiateWithFlags, &executable, graph, (uint64_t)0);
            answer(status ? status : CALL(cuGraphLaunch, executable, stream), "");
        }
        /* Records stream THING, which takes no part in what the default stream does */
        else if (!strcmp(verb, "capture")) {
            int status = CALL(cuStreamCreate, &things[a], 1);
            answer(status ? status : CALL(cuStreamBeginCapture, things[a], 0), "");
        } else if (!strcmp(verb, "captured")) {
            void *graph;
            answer(CALL(cuStreamEndCapture, things[a], &graph), "");
        } else if (!strcmp(verb, "limit")) answer(CALL(cuCtxSetLimit, (unsigned)a, (size_t)b), "");
        else if (!strcmp(verb, "info")) {
            size_t free, total;
            int status = CALL(cuMemGetInfo, &free, &total);
            snprintf(text, sizeof text, "%zu %zu", free, total);
            answer(status, text);
        } else if (!strcmp(verb, "total")) {
            size_t total;
            int status = CALL(cuDeviceTotalMem, &total, (int)a);
            snprintf(text, sizeof text, "%zu", total);
            answer(status, text);
        }
        /* Goes on as a child, which is waited for */
        else if (!strcmp(verb, "fork")) {
            fflush(stdout);
            pid_t child = fork();
            if (child) {
                int status;
                waitpid(child, &status, 0);
                answer(status, "joined");
            } else answer(0, "child");
        } else if (!strcmp(verb, "exit")) _exit((int)a);
        else answer(1, "");
    }
    return 0;
}
