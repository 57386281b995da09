/*
 * Somebody else on the GPU, told on standard input what to do; each command is answered with one line of JSON.
 *
 *   fill [BYTES]         takes what is free, but for BYTES
 *   thieve MILLISECONDS  from now on takes whatever becomes free, looking this often; 0: without a pause
 *   count                what has been taken since it has `thieve`d, and how often it looked
 *   free                 gives everything back and stops thieving
 */
#include <poll.h>
#include <unistd.h>

#include "driver.h"

#define MOST 65536
#define LARGEST (1024 * MB)
#define SMALLEST (2 * MB)
#define BOOTY (64 * MB)

static struct { memory address; size_t bytes; } chunks[MOST];
static size_t count, held;

/* Whether a chunk of this size could be had. */
static int take(size_t bytes)
{
	memory address;
	if (count == MOST)
		return 0;
	int result = cuMemAlloc_v2(&address, bytes);
	if (result == OUT_OF_MEMORY)
		return 0;
	check(result, "cuMemAlloc_v2");
	chunks[count].address = address;
	chunks[count++].bytes = bytes;
	held += bytes;
	return 1;
}

static void fill(size_t leave)
{
	size_t free, total;
	for (size_t chunk = LARGEST; chunk >= SMALLEST; chunk /= 2)
		do
			CALL(cuMemGetInfo_v2, &free, &total);
		while (free >= leave + chunk && take(chunk));
}

/*
 * Takes what is free. One who looks now and then begins with large chunks and ends when the smallest is refused. One who
 * does nothing else knocks with the smallest, since most often nothing is free, and takes larger and larger ones once the
 * door is open.
 */
static void thieve(int is_spinning)
{
	size_t chunk = is_spinning ? SMALLEST : BOOTY;
	for (;;) {
		if (take(chunk))
			chunk = is_spinning && chunk < BOOTY ? 2 * chunk : chunk;
		else if (chunk > SMALLEST)
			chunk /= 2;
		else
			return;
	}
}

static void give_back(void)
{
	while (count)
		CALL(cuMemFree_v2, chunks[--count].address);
	held = 0;
}

int main(void)
{
	char command[64];
	int is_thief = 0, pause = 0;
	size_t before = 0, looked = 0;
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	open_driver();
	check(context(), "cuDevicePrimaryCtxRetain");
	puts("{\"ready\":true}");
	for (;;) {
		fflush(stdout);
		while (is_thief && poll(&input, 1, pause) == 0) {
			thieve(pause == 0);
			looked++;
		}
		if (!fgets(command, sizeof command, stdin))
			return 0;
		if (!strncmp(command, "fill", 4)) {
			fill(strtoull(command + 4, NULL, 10));
		} else if (!strncmp(command, "thieve", 6)) {
			is_thief = 1;
			pause = atoi(command + 6);
			looked = 0;
			before = held;
		} else if (!strncmp(command, "free", 4)) {
			is_thief = 0;
			give_back();
			before = 0;
		}
		printf("{\"held\":%zu,\"taken\":%zu,\"looked\":%zu}\n", held, held - before, looked);
	}
}
