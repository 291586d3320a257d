// What the machine can do at most: sums of products in registers alone, and reading.

static void peak_products(const ck_peak_args *a, double *result) {
    vf acc[TILE_ROWS][TILE_VECTORS];
    UNROLL for (int i = 0; i < TILE_ROWS; i++) UNROLL for (int j = 0; j < TILE_VECTORS; j++) acc[i][j] = splat((float)(i * TILE_VECTORS + j));
    double flops = 2.0 * 16 * TILE_ROWS * TILE_VECTORS;
#if CK_LEVEL == 3
    if (a->type == CK_BF16) {
        flops *= 2;
        const vu x = splat_bits(0x3c003c00), y = splat_bits(0x3c013c01);
        for (long s = 0; s < a->steps; s++)
            UNROLL for (int i = 0; i < TILE_ROWS; i++)
                UNROLL for (int j = 0; j < TILE_VECTORS; j++)
                    acc[i][j] = (vf)_mm512_dpbf16_ps((__m512)acc[i][j], (__m512bh)x, (__m512bh)y);
    } else
#endif
    {
        const vf x = splat(0.5f + (float)a->type), y = splat(0.25f);
        for (long s = 0; s < a->steps; s++)
            UNROLL for (int i = 0; i < TILE_ROWS; i++)
                UNROLL for (int j = 0; j < TILE_VECTORS; j++) acc[i][j] = fma_(acc[i][j], x, y);
    }
    vf sum = splat(0);
    UNROLL for (int i = 0; i < TILE_ROWS; i++) UNROLL for (int j = 0; j < TILE_VECTORS; j++) sum += acc[i][j];
    result[0] = flops * (double)a->steps;
    result[1] = sum_of(sum);
}

// A thread's share of the bytes, line by line.
static void peak_reads(const ck_peak_args *a, int thread, int threads, double *result) {
    const long first = ck_share(a->bytes / 256, thread, threads) * 256, end = ck_share(a->bytes / 256, thread + 1, threads) * 256;
    vu acc[4];
    UNROLL for (int j = 0; j < 4; j++) acc[j] = splat_bits(0);
    for (long at = first; at < end; at += 256) {
        const char *line = (const char *)a->memory + at;
        UNROLL for (int j = 0; j < 4; j++) {
            __builtin_prefetch(line + 4096 + j * 64, 0, 2);
            acc[j] ^= *(const vu_any *)(line + j * 64);
        }
    }
    const vu all = acc[0] ^ acc[1] ^ acc[2] ^ acc[3];
    uint32_t last = 0;
    for (int i = 0; i < 16; i++) last ^= all[i];
    result[0] = (double)(end - first);
    result[1] = last;
}

static void peak(const void *arguments, int thread, int threads) {
    const ck_peak_args *a = arguments;
    double *result = a->results + thread * CK_PEAK_STRIDE;
    if (a->memory) peak_reads(a, thread, threads, result);
    else peak_products(a, result);
}
