// Persistent threads. A run costs two cache-line exchanges when the threads are awake: they spin for up to
// SPIN_NANOSECONDS after the last run, then sleep in a futex.
#define _GNU_SOURCE
#include "CKernels.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NANOSECONDS = 1000000, ALONE_NANOSECONDS = 50000 };

struct ck_pool {
    int threads;
    int started;
    pthread_t *handles;
    ck_task task;
    const void *arguments;
    // Callers take turns: each draws a ticket and waits until it is served.
    _Atomic uint32_t tickets, serving, queued;
    _Alignas(128) _Atomic uint32_t generation;
    _Alignas(128) _Atomic uint32_t pending;
    _Alignas(128) _Atomic uint32_t sleepers;
    _Atomic uint32_t caller_sleeps;
    _Atomic int stop;
    _Alignas(128) char end;
};

typedef struct {
    ck_pool *pool;
    int index, cpu;
} worker_start;

static _Thread_local int inside, thread_index;

bool ck_inside_run(void) { return inside; }
int ck_thread_index(void) { return thread_index; }

static inline void relax(void) {
#if __x86_64__
    __builtin_ia32_pause();
#elif __aarch64__
    __asm__ volatile("yield");
#endif
}

static long nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

// Spins until the word differs from `old`; false when the time is over.
static bool spin_while(_Atomic uint32_t *word, uint32_t old) {
    long end = 0;
    for (uint32_t n = 0;; n++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return true;
        relax();
        if ((n & 63) == 63) {
            long now = nanoseconds();
            if (end == 0) end = now + SPIN_NANOSECONDS;
            else if (now > end) return false;
            else if (now > end - SPIN_NANOSECONDS + ALONE_NANOSECONDS) sched_yield(); // more threads than cores
        }
    }
}

static void pin(int cpu) {
    if (cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); // best effort: a container may forbid it
}

static void finish_share(ck_pool *pool) {
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->pending);
}

static void *work(void *start) {
    worker_start s = *(worker_start *)start;
    free(start);
    ck_pool *pool = s.pool;
    pin(s.cpu);
    char name[16];
    snprintf(name, sizeof name, "compute-%d", s.index);
    pthread_setname_np(pthread_self(), name);
    inside = 1;
    thread_index = s.index;
    uint32_t seen = 0;
    for (;;) {
        while (!spin_while(&pool->generation, seen)) {
            atomic_fetch_add(&pool->sleepers, 1);
            while (atomic_load(&pool->generation) == seen) futex_wait(&pool->generation, seen);
            atomic_fetch_sub(&pool->sleepers, 1);
        }
        seen++;
        if (atomic_load(&pool->stop)) return NULL;
        pool->task(pool->arguments, s.index, pool->threads);
        finish_share(pool);
    }
}

ck_pool *ck_pool_create(int threads, const int *cpus) {
    if (threads < 1) return NULL;
    ck_pool *pool = aligned_alloc(128, (sizeof(ck_pool) + 127) / 128 * 128);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->threads = threads;
    pool->handles = calloc((size_t)threads, sizeof *pool->handles);
    for (int i = 1; i < threads; i++) {
        worker_start *s = malloc(sizeof *s);
        if (s) *s = (worker_start){pool, i, cpus ? cpus[i] : -1};
        if (!s || !pool->handles || pthread_create(&pool->handles[i], NULL, work, s)) {
            free(s);
            ck_pool_destroy(pool);
            return NULL;
        }
        pool->started++;
    }
    return pool;
}

void ck_pool_destroy(ck_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->generation, 1);
    futex_wake(&pool->generation);
    for (int i = 1; i <= pool->started; i++) pthread_join(pool->handles[i], NULL);
    free(pool->handles);
    free(pool);
}

int ck_pool_threads(const ck_pool *pool) { return pool->threads; }

static void take_turn(ck_pool *pool) {
    const uint32_t ticket = atomic_fetch_add(&pool->tickets, 1);
    uint32_t now = atomic_load(&pool->serving);
    if (now == ticket) return;
    atomic_fetch_add(&pool->queued, 1);
    for (; now != ticket; now = atomic_load(&pool->serving)) futex_wait(&pool->serving, now);
    atomic_fetch_sub(&pool->queued, 1);
}

static void end_turn(ck_pool *pool) {
    atomic_fetch_add(&pool->serving, 1);
    if (atomic_load(&pool->queued)) futex_wake(&pool->serving);
}

void ck_pool_run(ck_pool *pool, ck_task task, const void *arguments) {
    if (inside) {
        task(arguments, 0, 1);
        return;
    }
    take_turn(pool);
    pool->task = task;
    pool->arguments = arguments;
    atomic_store_explicit(&pool->pending, (uint32_t)(pool->threads - 1), memory_order_relaxed);
    if (pool->threads > 1) {
        atomic_fetch_add(&pool->generation, 1);
        if (atomic_load(&pool->sleepers)) futex_wake(&pool->generation);
    }
    inside = 1;
    task(arguments, 0, pool->threads);
    inside = 0;
    for (uint32_t left; (left = atomic_load_explicit(&pool->pending, memory_order_acquire));) {
        if (spin_while(&pool->pending, left)) continue;
        atomic_store(&pool->caller_sleeps, 1);
        if (atomic_load(&pool->pending) == left) futex_wait(&pool->pending, left);
        atomic_store(&pool->caller_sleeps, 0);
    }
    end_turn(pool);
}
