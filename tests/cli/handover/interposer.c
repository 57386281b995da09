/* A library that somebody else preloads: stands before puts and write's caller by RTLD_NEXT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

__attribute__((constructor)) static void start(void) {
    int (*next)(void) = dlsym(RTLD_NEXT, "getppid");
    int (*any)(void) = dlsym(RTLD_DEFAULT, "getppid");
    void *cuda = dlsym(RTLD_NEXT, "cuMemAlloc_v2");
    if (next && any && next() == any() && !cuda) (void)!write(2, "interposed\n", 11);
}
