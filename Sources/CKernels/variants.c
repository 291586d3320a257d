// Which variants this machine can run, and how much scratch they need.
#include "layout.h"

extern const ck_kernels ck_avx512bf16, ck_avx512, ck_avx2, ck_portable, ck_reference;

long ck_cache_block_bytes(long head_dim, int type) { return 64 * (head_dim + ck_padded(head_dim)) * ck_size(type); }

long ck_contract_scratch_count(long p, long q) {
    long narrow = p < q ? p : q, wide = p < q ? q : p;
    return (narrow + 7) / 8 * 8 * ((wide + 31) / 32 * 32);
}

long ck_head_loss_scratch_bytes(long columns, int type) {
    long padded = (columns + 31) / 32 * 32;
    return (LOSS_ROWS + padded) * LOSS_COLUMNS * ck_size(type) + LOSS_ROWS * padded * 4;
}

long ck_span_attention_scratch_bytes(const ck_span_attention_args *a, int backward) {
    long blocks = (a->longest_span + 63) / 64, bytes = blocks * ck_cache_block_bytes(a->head_dim, a->q.type);
    if (backward) lay_out_backward(NULL, blocks, a->head_dim, a->q.type, &bytes);
    return bytes;
}

const ck_kernels *const *ck_variants(void) {
    static const ck_kernels *list[6];
    static _Bool ready;
    if (!ready) { // called once, by the initializer of a Swift static
        int n = 0;
#if __x86_64__
        __builtin_cpu_init();
        bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        bool wide = fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
        if (wide && __builtin_cpu_supports("avx512bf16")) list[n++] = &ck_avx512bf16;
        if (wide) list[n++] = &ck_avx512;
        if (fma) list[n++] = &ck_avx2;
#endif
        list[n++] = &ck_portable;
        list[n++] = &ck_reference;
        ready = true;
    }
    return list;
}
