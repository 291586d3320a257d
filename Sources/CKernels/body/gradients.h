// Weight gradients and the optimizer.

enum { NARROW = TILE_ROWS >= 12 ? 8 : TILE_ROWS >= 6 ? 4 : 2, TOKENS = 256 };

// out[NARROW][columns 32] += pairs of tokens: `left` broadcast, `right` interleaved while loading. Sums in token order.
INLINE void contract_tile_bf16(float *out, long out_stride, const uint32_t *left, const uint16_t *right, long stride, long tokens,
                               const int narrow, const int vectors) {
    vf acc[NARROW][4];
    UNROLL for (int i = 0; i < narrow; i++) UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = load(out + i * out_stride + j * 16);
    for (long t = 0; t < tokens; t += 2) {
        vu y[2];
        UNROLL for (int j = 0; j < vectors; j++) {
            y[j] = widen(load_half(right + t * stride + j * 16));
            if (t + 1 < tokens) y[j] |= widen(load_half(right + (t + 1) * stride + j * 16)) << 16;
        }
        mac_pair(acc, y, both, (const uint16_t *)(left + t / 2 * NARROW), 2, narrow, vectors);
    }
    UNROLL for (int i = 0; i < narrow; i++) UNROLL for (int j = 0; j < vectors; j++) store(out + i * out_stride + j * 16, acc[i][j]);
}

INLINE void contract_tile_f32(float *out, long out_stride, const float *left, const float *right, long stride, long tokens,
                              const int narrow, const int vectors) {
    vf acc[NARROW][4];
    UNROLL for (int i = 0; i < narrow; i++) UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = load(out + i * out_stride + j * 16);
    for (long t = 0; t < tokens; t++)
        UNROLL for (int j = 0; j < vectors; j++) {
            vf y = load(right + t * stride + j * 16);
            UNROLL for (int i = 0; i < narrow; i++) acc[i][j] = fma_(splat(left[t * NARROW + i]), y, acc[i][j]);
        }
    UNROLL for (int i = 0; i < narrow; i++) UNROLL for (int j = 0; j < vectors; j++) store(out + i * out_stride + j * 16, acc[i][j]);
}

// sums[narrow][wide] for wide columns [w0, w1), w0 a multiple of 32; both padded: narrow to NARROW, wide to 32.
static void contract_range(const ck_contract_args *a, const ck_matrix *left, const ck_matrix *right, long narrow, long wide,
                           long w0, long w1, float *sums, long stride) {
    const int type = left->type;
    _Alignas(64) uint32_t pairs[TOKENS * NARROW]; // bf16: [token pair][NARROW]; float32: [token][NARROW]
    _Alignas(64) uint32_t edge[TOKENS * 32];      // the last columns, padded
    for (long t0 = 0; t0 < a->rows; t0 += TOKENS) {
        const long tokens = a->rows - t0 < TOKENS ? a->rows - t0 : TOKENS;
        for (long r0 = 0; r0 < narrow; r0 += NARROW) {
            const long real = narrow - r0 < NARROW ? narrow - r0 : NARROW;
            memset(pairs, 0, sizeof pairs);
            for (long t = 0; t < tokens; t++)
                for (long i = 0; i < real; i++) {
                    long from = (t0 + t) * left->stride + r0 + i;
                    if (type == CK_BF16) ((uint16_t *)pairs)[(t / 2 * NARROW + i) * 2 + (t & 1)] = ((const uint16_t *)left->data)[from];
                    else ((float *)pairs)[t * NARROW + i] = ((const float *)left->data)[from];
                }
            for (long w = w0; w < w1; w += 32) {
                const void *y = offset(right->data, type, t0 * right->stride + w);
                long y_stride = right->stride;
                if (wide - w < 32) {
                    memset(edge, 0, sizeof edge);
                    for (long t = 0; t < tokens; t++)
                        memcpy((char *)edge + t * 32 * ck_size(type), (const char *)y + t * y_stride * ck_size(type),
                               (size_t)((wide - w) * ck_size(type)));
                    y = edge;
                    y_stride = 32;
                }
                float *out = sums + r0 * stride + w - w0;
                for (int v = 0; v < 2; v += TILE_VECTORS) {
                    if (type == CK_BF16)
                        contract_tile_bf16(out + v * 16, stride, pairs, (const uint16_t *)y + v * 16, y_stride, tokens, NARROW, TILE_VECTORS);
                    else
                        contract_tile_f32(out + v * 16, stride, (const float *)pairs, (const float *)y + v * 16, y_stride, tokens, NARROW, TILE_VECTORS);
                }
            }
        }
    }
}

static void contract(const void *arguments, int thread, int threads) {
    const ck_contract_args *a = arguments;
    const bool swap = a->p > a->q; // the narrow side is broadcast
    const ck_matrix *left = swap ? &a->y : &a->x, *right = swap ? &a->x : &a->y;
    const long narrow = swap ? a->q : a->p, wide = swap ? a->p : a->q, rows = (narrow + NARROW - 1) / NARROW * NARROW;
    const long parts = (wide + 31) / 32, w0 = ck_share(parts, thread, threads) * 32, w1 = ck_share(parts, thread + 1, threads) * 32;
    if (w0 == w1) return;
    float *sums = a->scratch + w0 * rows;
    const long stride = w1 - w0;
    memset(sums, 0, sizeof(float) * (size_t)(rows * stride));
    contract_range(a, left, right, narrow, wide, w0, w1, sums, stride);
    const long end = w1 < wide ? w1 : wide;
    float *g = a->g.data;
    if (!swap) {
        for (long r = 0; r < narrow; r++)
            for (long w = w0; w < end; w += 16) {
                float *to = g + r * a->g.stride + w;
                vf v = splat(a->alpha) * load(sums + r * stride + w - w0);
                if (a->accumulate) v += load_some(to, end - w);
                store_some(to, v, end - w);
            }
        return;
    }
    for (long w = w0; w < end; w++)
        for (long r = 0; r < narrow; r++) {
            float *to = g + w * a->g.stride + r, v = a->alpha * sums[r * stride + w - w0];
            *to = a->accumulate ? v + *to : v;
        }
}

// As torch.optim.AdamW: decay first, then the bias-corrected update.
static void adamw(const void *arguments, int thread, int threads) {
    const ck_adamw_args *a = arguments;
    const double c1 = 1 - pow(a->beta1, (double)a->step), c2 = 1 - pow(a->beta2, (double)a->step);
    const vf step_size = splat((float)(a->learning_rate / c1)), root = splat((float)sqrt(c2)), epsilon = splat((float)a->epsilon);
    const vf decay = splat((float)(1 - a->learning_rate * a->weight_decay)), scale = splat(a->gradient_scale);
    const vf rest1 = splat((float)(1 - a->beta1)), beta2 = splat((float)a->beta2), rest2 = splat((float)(1 - a->beta2));
    const long parts = (a->count + 15) / 16;
    for (long i = ck_share(parts, thread, threads) * 16; i < ck_share(parts, thread + 1, threads) * 16; i += 16) {
        long left = a->count - i;
        vf g = load_some(a->gradient + i, left) * scale, m = load_some(a->moment1 + i, left), v = load_some(a->moment2 + i, left);
        m = m + rest1 * (g - m);
        v = beta2 * v + rest2 * g * g;
        vf w = load_some(a->parameter + i, left) * decay - step_size * (m / (__builtin_elementwise_sqrt(v) / root + epsilon));
        store_some(a->moment1 + i, m, left);
        store_some(a->moment2 + i, v, left);
        store_some(a->parameter + i, w, left);
    }
}

// Sixteen double sums over each block of CK_SUM_BLOCK values.
static void square_sum(const void *arguments, int thread, int threads) {
    typedef double vd __attribute__((vector_size(128)));
    const ck_square_sum_args *a = arguments;
    const long blocks = (a->count + CK_SUM_BLOCK - 1) / CK_SUM_BLOCK;
    for (long b = ck_share(blocks, thread, threads); b < ck_share(blocks, thread + 1, threads); b++) {
        const long end = (b + 1) * CK_SUM_BLOCK < a->count ? (b + 1) * CK_SUM_BLOCK : a->count;
        vd s = {0};
        for (long i = b * CK_SUM_BLOCK; i < end; i += 16) {
            vd v = __builtin_convertvector(load_some(a->x + i, end - i), vd);
            s += v * v;
        }
        double sum = 0;
        for (int i = 0; i < 16; i++) sum += s[i];
        a->partial[b] = sum;
    }
}
