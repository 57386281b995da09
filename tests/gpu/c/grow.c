/*
 * A job that does nothing but grow: the C counterpart of the jobs in ../jobs, with the same commands on standard input,
 * each answered with one line of JSON.
 *
 *   start                            makes the context
 *   view                             what cuMemGetInfo and NVML show to this process
 *   grow PIECE COUNT ROUNDS SECONDS  allocates COUNT pieces of PIECE bytes and frees them, ROUNDS times, for SECONDS at most
 */
#include "driver.h"

static int by_value(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static void grow(size_t piece, size_t count, size_t rounds, double seconds)
{
	memory *pieces = calloc(count, sizeof *pieces);
	double *took = calloc(count * rounds, sizeof *took);
	size_t allocations = 0, failures = 0, refused = 0, most = 0;
	double end = now() + seconds, freeing = 0;
	for (size_t round = 0; round < rounds && now() < end; round++) {
		size_t held = 0;
		for (size_t i = 0; i < count && now() < end; i++) {
			double start = now();
			int result = cuMemAlloc_v2(&pieces[held], piece);
			if (result == OUT_OF_MEMORY) {
				refused++;
				continue;
			}
			if (result) {
				failures++;
				continue;
			}
			took[allocations++] = (now() - start) * 1e6;
			held++;
		}
		most = held > most ? held : most;
		double start = now();
		while (held)
			CALL(cuMemFree_v2, pieces[--held]);
		freeing += now() - start;
	}
	qsort(took, allocations, sizeof *took, by_value);
#define AT(share) (allocations ? took[(size_t)((allocations - 1) * (share))] : 0)
	printf("{\"allocations\":%zu,\"out_of_memory\":%zu,\"failures\":%zu,\"peak_bytes\":%zu,\"median_us\":%.2f,"
	       "\"p90_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f,\"free_us\":%.2f}\n",
	       allocations, refused, failures, most * piece, AT(.5), AT(.9), AT(.99), AT(1),
	       allocations ? freeing * 1e6 / allocations : 0);
	free(took);
	free(pieces);
}

int main(void)
{
	char command[128];
	size_t piece, count, rounds;
	double seconds;

	puts("{\"imported_s\":0}");
	fflush(stdout);
	while (fgets(command, sizeof command, stdin)) {
		if (!strncmp(command, "start", 5)) {
			double start = now();
			open_driver();
			int result = context();
			printf("{\"context_ms\":%.1f,\"result\":%d}\n", (now() - start) * 1e3, result);
		} else if (!strncmp(command, "view", 4)) {
			size_t free, total;
			struct nvml_memory nvml = nvml_memory();
			CALL(cuMemGetInfo_v2, &free, &total);
			printf("{\"free\":%zu,\"total\":%zu,\"nvml_free\":%llu,\"nvml_total\":%llu}\n", free, total, nvml.free,
			       nvml.total);
		} else if (sscanf(command, "grow %zu %zu %zu %lf", &piece, &count, &rounds, &seconds) == 4) {
			grow(piece, count, rounds, seconds);
		} else {
			puts("{\"error\":\"no such command\"}");
		}
		fflush(stdout);
	}
	return 0;
}
