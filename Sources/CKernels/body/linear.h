// y = x W^T, by tiles of up to TILE_ROWS rows and one panel of 32 outputs.
//
// The whole contraction runs in one chain an element, so tile heights, row blocks and threads do not change bits.

// out[rows][32] = a * panel (fresh), or += (not fresh). `width`: 32, or 16 for a narrow last panel.
INLINE void tile(float *out, const int fresh, const int type, const void *a, long lda, const void *panel, long width,
                 long depth, const int rows, const int vectors, const char *ahead, long ahead_step, const int lines) {
    vf acc[TILE_ROWS][4];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = fresh ? splat(0) : load(out + i * 32 + j * 16);
    if (type == CK_BF16) mac_bf16(acc, a, lda, panel, width * 2, depth, rows, vectors, ahead, ahead_step, lines);
    else mac_f32(acc, a, lda, panel, width, depth, rows, vectors, ahead, ahead_step, lines);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) store(out + i * 32 + j * 16, acc[i][j]);
}

// A tile of any height. `ahead_lines`: 0 nothing to fetch, else lines a step.
#define TILE_CALL(TYPE, FRESH, VECTORS, LINES) \
    FOR_ROWS(rows, tile(out, FRESH, TYPE, a, lda, panel, width, depth, R, VECTORS, ahead, LINES * 64, LINES))

// `type` is the panel's; a is of type WORK.
static void tile_of(float *out, int type, const void *a, long lda, const void *panel, long width, long depth, int rows,
                    const char *ahead, int lines) {
    if (width == 16 || TILE_VECTORS == 1) {
        long pair = type == CK_BF16 ? 2 : 1;
        for (long half = 0; half < width; half += 16, out += 16, panel = offset(panel, type, 16 * pair)) {
            if (type == CK_BF16) TILE_CALL(CK_BF16, 1, 1, 0)
            else TILE_CALL(CK_F32, 1, 1, 0)
        }
    } else if (type == CK_BF16) {
        if (lines == 0) TILE_CALL(CK_BF16, 1, TILE_VECTORS, 0)
        else if (lines == 1) TILE_CALL(CK_BF16, 1, TILE_VECTORS, 1)
        else TILE_CALL(CK_BF16, 1, TILE_VECTORS, 2)
    } else {
        if (lines == 0) TILE_CALL(CK_F32, 1, TILE_VECTORS, 0)
        else if (lines == 1) TILE_CALL(CK_F32, 1, TILE_VECTORS, 1)
        else TILE_CALL(CK_F32, 1, TILE_VECTORS, 2)
    }
}

// Goes on summing in a tile that is there: the same chain as if the contraction were longer.
static void tile_more(float *out, int type, const void *a, long lda, const void *panel, long width, long depth, int rows,
                      const char *ahead, int lines) {
    if (width == 16 || TILE_VECTORS == 1) {
        long pair = type == CK_BF16 ? 2 : 1;
        for (long half = 0; half < width; half += 16, out += 16, panel = offset(panel, type, 16 * pair)) {
            if (type == CK_BF16) TILE_CALL(CK_BF16, 0, 1, 0)
            else TILE_CALL(CK_F32, 0, 1, 0)
        }
    } else if (type == CK_BF16) TILE_CALL(CK_BF16, 0, TILE_VECTORS, 0)
    else if (lines == 0) TILE_CALL(CK_F32, 0, TILE_VECTORS, 0)
    else TILE_CALL(CK_F32, 0, TILE_VECTORS, 1)
}

// Low-rank terms of rows [m, m + rows) in the panel that begins at `column`.
static void tile_terms(const ck_linear_args *a, float *out, long m, int rows, long column) {
    enum { RANKS = 128 }; // converted at a time; even
    float u[TILE_ROWS * RANKS];
    for (long i = 0; i < a->term_count; i++) {
        const ck_term *t = &a->terms[i];
        if (column < t->column0 || column >= t->column0 + t->up.rows) continue;
        const long first = t->row0 > m ? t->row0 : m, end = t->row1 < m + rows ? t->row1 : m + rows;
        if (first >= end) continue;
        const int type = t->up.type, convert = WORK(type) != type;
        const long panel = (column - t->column0) / 32, depth = ck_depth(t->up.columns, type), width = ck_panel_width(t->up.rows, panel);
        const char *data = offset(t->up.data, type, panel * 32 * depth);
        for (long r = 0; r < t->up.columns; r += RANKS) {
            const long ranks = !convert ? t->up.columns : t->up.columns - r < RANKS ? t->up.columns - r : RANKS;
            const void *left = offset(t->u.data, type, (first - t->row0) * t->u.stride + r);
            if (convert)
                for (long row = 0; row < end - first; row++) to_floats(u + row * RANKS, offset(left, type, row * t->u.stride), type, ranks);
            tile_more(out + (first - m) * 32, type, convert ? u : left, convert ? RANKS : t->u.stride,
                      offset(data, type, r * width), width, ranks, (int)(end - first), NULL, 0);
            if (!convert) break;
        }
    }
}

// Before the gate: whole panels, alpha is 1.
static void tile_bias(float *tile, const float *bias, int rows) {
    for (int i = 0; i < rows; i++)
        for (long j = 0; j < 32; j += 16) store(tile + i * 32 + j, load(tile + i * 32 + j) + load(bias + j));
}

// y (+)= alpha * tile + bias (with a gate it is there already), `columns` of 32.
static void tile_store(const ck_linear_args *a, const float *tile, long m, int rows, long column, long columns) {
    for (int i = 0; i < rows; i++)
        for (long j = 0; j < columns; j += 16) {
            long left = columns - j, at = (m + i) * a->y.stride + column + j;
            vf v = splat(a->alpha) * load(tile + i * 32 + j);
            if (a->bias && !a->gated.data) v += load_some(a->bias + column + j, left);
            if (a->accumulate) v += load_some((float *)a->y.data + at, left);
            store_as(a->y.data, a->y.type, at, v, left);
        }
}

INLINE void tile_gate_as(const int kind, const ck_linear_args *a, const float *gate, const float *up, long m, int rows,
                         long column) {
    for (int i = 0; i < rows; i++)
        for (long j = 0; j < 32; j += 16) {
            vf v = act(kind, load(gate + i * 32 + j)) * load(up + i * 32 + j);
            store_as(a->gated.data, a->gated.type, (m + i) * a->gated.stride + column + j, v, 16);
        }
}

static void tile_gate(const ck_linear_args *a, const float *gate, const float *up, long m, int rows, long column) {
    if (a->gate == CK_ACT_SILU) tile_gate_as(CK_ACT_SILU, a, gate, up, m, rows, column);
    else if (a->gate == CK_ACT_GELU_TANH) tile_gate_as(CK_ACT_GELU_TANH, a, gate, up, m, rows, column);
    else tile_gate_as(a->gate, a, gate, up, m, rows, column);
}

// A panel of bf16 pairs as float lines [depth][width].
static void panel_to_floats(float *to, const uint16_t *from, long width, long depth) {
    for (long k = 0; k < depth; k += 2, from += width * 2)
        for (long j = 0; j < width; j += 16) {
            vu b = *(const vu_any *)(from + j * 2);
            store(to + k * width + j, (vf)(b << 16));
            if (k + 1 < depth) store(to + (k + 1) * width + j, (vf)(b & 0xffff0000u));
        }
}

// One panel of W against many rows: what the tiles need.
typedef struct {
    int type;         // of the panel
    const void *data; // the panel
    long width, depth;
    const char *next; // what is read after it, and how much of that to fetch meanwhile
    long next_bytes;
} panel;

static panel panel_of(const ck_packed *w, long p, long end) {
    const long depth = ck_depth(w->columns, w->type), width = ck_panel_width(w->rows, p);
    panel r = {w->type, offset(w->data, w->type, p * 32 * depth), width, w->columns, NULL, 0};
    r.next = (const char *)r.data + width * depth * ck_size(w->type);
    if (p + 1 < end && width == 32) r.next_bytes = ck_panel_width(w->rows, p + 1) * depth * ck_size(w->type);
    return r;
}

// out[rows][32] = x * panel, x of type WORK. With many rows a panel of bf16 is converted once for all of them, DEPTH
// lines at a time, which then stay in L1 in `lines`.
static void panel_product(float *out, const panel *p, const void *x, long x_stride, float *lines, long rows) {
    enum { DEPTH = 208 };
    const int type = p->type, work = WORK(type), tiles = (int)((rows + TILE_ROWS - 1) / TILE_ROWS);
    const bool convert = work != type && tiles >= 8;
    const long k = p->depth, chunks = convert ? (k + DEPTH - 1) / DEPTH : 1;
    for (long c = 0; c < chunks; c++) {
        const long k0 = k * c / chunks & ~1L, k1 = c + 1 < chunks ? k * (c + 1) / chunks & ~1L : k;
        if (convert) panel_to_floats(lines, (const uint16_t *)p->data + k0 * p->width, p->width, k1 - k0);
        for (int t = 0; t < tiles; t++) {
            const long m = rows * t / tiles;
            const int n = (int)(rows * (t + 1) / tiles - m);
            const void *left = offset(x, work, m * x_stride + k0);
            if (convert) {
                // The next panel arrives in L2 during the first tile, as many lines as this chunk has steps.
                const int ahead_lines = p->next_bytes && t == 0;
                const char *ahead = p->next + k0 * 64;
                if (c == 0) tile_of(out + m * 32, CK_F32, left, x_stride, lines, p->width, k1 - k0, n, ahead, ahead_lines);
                else tile_more(out + m * 32, CK_F32, left, x_stride, lines, p->width, k1 - k0, n, ahead, ahead_lines);
            } else {
                // Half of it in each of the first two tiles, or all in one.
                const int ahead_lines = p->next_bytes == 0 ? 0 : tiles == 1 ? 2 : t < 2 ? 1 : 0;
                const char *ahead = ahead_lines == 1 && t == 1 ? p->next + p->next_bytes / 2 : p->next;
                tile_of(out + m * 32, type, left, x_stride, p->data, p->width, k, n, ahead, ahead_lines);
            }
        }
    }
}

// Rows [m0, m1), at most BLOCK_ROWS, against panels [p0, p1). x: the rows of `a->x` from m0 on, of type WORK.
static void linear_block(const ck_linear_args *a, const void *x, long x_stride, float *lines, long m0, long m1, long p0, long p1) {
    _Alignas(64) float buffer[2][BLOCK_ROWS * 32]; // with a gate: its panel waits for the up panel
    for (long p = p0; p < p1; p++) {
        const panel one = panel_of(&a->w, p, p1);
        const long column = ck_panel_row(&a->w, p), columns = a->w.rows - column < one.width ? a->w.rows - column : one.width;
        float *out = buffer[a->gated.data && (p & 1)];
        panel_product(out, &one, x, x_stride, lines, m1 - m0);
        for (long m = m0; m < m1; m += TILE_ROWS, out += TILE_ROWS * 32) {
            const int rows = m1 - m < TILE_ROWS ? (int)(m1 - m) : TILE_ROWS;
            if (a->term_count) tile_terms(a, out, m, rows, column);
            if (a->gated.data && a->bias) tile_bias(out, a->bias + column, rows);
            if (a->y.data) tile_store(a, out, m, rows, column, columns);
            if (a->gated.data && (p & 1)) tile_gate(a, buffer[0] + (m - m0) * 32, out, m, rows, column - a->w.rows / 2);
        }
    }
}

static void linear(const void *arguments, int thread, int threads) {
    const ck_linear_args *a = arguments;
    const int type = a->w.type, work = WORK(type);
    const long unit = a->gated.data ? 2 : 1, units = ck_panels(a->w.rows) / unit, k = a->w.columns;
    long m0 = 0, m1 = a->rows, p0 = 0, p1 = ck_panels(a->w.rows);
    if (a->rows >= 24 * threads || (units < 4 * threads && a->rows >= 2 * threads)) {
        m0 = ck_share(a->rows, thread, threads);
        m1 = ck_share(a->rows, thread + 1, threads);
    } else {
        p0 = ck_share(units, thread, threads) * unit;
        p1 = ck_share(units, thread + 1, threads) * unit;
    }
    if (m0 == m1 || p0 == p1) return;
    // Rows of x in a block stay in L2 while the panels pass.
    long most = (1 << 20) / (k * ck_size(work)) / TILE_ROWS * TILE_ROWS;
    most = most > BLOCK_ROWS ? BLOCK_ROWS : most < 4 * TILE_ROWS ? 4 * TILE_ROWS : most;
    const long blocks = (m1 - m0 + most - 1) / most, stride = (k + 15) / 16 * 16;
    float *floats = ck_arena_memory(a->arena, CK_SLOT_THREAD), *lines = floats + BLOCK_ROWS * stride;
    for (long b = 0; b < blocks; b++) {
        const long from = m0 + (m1 - m0) * b / blocks, to = m0 + (m1 - m0) * (b + 1) / blocks;
        const void *x = offset(a->x.data, type, from * a->x.stride);
        if (work != type)
            for (long m = 0; m < to - from; m++) to_floats(floats + m * stride, offset(x, type, m * a->x.stride), type, k);
        linear_block(a, work == type ? x : floats, work == type ? a->x.stride : stride, lines, from, to, p0, p1);
    }
}

// ---------------------------------------------------------------- W -> W^T

// 16 x 16 transpose of 32-bit values.
INLINE void transpose16(vu r[16]) {
    vu a[16];
#define LOW32(x, y) __builtin_shufflevector(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH32(x, y) __builtin_shufflevector(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW64(x, y) __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH64(x, y) __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define EVEN128(x, y) __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define ODD128(x, y) __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)
    UNROLL for (int i = 0; i < 16; i += 2) {
        a[i] = LOW32(r[i], r[i + 1]);
        a[i + 1] = HIGH32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        r[i] = LOW64(a[i], a[i + 2]);
        r[i + 1] = HIGH64(a[i], a[i + 2]);
        r[i + 2] = LOW64(a[i + 1], a[i + 3]);
        r[i + 3] = HIGH64(a[i + 1], a[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        a[i] = EVEN128(r[i], r[i + 4]);
        a[i + 4] = ODD128(r[i], r[i + 4]);
        a[i + 8] = EVEN128(r[i + 8], r[i + 12]);
        a[i + 12] = ODD128(r[i + 8], r[i + 12]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = EVEN128(a[i], a[i + 8]);
        r[i + 8] = ODD128(a[i], a[i + 8]);
        r[i + 4] = EVEN128(a[i + 4], a[i + 12]);
        r[i + 12] = ODD128(a[i + 4], a[i + 12]);
    }
}

// A whole block: 32 rows n of W (one panel) by 32 columns k -> 32 rows k of W^T (one panel) by 32 columns n.
INLINE void transpose_block_bf16(const uint16_t *in, uint16_t *out) {
    for (int half = 0; half < 2; half++) { // 16 columns k
        vu r[16];
        UNROLL for (int kp = 0; kp < 8; kp++) {
            vu a = *(const vu_any *)(in + (half * 8 + kp) * 64), b = *(const vu_any *)(in + (half * 8 + kp) * 64 + 32);
            vu even = __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            vu odd = __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            r[2 * kp] = (even & 0xffff) | (odd << 16);
            r[2 * kp + 1] = (even >> 16) | (odd & 0xffff0000u);
        }
        transpose16(r); // r[n pair][k]
        UNROLL for (int i = 0; i < 16; i++) *(vu_any *)(out + i * 64 + half * 32) = r[i];
    }
}

INLINE void transpose_block_f32(const float *in, float *out) {
    for (int nh = 0; nh < 2; nh++)
        for (int kh = 0; kh < 2; kh++) {
            vu r[16];
            UNROLL for (int i = 0; i < 16; i++) r[i] = (vu)load(in + (kh * 16 + i) * 32 + nh * 16);
            transpose16(r);
            UNROLL for (int i = 0; i < 16; i++) store(out + (nh * 16 + i) * 32 + kh * 16, (vf)r[i]);
        }
}

// Panel p (32 columns k of W) of W^T; `out` is its first element.
static void transpose_panel(const ck_packed *w, long p, void *out) {
    const int type = w->type;
    const ck_packed t = {NULL, w->columns, w->rows, type, 0};
    const long depth = ck_depth(w->columns, type), t_depth = ck_depth(w->rows, type), width = ck_panel_width(w->columns, p);
    const long k1 = p * 32 + width < w->columns ? p * 32 + width : w->columns;
    if (k1 - p * 32 < width || t_depth > w->rows) memset(out, 0, (size_t)(width * t_depth * ck_size(type)));
    for (long s = 0; s < ck_panels(w->rows); s++) {
        long n = ck_panel_row(w, s), n1 = n + 32 < w->rows ? n + 32 : w->rows;
        if (k1 - p * 32 == 32 && ck_panel_width(w->rows, s) == 32 && n1 - n == 32) {
            const void *in = offset(w->data, type, s * 32 * depth + p * 1024);
            if (type == CK_BF16) transpose_block_bf16(in, (uint16_t *)out + n * 32);
            else transpose_block_f32(in, (float *)out + n * 32);
            continue;
        }
        for (long k = p * 32; k < k1; k++)
            for (long i = n; i < n1; i++) {
                long to = ck_packed_index(&t, k, i) - p * 32 * t_depth, from = ck_packed_index(w, i, k);
                if (type == CK_BF16) ((uint16_t *)out)[to] = ((const uint16_t *)w->data)[from];
                else ((float *)out)[to] = ((const float *)w->data)[from];
            }
    }
}

static void transpose(const void *arguments, int thread, int threads) {
    const ck_transpose_args *a = arguments;
    long count = a->panel1 - a->panel0, t_depth = ck_depth(a->w.rows, a->w.type);
    for (long i = ck_share(count, thread, threads); i < ck_share(count, thread + 1, threads); i++)
        transpose_panel(&a->w, a->panel0 + i, (char *)a->out + i * 32 * t_depth * ck_size(a->w.type));
}
