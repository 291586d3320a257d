// Which variants this machine can run.
#include "layout.h"

extern const ck_kernels ck_reference;

long ck_cache_block_bytes(long head_dim, int type) { return 64 * (head_dim + ck_padded(head_dim)) * ck_size(type); }

long ck_head_loss_scratch_bytes(long columns) {
    (void)columns;
    return 64;
}

long ck_span_attention_scratch_bytes(const ck_span_attention_args *arguments, int backward) {
    (void)arguments;
    (void)backward;
    return 64;
}

const ck_kernels *const *ck_variants(void) {
    static const ck_kernels *const list[] = {&ck_reference, 0};
    return list;
}
