/*
 * The bare calls of the driver that gpu-balloon is measured against.
 *
 *   bare hold alloc|create BYTES CHUNK   holds BYTES in chunks; prints `ready` and what each step took, and what freeing
 *                                        took when standard input ends
 *   bare overhead plain|limits|create    device memory that a context costs: plain, with its limits at zero, or none
 *   bare lag alloc|create                how long after a chunk was freed NVML shows it
 *
 * `alloc` is cuMemAlloc in a context, `create` is cuMemCreate without one. One JSON object a line.
 */
#include "driver.h"

#define LAGS 50

static int is_create;

static void take(memory *chunk, size_t bytes)
{
	if (is_create)
		check(create(chunk, bytes), "cuMemCreate");
	else
		CALL(cuMemAlloc_v2, chunk, bytes);
}

static void give_back(memory chunk)
{
	if (is_create)
		CALL(cuMemRelease, chunk);
	else
		CALL(cuMemFree_v2, chunk);
}

static int hold(size_t bytes, size_t chunk)
{
	size_t count = (bytes + chunk - 1) / chunk;
	memory *chunks = calloc(count, sizeof *chunks);
	double start = now();
	open_driver();
	double opened = now();
	if (!is_create)
		check(context(), "cuDevicePrimaryCtxRetain");
	double in_context = now();
	for (size_t i = 0; i < count; i++)
		take(&chunks[i], i + 1 < count ? chunk : bytes - (count - 1) * chunk);
	double held = now();
	printf("ready {\"open_ms\":%.2f,\"context_ms\":%.2f,\"allocate_ms\":%.2f}\n", (opened - start) * 1e3,
	       (in_context - opened) * 1e3, (held - in_context) * 1e3);
	fflush(stdout);
	while (getchar() != EOF)
		;
	double begin = now();
	for (size_t i = 0; i < count; i++)
		give_back(chunks[i]);
	printf("{\"free_ms\":%.2f}\n", (now() - begin) * 1e3);
	return 0;
}

static int overhead(const char *kind)
{
	memory chunk;
	is_create = !strcmp(kind, "create");
	open_driver();
	unsigned long long initialised = nvml_memory().used;
	double start = now();
	if (!is_create)
		check(context(), "cuDevicePrimaryCtxRetain");
	if (!strcmp(kind, "limits"))
		for (int limit = 0; limit < 3; limit++)
			CALL(cuCtxSetLimit, limit, 0);
	double took = now() - start;
	take(&chunk, 2 * MB);
	printf("{\"initialised_bytes\":%llu,\"context_ms\":%.2f,\"used_bytes\":%llu}\n", initialised, took * 1e3,
	       nvml_memory().used - 2 * MB);
	return 0;
}

static int by_value(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static int lag(void)
{
	memory chunks[LAGS];
	double freeing[LAGS], seen[LAGS];
	int late = 0;
	open_driver();
	if (!is_create)
		check(context(), "cuDevicePrimaryCtxRetain");
	for (int i = 0; i < LAGS; i++)
		take(&chunks[i], 100 * MB);
	for (int i = 0; i < LAGS; i++) {
		unsigned long long before = nvml_memory().free;
		double start = now();
		give_back(chunks[i]);
		double freed = now();
		int reads = 0;
		do
			reads++;
		while (nvml_memory().free == before && now() < freed + 1);
		freeing[i] = (freed - start) * 1e6;
		seen[i] = (now() - freed) * 1e6;
		late += reads > 1;
	}
	qsort(freeing, LAGS, sizeof *freeing, by_value);
	qsort(seen, LAGS, sizeof *seen, by_value);
	printf("{\"free_us\":%.1f,\"visible_us\":%.1f,\"visible_max_us\":%.1f,\"not_at_first_read\":%d,\"frees\":%d}\n",
	       freeing[LAGS / 2], seen[LAGS / 2], seen[LAGS - 1], late, LAGS);
	return 0;
}

int main(int argc, char **argv)
{
	is_create = argc > 2 && !strcmp(argv[2], "create");
	if (argc == 5 && !strcmp(argv[1], "hold"))
		return hold(strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	if (argc == 3 && !strcmp(argv[1], "overhead"))
		return overhead(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "lag"))
		return lag();
	fputs("usage: bare hold alloc|create BYTES CHUNK | overhead plain|limits|create | lag alloc|create\n", stderr);
	return 2;
}
