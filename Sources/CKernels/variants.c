// Which variants this machine can run, and how much scratch they need.
#include "layout.h"

extern const ck_kernels ck_avx512bf16, ck_avx512, ck_avx2, ck_portable, ck_reference;

long ck_cache_block_bytes(long head_dim, int type) { return 64 * (head_dim + ck_padded(head_dim)) * ck_size(type); }

long ck_linear_scratch_bytes(long columns) { return (BLOCK_ROWS + 32) * ((columns + 15) / 16 * 16) * 4; }

long ck_contract_scratch_count(long p, long q) {
    long narrow = p < q ? p : q, wide = p < q ? q : p;
    return (narrow + 15) / 16 * 16 * ((wide + 31) / 32 * 32);
}

long ck_head_loss_scratch_bytes(long columns) {
    long padded = (columns + 31) / 32 * 32;
    long lines = padded > LOSS_COLUMNS ? padded : LOSS_COLUMNS;
    return (LOSS_ROWS * (LOSS_COLUMNS + 2 * padded) + LOSS_COLUMNS * padded + 32 * lines) * 4;
}

long ck_span_attention_scratch_bytes(const ck_span_attention_args *a, int backward) {
    long blocks = (a->longest_span + 63) / 64;
    long bytes = blocks * ck_cache_block_bytes(a->head_dim, CK_F32); // where bf16 works in floats
    if (backward) lay_out_backward(NULL, blocks, a->head_dim, CK_F32, &bytes);
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
        bool pairs = wide && __builtin_cpu_supports("avx512bf16");
        // Intel's cores start a vdpbf16ps every second cycle and two float products every cycle: half the speed
        // (measured on Sapphire Rapids: 166 against 338 GFLOP/s). AMD's start two vdpbf16ps every cycle.
        bool slow_pairs = __builtin_cpu_is("intel");
        if (pairs && !slow_pairs) list[n++] = &ck_avx512bf16;
        if (wide) list[n++] = &ck_avx512;
        if (pairs && slow_pairs) list[n++] = &ck_avx512bf16;
        if (fma) list[n++] = &ck_avx2;
#endif
        list[n++] = &ck_portable;
        list[n++] = &ck_reference;
        ready = true;
    }
    return list;
}
