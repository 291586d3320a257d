// Attention over blocks of 64 positions: inference from the paged cache, training inside spans of rows.
//
// A query walks the blocks of its sequence in order with a running maximum and sum (Dao et al. 2022); whatever shares
// its tile, its own numbers are the same.

enum { QUERY_ROWS = TILE_ROWS };

// c[rows][columns] = a * panel (fresh) or += ; `columns` a multiple of 16, `step` elements of a panel line. Few rows take more columns
// at a time, so that enough sums are under way. The panel `ahead` bytes behind this one is fetched meanwhile.
#define SUM_TILE(TYPE, VECTORS) \
    do { \
        enum { V = VECTORS }; \
        vf acc[R][4]; \
        if (fresh) UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < V; j++) acc[i][j] = splat(0); \
        else UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < V; j++) acc[i][j] = load(to + i * ldc + j * 16); \
        mac(TYPE, acc, from, lda, lines, step, depth, R, V, ahead); \
        UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < V; j++) store(to + i * ldc + j * 16, acc[i][j]); \
    } while (0)

#define SUM_ROWS(TYPE) \
    FOR_ROWS(n, { \
        enum { WIDE = TILE_VECTORS == 1 ? 1 : R <= 6 ? 4 : 2 }; \
        for (long col = 0; col < columns;) { \
            float *to = c + r * ldc + col; \
            const void *lines = offset(panel, type, col * pair); \
            if (columns - col >= WIDE * 16) { \
                SUM_TILE(TYPE, WIDE); \
                col += WIDE * 16; \
            } else { \
                SUM_TILE(TYPE, 1); \
                col += 16; \
            } \
        } \
    })

static void add_product(bool fresh, int type, float *c, long ldc, const void *a, long lda, const void *panel, long step, long depth,
                        long rows, long columns, long ahead) {
    const long pair = type == CK_BF16 ? 2 : 1, tiles = (rows + QUERY_ROWS - 1) / QUERY_ROWS;
    for (long t = 0; t < tiles; t++) {
        const long r = rows * t / tiles, n = rows * (t + 1) / tiles - r;
        const void *from = offset(a, WORK(type), r * lda);
        if (type == CK_BF16) SUM_ROWS(CK_BF16)
        else SUM_ROWS(CK_F32)
    }
}

typedef struct {
    int type;     // of the blocks
    int row_type; // of q and out
    long head_dim;
    float scale, soft_cap;
    long window;
    const char *base;     // block b at base + (pages ? pages[b] : b) * block_step
    const int32_t *pages;
    long block_step;
    const char *next; // the first block of the tile after this one, or NULL
    int rows;
    const void *q[QUERY_ROWS];
    long position[QUERY_ROWS]; // all in one block of 64
    void *out[QUERY_ROWS];
    float *log_sum[QUERY_ROWS]; // or NULL
} query_tile;

// First block a position sees.
INLINE long first_block(long position, long window) { return window > 0 && position >= window ? (position - window + 1) / 64 : 0; }

// Scores in base 2, after scale and cap.
INLINE vf scores(vf s, float scale, float cap) {
    if (cap > 0) return splat(cap * LOG2_E) * tanh_(s * splat(scale) / splat(cap));
    return s * splat(scale * LOG2_E);
}

// One query against one block: s[64] raw scores -> p[64] weights; the running maximum and sum, and the factor for
// what is summed so far.
INLINE float soften(const query_tile *t, const float *s, void *p, long low, long high, float *top, float *sum) {
    vf x[4];
    vf m = splat(-INFINITY);
    UNROLL for (int j = 0; j < 4; j++) {
        x[j] = scores(load(s + j * 16), t->scale, t->soft_cap);
        if (low > 0 || high < 63) {
            vi lane = lanes() + j * 16;
            x[j] = choose((vi)(lane >= (int32_t)low) & (vi)(lane <= (int32_t)high), x[j], splat(-INFINITY));
        }
    }
    UNROLL for (int j = 0; j < 4; j++) m = larger(x[j], m);
    float now = max_of(m);
    if (now < *top) now = *top;
    float reference = now == -INFINITY ? 0 : now;
    float factor = *top == -INFINITY ? 0 : exp2_(splat(*top - reference))[0];
    vf total = splat(0);
    UNROLL for (int j = 0; j < 4; j++) {
        vf e = exp2_of_negative(x[j] - splat(reference));
        if (low > 0 || high < 63) e = choose((vi)(x[j] == splat(-INFINITY)), splat(0), e);
        x[j] = e;
        total += e;
        if (WORK(t->type) == CK_BF16) store_half((uint16_t *)p + j * 16, e);
        else store((float *)p + j * 16, e);
    }
    *sum = *sum * factor + sum_of(total);
    *top = now;
    return factor;
}

static void attend_tile(const query_tile *t) {
    const int type = t->type, work = WORK(type);
    const long d = t->head_dim, dp = ck_padded(d), pair = type == CK_BF16 ? 2 : 1;
    _Alignas(64) float q[QUERY_ROWS * 512], o[QUERY_ROWS * 512], s[QUERY_ROWS * 64], p[QUERY_ROWS * 64];
    float top[QUERY_ROWS], sum[QUERY_ROWS];
    long first = t->position[0] / 64;
    for (int i = 0; i < t->rows; i++) {
        if (work == CK_F32) to_floats(q + i * d, t->q[i], t->row_type, d);
        else memcpy((char *)q + i * d * 2, t->q[i], (size_t)d * 2);
        top[i] = -INFINITY;
        sum[i] = 0;
        for (long c = 0; c < dp; c += 16) store(o + i * dp + c, splat(0));
        long b = first_block(t->position[i], t->window);
        if (b < first) first = b;
    }
    for (long b = first; b <= t->position[0] / 64; b++) {
        const bool last = b == t->position[0] / 64;
        const char *block = t->base + (t->pages ? t->pages[b] : b) * t->block_step;
        const char *next = last ? t->next : t->base + (t->pages ? t->pages[b + 1] : b + 1) * t->block_step;
        const long ahead = next ? next - block : 0;
        add_product(true, type, s, 64, q, d, block, 64 * pair, d, t->rows, 64, ahead);
        for (int i = 0; i < t->rows; i++) {
            long low = t->window > 0 ? t->position[i] - t->window + 1 - b * 64 : 0, high = t->position[i] - b * 64;
            float factor = soften(t, s + i * 64, (char *)p + i * 64 * ck_size(work), low, high, &top[i], &sum[i]);
            if (factor != 1)
                for (long c = 0; c < dp; c += 16) store(o + i * dp + c, load(o + i * dp + c) * splat(factor));
        }
        add_product(false, type, o, dp, p, 64, offset(block, type, 64 * d), dp * pair, 64, t->rows, dp, ahead);
    }
    for (int i = 0; i < t->rows; i++) {
        vf share = splat(1.f / sum[i]);
        for (long c = 0; c < d; c += 16) store_as(t->out[i], t->row_type, c, load(o + i * dp + c) * share, d - c);
        if (t->log_sum[i]) *t->log_sum[i] = (top[i] + log2f(sum[i])) / LOG2_E;
    }
}

// ---------------------------------------------------------------- inference

// Rows from `row` on that stand in one block of one sequence.
static long run_end(const int32_t *positions, const int32_t *sequences, long row, long rows) {
    long end = row + 1;
    while (end < rows && sequences[end] == sequences[row] && positions[end] / 64 == positions[row] / 64) end++;
    return end;
}

// One row's keys and values into a block. The first position of a block clears its values: weights of later positions
// are zero, but zero times an old NaN would not be.
static void append_row(const ck_append_args *a, char *block, long row, long head) {
    const int type = a->cache.type;
    const long d = a->cache.head_dim, dp = ck_padded(d), at = a->positions[row] % 64;
    if (at == 0) memset(block, 0, (size_t)ck_cache_block_bytes(d, type));
    _Alignas(64) float k[512 + 16], v[512 + 16];
    for (long c = 0; c < d; c += 16) {
        vf kk = load_as(a->k.data, a->k.type, row * a->k.stride + head * d + c, d - c);
        vf vv = load_as(a->v.data, a->v.type, row * a->v.stride + head * d + c, d - c);
        if (type == CK_BF16) {
            store_half((uint16_t *)k + c, kk);
            store_half((uint16_t *)v + c, vv);
        } else {
            store(k + c, kk);
            store(v + c, vv);
        }
    }
    if (type == CK_BF16) {
        uint16_t *ks = (uint16_t *)block + at * 2, *vs = (uint16_t *)block + 64 * d + at / 2 * dp * 2 + (at & 1);
        for (long c = 0; c < d; c += 2) memcpy(ks + c * 64, (uint16_t *)k + c, 4);
        for (long c = 0; c < d; c++) vs[c * 2] = ((uint16_t *)v)[c];
    } else {
        float *ks = (float *)block + at, *vs = (float *)block + 64 * d + at * dp;
        for (long c = 0; c < d; c++) ks[c * 64] = k[c];
        for (long c = 0; c < d; c++) vs[c] = v[c];
    }
}

static void append(const void *arguments, int thread, int threads) {
    const ck_append_args *a = arguments;
    // A thread takes whole (block, head) pairs: two of them never write one block.
    for (long row = 0, unit = 0, end; row < a->rows; row = end) {
        end = run_end(a->positions, a->sequences, row, a->rows);
        long page = a->pages[a->page_offsets[a->sequences[row]] + a->positions[row] / 64];
        for (long h = 0; h < a->cache.heads; h++, unit++) {
            if (unit % threads != thread) continue;
            char *block = ck_block(&a->cache, page, a->layer, h);
            for (long r = row; r < end; r++) append_row(a, block, r, h);
        }
    }
}

// The first block that a row's query of head h reads.
static const char *first_block_of(const ck_attend_args *a, long row, long h) {
    const long page = a->page_offsets[a->sequences[row]] + first_block(a->positions[row], a->window);
    return ck_block(&a->cache, a->pages[page], a->layer, h);
}

static void attend(const void *arguments, int thread, int threads) {
    const ck_attend_args *a = arguments;
    const ck_cache *c = &a->cache;
    const long group = a->query_heads / c->heads, d = c->head_dim, size = ck_size(c->type);
    long total = 0, done = 0;
    for (int pass = 0; pass < 2; pass++)
        for (long row = 0, end; row < a->rows; row = end) {
            end = run_end(a->positions, a->sequences, row, a->rows);
            const long queries = (end - row) * group, tiles = (queries + QUERY_ROWS - 1) / QUERY_ROWS;
            const long blocks = a->positions[row] / 64 - first_block(a->positions[row], a->window) + 1;
            if (pass == 0) {
                total += c->heads * queries * blocks;
                continue;
            }
            for (long h = 0; h < c->heads; h++)
                for (long i = 0; i < tiles; i++) {
                    const long q0 = queries * i / tiles, q1 = queries * (i + 1) / tiles;
                    const long middle = done + (q1 - q0) * blocks / 2;
                    done += (q1 - q0) * blocks;
                    if (middle < ck_share(total, thread, threads) || middle >= ck_share(total, thread + 1, threads)) continue;
                    query_tile t = {.type = c->type, .row_type = c->type, .head_dim = d, .scale = a->scale, .soft_cap = a->soft_cap, .window = a->window,
                                    .base = ck_block(c, 0, a->layer, h), .rows = (int)(q1 - q0),
                                    .pages = a->pages + a->page_offsets[a->sequences[row]],
                                    .block_step = ck_block(c, 1, 0, 0) - ck_block(c, 0, 0, 0)};
                    if (i + 1 == tiles && h + 1 < c->heads) t.next = first_block_of(a, row, h + 1);
                    else if (i + 1 == tiles && end < a->rows) t.next = first_block_of(a, end, 0);
                    for (long q = q0; q < q1; q++) {
                        const long r = row + q / group, column = (h * group + q % group) * d;
                        t.q[q - q0] = (const char *)a->q.data + (r * a->q.stride + column) * size;
                        t.out[q - q0] = (char *)a->out.data + (r * a->out.stride + column) * size;
                        t.position[q - q0] = a->positions[r];
                    }
                    attend_tile(&t);
                }
        }
}

// ---------------------------------------------------------------- training

// 64 rows of one head -> pairs (bf16) or lines (float32) along the head dimension: [d/2][64][2] or [d][64]. `type` is
// what comes out; bf16 may become float32.
static void pack_along_head(int type, const ck_matrix *m, long row, long rows, long column, long d, void *out) {
    if (rows < 64) memset(out, 0, (size_t)(64 * d * ck_size(type)));
    for (long r = 0; r < rows; r++) {
        const void *from = offset(m->data, m->type, (row + r) * m->stride + column);
        if (type == CK_BF16) {
            for (long c = 0; c < d; c += 2) memcpy((uint16_t *)out + c * 64 + r * 2, (const uint16_t *)from + c, 4);
            continue;
        }
        float line[512];
        to_floats(line, from, m->type, d);
        for (long c = 0; c < d; c++) ((float *)out)[c * 64 + r] = line[c];
    }
}

// 64 rows of one head -> pairs or lines along the rows: [32][dp][2] or [64][dp].
static void pack_along_rows(int type, const ck_matrix *m, long row, long rows, long column, long d, void *out) {
    const long dp = ck_padded(d);
    if (rows < 64 || dp > d) memset(out, 0, (size_t)(64 * dp * ck_size(type)));
    if (type == CK_F32) {
        for (long r = 0; r < rows; r++)
            to_floats((float *)out + r * dp, offset(m->data, m->type, (row + r) * m->stride + column), m->type, d);
        return;
    }
    for (long r = 0; r < rows; r += 2) {
        const uint16_t *first = (const uint16_t *)m->data + (row + r) * m->stride + column, *second = first + m->stride;
        uint16_t *to = (uint16_t *)out + r * dp;
        long c = 0;
        if (r + 1 < rows)
            for (; c + 16 <= d; c += 16)
                *(vu_any *)(to + c * 2) = widen(load_half(first + c)) | (widen(load_half(second + c)) << 16);
        for (; c < d; c++) {
            to[c * 2] = first[c];
            to[c * 2 + 1] = r + 1 < rows ? second[c] : 0;
        }
    }
}

static void span_attention(const void *arguments, int thread, int threads) {
    const ck_span_attention_args *a = arguments;
    const int type = WORK(a->q.type);
    const long d = a->head_dim, size = ck_size(type), group = a->query_heads / a->kv_heads;
    const long block_bytes = ck_cache_block_bytes(d, type);
    char *kv = ck_arena_memory(a->arena, CK_SLOT_THREAD);
    long total = 0, done = 0;
    for (int pass = 0; pass < 2; pass++)
        for (long s = 0; s < a->span_count; s++)
            for (long g = 0; g < a->kv_heads; g++) {
                const long row = a->spans[s], rows = a->spans[s + 1] - row;
                long packed = 0; // blocks of this span and head that this thread has in `kv`
                for (long b = 0; b * 64 < rows; b++) {
                    const long count = rows - b * 64 < 64 ? rows - b * 64 : 64, queries = count * group;
                    const long blocks = b - first_block(b * 64, a->window) + 1;
                    if (pass == 0) {
                        total += queries * blocks;
                        continue;
                    }
                    const long tiles = (queries + QUERY_ROWS - 1) / QUERY_ROWS;
                    for (long i = 0; i < tiles; i++) {
                        const long q0 = queries * i / tiles, q1 = queries * (i + 1) / tiles;
                        const long middle = done + (q1 - q0) * blocks / 2;
                        done += (q1 - q0) * blocks;
                        if (middle < ck_share(total, thread, threads) || middle >= ck_share(total, thread + 1, threads)) continue;
                        for (; packed <= b; packed++) {
                            const long r = row + packed * 64, n = rows - packed * 64 < 64 ? rows - packed * 64 : 64;
                            char *block = kv + packed * block_bytes;
                            pack_along_head(type, &a->k, r, n, g * d, d, block);
                            pack_along_rows(type, &a->v, r, n, g * d, d, block + 64 * d * size);
                        }
                        query_tile t = {.type = type, .row_type = a->q.type, .head_dim = d, .scale = a->scale, .soft_cap = a->soft_cap,
                                        .window = a->window, .base = kv, .block_step = block_bytes, .rows = (int)(q1 - q0)};
                        for (long q = q0; q < q1; q++) {
                            const long position = b * 64 + q % count, head = g * group + q / count, r = row + position;
                            t.q[q - q0] = offset(a->q.data, a->q.type, r * a->q.stride + head * d);
                            t.out[q - q0] = (char *)a->out.data + (r * a->out.stride + head * d) * ck_size(a->q.type);
                            t.position[q - q0] = position;
                            t.log_sum[q - q0] = a->log_sum + head * a->log_sum_stride + r;
                        }
                        attend_tile(&t);
                    }
                }
            }
}

// Keys of block j against queries of block i, transposed: p[key][query], ds[key][query], so that a query's constants
// are vectors. `rows`: queries and keys of the span.
static void backward_scores(const ck_span_attention_args *a, const backward_scratch *z, long i, long j, long rows) {
    const int type = WORK(a->q.type);
    const long d = a->head_dim, pair = type == CK_BF16 ? 2 : 1, size = ck_size(type);
    add_product(true, type, z->s, 64, z->k_rows + j * 64 * d * size, d, z->q_head + i * 64 * d * size, 64 * pair, d, 64, 64, 0);
    add_product(true, type, z->dp, 64, z->v_rows + j * 64 * d * size, d, z->dout_head + i * 64 * d * size, 64 * pair, d, 64, 64, 0);
    const bool masked = i == j || (i + 1) * 64 > rows || (a->window > 0 && (i + 1) * 64 - j * 64 > a->window);
    for (long r = 0; r < 64; r++)
        for (long c = 0; c < 64; c += 16) {
            vf s = scores(load(z->s + r * 64 + c), a->scale, a->soft_cap);
            vf p = exp2_of_negative(s - load(z->log_sum + i * 64 + c));
            if (masked) {
                vi query = lanes() + (int32_t)(i * 64 + c);
                const int32_t key = (int32_t)(j * 64 + r);
                vi seen = (vi)(query >= key) & (vi)(query < (int32_t)rows);
                if (a->window > 0) seen &= (vi)(query - key < (int32_t)a->window);
                p = choose(seen, p, splat(0));
            }
            vf ds = p * (load(z->dp + r * 64 + c) - load(z->total + i * 64 + c)) * splat(a->scale);
            if (a->soft_cap > 0) {
                vf t = s * splat(1 / (LOG2_E * a->soft_cap));
                ds *= splat(1) - t * t;
            }
            if (type == CK_F32) {
                store((float *)z->p + r * 64 + c, p);
                store((float *)z->ds + r * 64 + c, ds);
                continue;
            }
            vh half = to_half(ds);
            store_half((uint16_t *)z->p + r * 64 + c, p);
            *(vh_any *)((uint16_t *)z->ds + r * 64 + c) = half;
            vu_any *pairs = (vu_any *)((uint16_t *)z->ds_pairs + r / 2 * 128 + c * 2); // keys in pairs
            *pairs = r & 1 ? *pairs | (widen(half) << 16) : widen(half);
        }
}

static void backward_head(const ck_span_attention_args *a, const backward_scratch *z, long row, long rows, long head) {
    const int type = WORK(a->q.type);
    const long d = a->head_dim, dp = ck_padded(d), pair = type == CK_BF16 ? 2 : 1, size = ck_size(type), blocks = (rows + 63) / 64;
    memset(z->dq, 0, (size_t)(blocks * 64 * d * 4));
    for (long b = 0; b < blocks; b++) {
        const long r = row + b * 64, n = rows - b * 64 < 64 ? rows - b * 64 : 64;
        pack_along_head(type, &a->q, r, n, head * d, d, z->q_head + b * 64 * d * size);
        pack_along_head(type, &a->dout, r, n, head * d, d, z->dout_head + b * 64 * d * size);
        pack_along_rows(type, &a->q, r, n, head * d, d, z->q_pairs + b * 64 * dp * size);
        pack_along_rows(type, &a->dout, r, n, head * d, d, z->dout_pairs + b * 64 * dp * size);
        for (long i = 0; i < n; i++) {
            vf s = splat(0);
            for (long c = 0; c < d; c += 16)
                s = fma_(row_load(&a->out, r + i, head * d + c, d - c), row_load(&a->dout, r + i, head * d + c, d - c), s);
            z->total[b * 64 + i] = sum_of(s);
            z->log_sum[b * 64 + i] = a->log_sum[head * a->log_sum_stride + r + i] * LOG2_E;
        }
        // Rows after the span's end count for nothing, but zero times what lies there might not be zero.
        for (long i = n; i < 64; i++) z->total[b * 64 + i] = z->log_sum[b * 64 + i] = 0;
    }
    for (long j = 0; j < blocks; j++)
        for (long i = j; i < blocks; i++) {
            if (j < first_block(i * 64, a->window)) continue;
            backward_scores(a, z, i, j, rows);
            add_product(false, type, z->dv + j * 64 * dp, dp, z->p, 64, z->dout_pairs + i * 64 * dp * size, dp * pair, 64, 64, dp, 0);
            add_product(false, type, z->dk + j * 64 * dp, dp, z->ds, 64, z->q_pairs + i * 64 * dp * size, dp * pair, 64, 64, dp, 0);
            add_product(false, type, z->dq + i * 64 * d, 64, z->k_columns + j * 64 * d * size, 64, type == CK_BF16 ? z->ds_pairs : z->ds,
                        64 * pair, 64, d, 64, 0);
        }
    for (long r = 0; r < rows; r++) {
        const float *from = z->dq + r / 64 * 64 * d + r % 64;
        float line[16];
        for (long c = 0; c < d; c += 16) {
            for (long i = 0; i < 16 && c + i < d; i++) line[i] = from[(c + i) * 64];
            row_store(&a->dq, row + r, head * d + c, load(line), d - c);
        }
    }
}

static void span_attention_backward(const void *arguments, int thread, int threads) {
    const ck_span_attention_args *a = arguments;
    const int type = WORK(a->q.type);
    const long d = a->head_dim, dp = ck_padded(d), size = ck_size(type), group = a->query_heads / a->kv_heads;
    long bytes;
    const backward_scratch z =
        lay_out_backward(ck_arena_memory(a->arena, CK_SLOT_THREAD), (a->longest_span + 63) / 64, d, type, &bytes);
    double total = 0, done = 0;
    for (int pass = 0; pass < 2; pass++)
        for (long s = 0; s < a->span_count; s++)
            for (long g = 0; g < a->kv_heads; g++) {
                const long row = a->spans[s], rows = a->spans[s + 1] - row, blocks = (rows + 63) / 64;
                const double cost = (double)blocks * (double)(blocks + 1);
                if (pass == 0) {
                    total += cost;
                    continue;
                }
                const double middle = done + cost / 2;
                done += cost;
                if (middle < total * thread / threads || middle >= total * (thread + 1) / threads) continue;
                memset(z.dk, 0, (size_t)(blocks * 64 * dp * 4));
                memset(z.dv, 0, (size_t)(blocks * 64 * dp * 4));
                for (long b = 0; b < blocks; b++) {
                    const long n = rows - b * 64 < 64 ? rows - b * 64 : 64;
                    char *k = z.k_rows + b * 64 * d * size, *v = z.v_rows + b * 64 * d * size, *kt = z.k_columns + b * 64 * d * size;
                    if (n < 64) {
                        memset(k, 0, (size_t)(64 * d * size));
                        memset(v, 0, (size_t)(64 * d * size));
                        memset(kt, 0, (size_t)(64 * d * size));
                    }
                    for (long r = 0; r < n; r++) {
                        const void *from_k = offset(a->k.data, a->k.type, (row + b * 64 + r) * a->k.stride + g * d);
                        const void *from_v = offset(a->v.data, a->v.type, (row + b * 64 + r) * a->v.stride + g * d);
                        if (type == CK_BF16) {
                            memcpy(k + r * d * 2, from_k, (size_t)d * 2);
                            memcpy(v + r * d * 2, from_v, (size_t)d * 2);
                            for (long c = 0; c < d; c++) ((uint16_t *)kt)[c * 64 + r] = ((uint16_t *)k)[r * d + c];
                        } else {
                            to_floats((float *)k + r * d, from_k, a->k.type, d);
                            to_floats((float *)v + r * d, from_v, a->v.type, d);
                            for (long c = 0; c < d; c++) ((float *)kt)[c * 64 + r] = ((float *)k)[r * d + c];
                        }
                    }
                }
                for (long h = g * group; h < (g + 1) * group; h++) backward_head(a, &z, row, rows, h);
                for (long r = 0; r < rows; r++)
                    for (long c = 0; c < d; c += 16) {
                        row_store(&a->dk, row + r, g * d + c, load(z.dk + r * dp + c), d - c);
                        row_store(&a->dv, row + r, g * d + c, load(z.dv + r * dp + c), d - c);
                    }
            }
}
