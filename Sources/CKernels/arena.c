// Scratch memory of one caller, apart for each thread of the pool, kept between calls.
#include "CKernels.h"
#include <stdlib.h>

typedef struct {
    void *memory[CK_ARENA_SLOTS];
    long bytes[CK_ARENA_SLOTS];
    char apart[128];
} region;

struct ck_arena {
    int threads;
    region regions[];
};

ck_arena *ck_arena_create(int threads) {
    ck_arena *arena = calloc(1, sizeof(ck_arena) + sizeof(region) * (size_t)threads);
    if (arena) arena->threads = threads;
    return arena;
}

void ck_arena_destroy(ck_arena *arena) {
    if (!arena) return;
    for (int t = 0; t < arena->threads; t++)
        for (int s = 0; s < CK_ARENA_SLOTS; s++)
            if (arena->regions[t].memory[s]) ck_free(arena->regions[t].memory[s], arena->regions[t].bytes[s]);
    free(arena);
}

static bool grow(region *r, int slot, long bytes) {
    if (r->bytes[slot] >= bytes) return true;
    void *p = ck_alloc(bytes);
    if (!p) return false;
    if (r->memory[slot]) ck_free(r->memory[slot], r->bytes[slot]);
    r->memory[slot] = p;
    r->bytes[slot] = bytes;
    return true;
}

bool ck_arena_reserve(ck_arena *arena, int slot, long bytes) {
    if (ck_inside_run()) return grow(&arena->regions[ck_thread_index()], slot, bytes);
    for (int t = 0; t < arena->threads; t++)
        if (!grow(&arena->regions[t], slot, bytes)) return false;
    return true;
}

void *ck_arena_own(ck_arena *arena, int slot, long bytes) {
    region *r = &arena->regions[ck_thread_index()];
    return grow(r, slot, bytes) ? r->memory[slot] : NULL;
}

void *ck_arena_memory(const ck_arena *arena, int slot) { return arena->regions[ck_thread_index()].memory[slot]; }
