#define _GNU_SOURCE
#include "CKernels.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 1 << 20 };

void *ck_alloc(long bytes) {
    if (bytes < 64) bytes = 64;
    if (bytes >= LARGE) { // zero pages, taken when touched
        void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    size_t n = ((size_t)bytes + 63) & ~(size_t)63;
    void *p = aligned_alloc(64, n);
    if (p) memset(p, 0, n);
    return p;
}

void ck_free(void *memory, long bytes) {
    if (bytes < 64) bytes = 64;
    if (bytes >= LARGE) munmap(memory, (size_t)bytes);
    else free(memory);
}
