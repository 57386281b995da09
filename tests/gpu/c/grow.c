/*
 * A job that does nothing but grow: the C counterpart of the jobs in ../jobs, with the same commands on standard input,
 * each answered with one line of JSON.
 *
 *   start                     makes the context
 *   view                      what cuMemGetInfo and NVML show to this process
 *   grow PIECE COUNT SECONDS  allocates COUNT more pieces of PIECE bytes, for SECONDS at most
 *   shrink                    frees everything
 *   launch LOCAL GRAPH        launches a kernel that needs LOCAL bytes of local memory and counts its threads, in a graph if
 *                             GRAPH is not 0
 */
#include "driver.h"

#define BLOCKS 264
#define THREADS 256

/* Each thread writes and reads its stack at places that the compiler cannot know, and adds one to the counter. */
static const char *deep =
	".version 7.0\n.target sm_70\n.address_size 64\n"
	".visible .entry deep(.param .u64 counter, .param .u32 place)\n{\n"
	"\t.local .align 16 .b8 stack[%zu];\n"
	"\t.reg .u64 %%to, %%at, %%here;\n"
	"\t.reg .u32 %%thread, %%mine, %%theirs, %%value, %%before;\n"
	"\tld.param.u64 %%to, [counter];\n"
	"\tcvta.to.global.u64 %%to, %%to;\n"
	"\tld.param.u32 %%theirs, [place];\n"
	"\tmov.u32 %%thread, %%tid.x;\n"
	"\tmul.lo.u32 %%mine, %%thread, 4;\n"
	"\trem.u32 %%mine, %%mine, %zu;\n"
	"\tcvt.u64.u32 %%at, %%mine;\n"
	"\tmov.u64 %%here, stack;\n"
	"\tadd.u64 %%at, %%here, %%at;\n"
	"\tst.local.u32 [%%at], %%thread;\n"
	"\tcvt.u64.u32 %%at, %%theirs;\n"
	"\tadd.u64 %%at, %%here, %%at;\n"
	"\tld.local.u32 %%value, [%%at];\n"
	"\tatom.global.add.u32 %%before, [%%to], 1;\n"
	"\tatom.global.add.u32 %%before, [%%to + 4], %%value;\n"
	"\tret;\n}\n";

static memory *pieces;
static size_t held;

static void grow(size_t piece, size_t count, double seconds)
{
	size_t failures = 0, refused = 0, allocated = 0;
	double *took = calloc(count, sizeof *took), end = now() + seconds;
	pieces = realloc(pieces, (held + count) * sizeof *pieces);
	while (allocated + refused + failures < count && now() < end) {
		double start = now();
		int result = cuMemAlloc_v2(&pieces[held], piece);
		if (result == OUT_OF_MEMORY) {
			refused++;
		} else if (result) {
			failures++;
		} else {
			took[allocated++] = (now() - start) * 1e6;
			held++;
		}
	}
	printf("{\"out_of_memory\":%zu,\"failures\":%zu,\"took_us\":[", refused, failures);
	for (size_t i = 0; i < allocated; i++)
		printf("%s%.2f", i ? "," : "", took[i]);
	puts("]}");
	free(took);
}

static void shrink(void)
{
	size_t count = held;
	double start = now();
	while (held)
		CALL(cuMemFree_v2, pieces[--held]);
	printf("{\"free_us\":%.2f}\n", count ? (now() - start) * 1e6 / count : 0);
}

/* The kernel's launch, caught in a graph and launched with that. */
static int launch_graph(void *kernel, void **parameters)
{
	void *stream, *graph, *executable;
	int result;
	CALL(cuStreamCreate, &stream, 1);
	CALL(cuStreamBeginCapture_v2, stream, 2);
	result = cuLaunchKernel(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, stream, parameters, NULL);
	CALL(cuStreamEndCapture, stream, &graph);
	if (!result)
		result = TRY(cuGraphInstantiateWithFlags, &executable, graph, 0);
	return result ? result : TRY(cuGraphLaunch, executable, stream);
}

static void launch(size_t local, int is_graph)
{
	static char program[2048];
	static memory counter;
	unsigned place = 4, counted = 0;
	void *module, *kernel, *parameters[] = {&counter, &place};
	snprintf(program, sizeof program, deep, local, local);
	if (!counter)
		CALL(cuMemAlloc_v2, &counter, 2 * sizeof counted);
	CALL(cuMemsetD32_v2, counter, 0, 2);
	CALL(cuModuleLoadData, &module, program);
	CALL(cuModuleGetFunction, &kernel, module, "deep");
	double start = now();
	int result = is_graph ? launch_graph(kernel, parameters)
	                      : cuLaunchKernel(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, NULL, parameters, NULL);
	double took = now() - start;
	CALL(cuCtxSynchronize);
	CALL(cuMemcpyDtoH_v2, &counted, counter, sizeof counted);
	printf("{\"result\":%d,\"launch_ms\":%.1f,\"threads\":%d,\"counted\":%u}\n", result, took * 1e3,
	       BLOCKS * THREADS, counted);
}

int main(void)
{
	char command[128];
	int is_graph;
	size_t piece, count;
	double seconds;

	puts("{\"imported_s\":0}");
	fflush(stdout);
	while (fgets(command, sizeof command, stdin)) {
		if (!strncmp(command, "start", 5)) {
			double start = now();
			open_driver();
			int result = context();
			if (result)
				printf("{\"error\":\"cuDevicePrimaryCtxRetain: error %d\"}\n", result);
			else
				printf("{\"context_ms\":%.1f}\n", (now() - start) * 1e3);
		} else if (!strncmp(command, "view", 4)) {
			size_t free, total;
			struct nvml_memory nvml = nvml_memory();
			CALL(cuMemGetInfo_v2, &free, &total);
			printf("{\"free\":%zu,\"total\":%zu,\"nvml_free\":%llu,\"nvml_total\":%llu}\n", free, total, nvml.free,
			       nvml.total);
		} else if (sscanf(command, "grow %zu %zu %lf", &piece, &count, &seconds) == 3) {
			grow(piece, count, seconds);
		} else if (sscanf(command, "launch %zu %d", &piece, &is_graph) == 2) {
			launch(piece, is_graph);
		} else if (!strncmp(command, "shrink", 6)) {
			shrink();
		} else {
			puts("{\"error\":\"no such command\"}");
		}
		fflush(stdout);
	}
	return 0;
}
