// Cross-entropy of a head in one pass over the vocabulary, without stored logits.
//
// Rows in blocks of LOSS_ROWS, vocabulary in chunks of LOSS_COLUMNS: e^(logit - reference) of a chunk goes to scratch and
// is multiplied with the chunk of W at once; each row is divided by its sum at the end. The reference of a row is its
// label's logit, raised (and what is summed so far rescaled) when a logit exceeds it by more than the exponent allows.

enum { LOSS_LIMIT = 64 }; // a power of two: e^(logit - reference) <= 2^LOSS_LIMIT

typedef struct {
    const ck_head_loss_args *a;
    long m0, rows;
    const void *x;       // hidden rows of type WORK
    long x_stride;
    char *e;             // [rows][LOSS_COLUMNS] of type WORK
    char *transposed;    // panels of 32 columns k: [K/32][LOSS_COLUMNS]
    float *gradient;     // [rows][padded K]
    float *lines;        // one panel as floats
    long gradient_stride;
    float reference[LOSS_ROWS], top[LOSS_ROWS], sum[LOSS_ROWS], chunk_sum[LOSS_ROWS], label_logit[LOSS_ROWS];
} loss_block;

static float dot_packed(const void *x, const ck_packed *w, long output) {
    // The same chain as a tile's: the label's logit must equal the one the product makes.
    _Alignas(64) float out[32];
    long panel = output / 32, depth = ck_depth(w->columns, w->type);
    tile_of(out, w->type, x, 0, offset(w->data, w->type, panel * 32 * depth),
            ck_panel_width(w->rows, panel), w->columns, 1, NULL, 0);
    return out[output % 32];
}

INLINE vf logit_of(const ck_head_loss_args *a, vf product) {
    vf z = splat(a->logit_scale) * product;
    if (a->soft_cap > 0) z = splat(a->soft_cap) * tanh_(z / splat(a->soft_cap));
    return z;
}

// One row's 32 products of a panel -> exponentials, their sum and the largest logit above the reference.
INLINE void loss_row(loss_block *z, const int work, const float *products, long row, long column, long real) {
    const ck_head_loss_args *a = z->a;
    const vf reference = splat(z->reference[row]);
    vf sum = splat(0), top = splat(z->top[row]);
    UNROLL for (int j = 0; j < 2; j++) {
        vf x = logit_of(a, load(products + j * 16)) - reference;
        if (real < 32) x = choose((vi)(lanes() + j * 16 < (int32_t)real), x, splat(-INFINITY));
        vf e = exp2_(at_most(x * splat(LOG2_E), (float)LOSS_LIMIT));
        if (real < 32) e = choose((vi)(x == splat(-INFINITY)), splat(0), e);
        top = larger(x, top);
        sum += e;
        if (a->soft_cap > 0) { // the slope of the cap goes with the gradient, not with the sum
            vf t = (x + reference) * splat(1 / a->soft_cap);
            e = choose((vi)(e == splat(0)), splat(0), e * (splat(1) - t * t));
        }
        store_as(z->e, work, row * LOSS_COLUMNS + column + j * 16, e, 16);
    }
    z->chunk_sum[row] += sum_of(sum);
    z->top[row] = max_of(top);
}

// Exponentials of vocabulary columns [c0, c0 + columns); `columns` stored as a multiple of 32, the tail as zero.
static void loss_exponentials(loss_block *z, long c0, long columns) {
    const ck_head_loss_args *a = z->a;
    _Alignas(64) float out[LOSS_ROWS * 32];
    for (long i = 0; i < z->rows; i++) {
        z->chunk_sum[i] = 0;
        z->top[i] = -INFINITY;
    }
    for (long c = 0; c < columns; c += 32) {
        const long real = columns - c < 32 ? columns - c : 32;
        const panel one = panel_of(&a->head, (c0 + c) / 32, ck_panels(a->head.rows));
        if (one.width < 32) memset(out, 0, sizeof out);
        panel_product(out, &one, z->x, z->x_stride, z->lines, z->rows);
        if (WORK(a->head.type) == CK_BF16)
            for (long i = 0; i < z->rows; i++) loss_row(z, CK_BF16, out + i * 32, i, c, real);
        else
            for (long i = 0; i < z->rows; i++) loss_row(z, CK_F32, out + i * 32, i, c, real);
    }
}

// Raises references that a chunk exceeded; true when the chunk must be done again.
static bool loss_raise(loss_block *z) {
    bool again = false;
    for (long i = 0; i < z->rows; i++) {
        if (!(z->top[i] * LOG2_E > LOSS_LIMIT)) continue;
        if (z->top[i] == INFINITY) { // nothing to rescale by: the loss is not a number
            z->sum[i] = NAN;
            continue;
        }
        const float factor = exp2_(splat(-z->top[i] * LOG2_E))[0];
        z->reference[i] += z->top[i];
        z->sum[i] *= factor;
        if (z->a->dhidden.data)
            for (long k = 0; k < z->gradient_stride; k++) z->gradient[i * z->gradient_stride + k] *= factor;
        again = true;
    }
    return again;
}

static void loss_gradient(loss_block *z, long c0, long columns) {
    const ck_head_loss_args *a = z->a;
    const int type = a->head.type;
    const long depth = ck_depth(a->head.columns, type);
    // The chunk of W, its panels from c0 on, as a matrix of its own.
    const ck_packed chunk = {offset(a->head.data, type, c0 * depth), columns, a->head.columns, type, 0};
    const long t_depth = ck_depth(columns, type);
    const ck_packed transposed = {z->transposed, a->head.columns, columns, type, 0};
    for (long p = 0; p < ck_panels(a->head.columns); p++)
        transpose_panel(&chunk, p, z->transposed + p * 32 * t_depth * ck_size(type));
    const ck_linear_args product = {.x = {z->e, LOSS_COLUMNS, type}, .w = transposed, .rows = z->rows, .alpha = 1,
                                    .y = {z->gradient, z->gradient_stride, CK_F32}, .accumulate = 1};
    for (long m = 0; m < z->rows; m += BLOCK_ROWS) {
        const long end = m + BLOCK_ROWS < z->rows ? m + BLOCK_ROWS : z->rows;
        linear_block(&product, offset(z->e, WORK(type), m * LOSS_COLUMNS), LOSS_COLUMNS, z->lines, m, end, 0,
                     ck_panels(a->head.columns));
    }
}

static void loss_rows(loss_block *z) {
    const ck_head_loss_args *a = z->a;
    const long n = a->head.columns;
    for (long i = 0; i < z->rows; i++) {
        const long label = a->labels[z->m0 + i];
        z->label_logit[i] = label < 0 ? 0 : logit_of(a, splat(dot_packed(offset(z->x, WORK(a->head.type), i * z->x_stride), &a->head, label)))[0];
        z->reference[i] = z->label_logit[i];
        z->sum[i] = 0;
    }
    if (a->dhidden.data) memset(z->gradient, 0, sizeof(float) * (size_t)(z->rows * z->gradient_stride));
    for (long c0 = 0; c0 < a->head.rows; c0 += LOSS_COLUMNS) {
        const long columns = a->head.rows - c0 < LOSS_COLUMNS ? a->head.rows - c0 : LOSS_COLUMNS;
        do loss_exponentials(z, c0, columns);
        while (loss_raise(z));
        for (long i = 0; i < z->rows; i++) z->sum[i] += z->chunk_sum[i];
        if (a->dhidden.data) loss_gradient(z, c0, columns);
    }
    for (long i = 0; i < z->rows; i++) {
        const long row = z->m0 + i, label = a->labels[row];
        a->loss[row] = label < 0 ? 0 : logf(z->sum[i]) + z->reference[i] - z->label_logit[i];
        if (!a->dhidden.data) continue;
        float *to = (float *)a->dhidden.data + row * a->dhidden.stride;
        if (label < 0) {
            memset(to, 0, sizeof(float) * (size_t)n);
            continue;
        }
        float weight = a->scale * (a->weights ? a->weights[row] : 1) * a->logit_scale, own = weight;
        if (a->soft_cap > 0) own *= 1 - (z->label_logit[i] / a->soft_cap) * (z->label_logit[i] / a->soft_cap);
        const float share = weight / z->sum[i];
        const float *from = z->gradient + i * z->gradient_stride;
        for (long k = 0; k < n; k++)
            to[k] = from[k] * share - own * ck_load(a->head.data, a->head.type, ck_packed_index(&a->head, label, k));
    }
}

static void head_loss(const void *arguments, int thread, int threads) {
    const ck_head_loss_args *a = arguments;
    const int type = a->head.type;
    const long k = a->head.columns, padded = (k + 31) / 32 * 32;
    loss_block z = {.a = a, .gradient_stride = padded};
    float *at = ck_arena_memory(a->arena, CK_SLOT_THREAD), *x;
    z.e = (char *)at;
    z.transposed = (char *)(at += LOSS_ROWS * LOSS_COLUMNS);
    z.gradient = at += LOSS_COLUMNS * padded;
    x = at += LOSS_ROWS * padded;
    z.lines = at + LOSS_ROWS * padded; // [max(K, LOSS_COLUMNS)][32]
    const long first = ck_share(a->rows, thread, threads), end = ck_share(a->rows, thread + 1, threads);
    const long blocks = (end - first + LOSS_ROWS - 1) / LOSS_ROWS;
    for (long b = 0; b < blocks; b++) {
        z.m0 = first + (end - first) * b / blocks;
        z.rows = first + (end - first) * (b + 1) / blocks - z.m0;
        z.x = offset(a->hidden.data, type, z.m0 * a->hidden.stride);
        z.x_stride = a->hidden.stride;
        if (WORK(type) != type) {
            for (long i = 0; i < z.rows; i++) to_floats(x + i * padded, offset(z.x, type, i * z.x_stride), type, k);
            z.x = x;
            z.x_stride = padded;
        }
        loss_rows(&z);
    }
}
