// Weight gradients and the optimizer.

// `narrow` values of a token are broadcast against `vectors` vectors of the other side.
#if CK_LEVEL == 3
enum { NARROW = 8, WIDE_VECTORS = 2, TOKENS = 256 };
#elif CK_LEVEL == 2
enum { NARROW = 16, WIDE_VECTORS = 1, TOKENS = 128 };
#else
enum { NARROW = TILE_ROWS < 4 ? 2 : 4, WIDE_VECTORS = 1, TOKENS = 128 };
#endif

// out[NARROW][vectors * 16] += sum over tokens, in token order. left: bf16 instructions [token pair][NARROW][2], else
// float [token][NARROW]; right: rows of the matrix.
INLINE void contract_tile(const int type, float *out, long out_stride, const void *left, const void *right, long stride,
                          long tokens) {
    vf acc[NARROW][4];
    UNROLL for (int i = 0; i < NARROW; i++)
        UNROLL for (int j = 0; j < WIDE_VECTORS; j++) acc[i][j] = load(out + i * out_stride + j * 16);
#if CK_LEVEL == 3
    if (type == CK_BF16) {
        for (long t = 0; t < tokens; t += 2) {
            vu y[WIDE_VECTORS];
            UNROLL for (int j = 0; j < WIDE_VECTORS; j++) { // two tokens interleaved while loading
                y[j] = widen(load_half((const uint16_t *)right + t * stride + j * 16));
                if (t + 1 < tokens) y[j] |= widen(load_half((const uint16_t *)right + (t + 1) * stride + j * 16)) << 16;
            }
            mac_pair(acc, y, both, (const uint16_t *)left + t * NARROW, 2, NARROW, WIDE_VECTORS);
        }
    } else
#endif
        for (long t = 0; t < tokens; t++)
            UNROLL for (int j = 0; j < WIDE_VECTORS; j++) {
                vf y = load_as(right, type, t * stride + j * 16, 16);
                UNROLL for (int i = 0; i < NARROW; i++) acc[i][j] = fma_(splat(((const float *)left)[t * NARROW + i]), y, acc[i][j]);
            }
    UNROLL for (int i = 0; i < NARROW; i++)
        UNROLL for (int j = 0; j < WIDE_VECTORS; j++) store(out + i * out_stride + j * 16, acc[i][j]);
}

// sums[narrow][wide] for wide columns [w0, w1), w0 a multiple of 32; both padded: narrow to NARROW, wide to 32.
static void contract_range(const ck_contract_args *a, const ck_matrix *left, const ck_matrix *right, long narrow, long wide,
                           long w0, long w1, float *sums, long stride) {
    const int type = left->type, work = WORK(type);
    const long groups = (narrow + NARROW - 1) / NARROW;
    _Alignas(64) float lines[TOKENS * NARROW]; // one group of the narrow side
    _Alignas(64) float tile[TOKENS * 32];      // columns of the wide side that are converted or padded
    for (long t0 = 0; t0 < a->rows; t0 += TOKENS) {
        const long tokens = a->rows - t0 < TOKENS ? a->rows - t0 : TOKENS;
        for (long g = 0; g < groups; g++) {
            const long r0 = g * NARROW, real = narrow - r0 < NARROW ? narrow - r0 : NARROW;
            if (real < NARROW || (tokens & 1)) memset(lines, 0, sizeof lines);
            for (long t = 0; t < tokens; t++) {
                const long from = (t0 + t) * left->stride + r0;
                if (work == CK_BF16)
                    for (long i = 0; i < real; i++) ((uint16_t *)lines)[(t / 2 * NARROW + i) * 2 + (t & 1)] = ((const uint16_t *)left->data)[from + i];
                else to_floats(lines + t * NARROW, offset(left->data, type, from), type, real);
            }
            for (long w = w0; w < w1; w += 32) {
                const void *y = offset(right->data, type, t0 * right->stride + w);
                const long count = wide - w < 32 ? wide - w : 32;
                long y_stride = right->stride;
                if (count < 32 || work != type) {
                    if (count < 32) memset(tile, 0, sizeof tile);
                    for (long t = 0; t < tokens; t++) {
                        if (work != type) to_floats(tile + t * 32, offset(y, type, t * y_stride), type, count);
                        else memcpy((char *)tile + t * 32 * ck_size(type), offset(y, type, t * y_stride), (size_t)(count * ck_size(type)));
                    }
                    y = tile;
                    y_stride = 32;
                }
                for (int v = 0; v < 2; v += WIDE_VECTORS) {
                    float *out = sums + r0 * stride + w - w0 + v * 16;
                    if (work == CK_BF16) contract_tile(CK_BF16, out, stride, lines, offset(y, work, v * 16), y_stride, tokens);
                    else contract_tile(CK_F32, out, stride, lines, offset(y, work, v * 16), y_stride, tokens);
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
