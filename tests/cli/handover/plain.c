/* Looks up a function that is there and one that is not, and exits with 7. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
#ifdef __GLIBC__
    int found = 1, cuda = 0;
#else
    void *here = dlopen(NULL, RTLD_NOW);
    int found = here ? dlsym(here, "malloc") != NULL : 1;
    int cuda = here ? dlsym(here, "cuInit") != NULL : 0;
#endif
    printf("%s malloc, %s cuInit\n", found ? "found" : "no", cuda ? "a" : "no");
    return 7;
}
