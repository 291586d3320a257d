// Element access and address computation shared by all variants.
#pragma once
#include "CKernels.h"
#include <string.h>

static inline float ck_from_bf16(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// Round to nearest even; NaN stays NaN.
static inline uint16_t ck_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static inline float ck_load(const void *data, int type, long i) {
    return type == CK_BF16 ? ck_from_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}
static inline void ck_store(void *data, int type, long i, float v) {
    if (type == CK_BF16) ((uint16_t *)data)[i] = ck_to_bf16(v);
    else ((float *)data)[i] = v;
}
static inline float ck_at(const ck_matrix *m, long row, long column) { return ck_load(m->data, m->type, row * m->stride + column); }
static inline void ck_put(const ck_matrix *m, long row, long column, float v) {
    ck_store(m->data, m->type, row * m->stride + column, v);
}
static inline long ck_size(int type) { return type == CK_BF16 ? 2 : 4; }

// Contraction length as stored: bf16 comes in pairs.
static inline long ck_depth(long columns, int type) { return type == CK_BF16 ? (columns + 1) / 2 * 2 : columns; }
static inline long ck_panels(long rows) { return (rows + 31) / 32; }
// Width of a panel in rows of W (outputs): 32, or 16 for a narrow tail.
static inline long ck_panel_width(long rows, long panel) { return rows - panel * 32 > 16 ? 32 : 16; }
// First logical row of W in a panel.
static inline long ck_panel_row(const ck_packed *w, long panel) {
    if (!w->paired) return panel * 32;
    return (panel & 1 ? w->rows / 2 : 0) + panel / 2 * 32;
}
// Index of W[row][column] among the stored elements.
static inline long ck_packed_index(const ck_packed *w, long row, long column) {
    long half = w->rows / 2, panel, lane;
    if (w->paired) {
        panel = row < half ? row / 32 * 2 : (row - half) / 32 * 2 + 1;
        lane = row % half % 32;
    } else {
        panel = row / 32;
        lane = row % 32;
    }
    long width = ck_panel_width(w->rows, panel), base = panel * 32 * ck_depth(w->columns, w->type);
    if (w->type == CK_BF16) return base + column / 2 * width * 2 + lane * 2 + (column & 1);
    return base + column * width + lane;
}

static inline long ck_padded(long head_dim) { return (head_dim + 15) / 16 * 16; }
static inline char *ck_block(const ck_cache *c, long page, long layer, long head) {
    return (char *)c->data + ((page * c->layers + layer) * c->heads + head) * ck_cache_block_bytes(c->head_dim, c->type);
}
// Element of K or V at a position (0...63) inside a block.
static inline long ck_k_index(int type, long position, long d) {
    return type == CK_BF16 ? d / 2 * 128 + position * 2 + (d & 1) : d * 64 + position;
}
static inline long ck_v_index(int type, long head_dim, long position, long d) {
    long dp = ck_padded(head_dim), v = 64 * head_dim;
    return v + (type == CK_BF16 ? position / 2 * dp * 2 + d * 2 + (position & 1) : position * dp + d);
}

// Share of `count` items for a thread.
enum { BLOCK_ROWS = 132, LOSS_ROWS = 252, LOSS_COLUMNS = 384 };

static inline long ck_share(long count, int thread, int threads) { return count * thread / threads; }

// Where one thread keeps one span and KV head during the backward pass. Elements of the operands' type, then floats.
typedef struct {
    char *k_rows, *v_rows, *k_columns;                  // [block][64][d], [block][64][d], [block][d][64]
    char *q_head, *dout_head, *q_pairs, *dout_pairs;    // [block] of pack_along_head, pack_along_rows
    char *p, *ds, *ds_pairs;                            // [64][64]
    float *dk, *dv, *dq, *total, *log_sum, *s, *dp;     // [block][64][dp] twice, [block][d][64], [rows], [rows], [64][64] twice
} backward_scratch;

static inline backward_scratch lay_out_backward(char *memory, long blocks, long d, int type, long *bytes) {
    const long dp = ck_padded(d), size = ck_size(type);
    long at = 0;
    backward_scratch z;
#define TAKE(field, count) \
    z.field = (void *)((uintptr_t)memory + (uintptr_t)at); \
    at += ((count) + 63) / 64 * 64
    TAKE(k_rows, blocks * 64 * d * size);
    TAKE(v_rows, blocks * 64 * d * size);
    TAKE(k_columns, blocks * 64 * d * size);
    TAKE(q_head, blocks * 64 * d * size);
    TAKE(dout_head, blocks * 64 * d * size);
    TAKE(q_pairs, blocks * 64 * dp * size);
    TAKE(dout_pairs, blocks * 64 * dp * size);
    TAKE(p, 4096 * size);
    TAKE(ds, 4096 * size);
    TAKE(ds_pairs, 4096 * size);
    TAKE(dk, blocks * 64 * dp * 4);
    TAKE(dv, blocks * 64 * dp * 4);
    TAKE(dq, blocks * 64 * d * 4);
    TAKE(total, blocks * 64 * 4);
    TAKE(log_sum, blocks * 64 * 4);
    TAKE(s, 4096 * 4);
    TAKE(dp, 4096 * 4);
#undef TAKE
    *bytes = at;
    return z;
}
