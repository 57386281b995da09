/*
 * A job that does nothing but grow: the C counterpart of the jobs in ../jobs, with the same commands on standard input,
 * each answered with one line of JSON.
 *
 *   start                     makes the context
 *   view                      what cuMemGetInfo and NVML show to this process
 *   grow PIECE COUNT SECONDS  allocates COUNT more pieces of PIECE bytes, for SECONDS at most
 *   shrink                    frees everything
 */
#include "driver.h"

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

int main(void)
{
	char command[128];
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
		} else if (!strncmp(command, "shrink", 6)) {
			shrink();
		} else {
			puts("{\"error\":\"no such command\"}");
		}
		fflush(stdout);
	}
	return 0;
}
