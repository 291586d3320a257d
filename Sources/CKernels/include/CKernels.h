// C kernels of the engine. Swift code reaches them only through the module `Kernels`, which checks every shape.
//
// Conventions: a matrix is row-major with a row stride in elements; M rows (tokens), K inputs, N outputs.
// A task is a function (arguments, thread, threads): it does its share of the work and never waits for another.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
#error "C only"
#endif

enum { CK_F32 = 0, CK_BF16 = 1 };
enum { CK_ACT_NONE = 0, CK_ACT_SILU = 1, CK_ACT_GELU_TANH = 2, CK_ACT_GELU_ERF = 3 };
enum { CK_NORM_RMS = 0, CK_NORM_LAYER = 1 };
enum { CK_PANEL = 32, CK_KV_BLOCK = 64 };

// ---------------------------------------------------------------- memory and threads

// Zeroed memory, aligned to 64 bytes or better; NULL when there is none.
void *ck_alloc(long bytes);
void ck_free(void *memory, long bytes);

typedef struct ck_pool ck_pool;
typedef void (*ck_task)(const void *arguments, int thread, int threads);

// Persistent threads; the caller of ck_pool_run is thread 0. `cpus` (may be NULL) holds one CPU number a thread.
ck_pool *ck_pool_create(int threads, const int *cpus);
void ck_pool_destroy(ck_pool *pool);
int ck_pool_threads(const ck_pool *pool);
// Runs the task on all threads and returns when all are done. Callers on several threads take turns in the order they
// came. Called from inside a task it runs the whole task inline.
void ck_pool_run(ck_pool *pool, ck_task task, const void *arguments);
// Whether the caller is inside a task, and which thread of its pool it is then (else 0).
bool ck_inside_run(void);
int ck_thread_index(void);

// Scratch of one caller. A slot has memory apart for each thread, kept until the arena goes.
enum { CK_SLOT_SHARED, CK_SLOT_SMALL, CK_SLOT_THREAD, CK_ARENA_SLOTS };
typedef struct ck_arena ck_arena;
ck_arena *ck_arena_create(int threads);
void ck_arena_destroy(ck_arena *arena);
// Makes a slot large enough for every thread (inside a task: for the calling one); false when there is no memory.
bool ck_arena_reserve(ck_arena *arena, int slot, long bytes);
// The same for the calling thread alone, and where it is; NULL when there is no memory.
void *ck_arena_own(ck_arena *arena, int slot, long bytes);
// What the calling thread has in a slot.
void *ck_arena_memory(const ck_arena *arena, int slot);

// ---------------------------------------------------------------- operands

typedef struct {
    void *data;
    long stride; // elements from row to row
    int type;    // CK_F32 or CK_BF16
} ck_matrix;

// W[rows N][columns K] in panels of 32 rows: bf16 [panel][K/2][32][2], float32 [panel][K][32].
// The last panel is 16 wide when N mod 32 is 1...16. Tails are zero. With `paired`, N = 2F and panels alternate:
// rows 0...31 of the first half (gate), rows 0...31 of the second (up), and so on; F is then a multiple of 32.
typedef struct {
    const void *data;
    long rows, columns;
    int type;
    int paired;
} ck_packed;

// Rows [row0, row1) of y get u[row - row0] * up^T added in columns [column0, column0 + up.rows), inside the float32 sum.
typedef struct {
    long row0, row1, column0;
    ck_matrix u; // [row1 - row0][up.columns], type of x
    ck_packed up;
} ck_term;

typedef struct {
    ck_matrix x; // [M][K]
    ck_packed w;
    long rows;
    float alpha;       // y = alpha * (x W^T + terms) + bias
    const float *bias; // [N] or NULL
    ck_matrix y;       // [M][N]; unused (data NULL) when only the gated output is wanted
    int accumulate;    // y += (y float32 only)
    const ck_term *terms;
    long term_count;
    int gate;       // CK_ACT_*: with a paired W: gated[M][F] = act(gate) * up, alpha is 1
    ck_matrix gated;
    const ck_arena *arena; // CK_SLOT_THREAD: ck_linear_scratch_bytes
} ck_linear_args;
long ck_linear_scratch_bytes(long columns);

// W^T of panels [panel0, panel1) along K, as a packed matrix with K rows and N columns; `out` starts at panel0.
typedef struct {
    ck_packed w;
    long panel0, panel1;
    void *out;
} ck_transpose_args;

// out (packed) = rows of row-major `source`; the second half of a paired matrix comes from `second`, if that is given.
typedef struct {
    ck_matrix source, second; // [rows][columns], or [rows / 2][columns] twice; either type
    void *out;
    long rows, columns;
    int type, paired;
} ck_pack_args;

typedef struct {
    ck_packed w;
    ck_matrix out; // [rows][columns]
} ck_unpack_args;

typedef struct {
    const int32_t *ids;
    long rows, columns;
    ck_matrix table;  // [V][columns] or data NULL
    ck_packed packed; // or this one
    float scale;
    ck_matrix out; // [rows][columns]
} ck_gather_args;

// Each row is `groups` groups of `columns` values, normalised one by one with the same weight[columns].
typedef struct {
    int kind;
    ck_matrix x;
    long rows, groups, columns;
    const float *weight, *bias; // weight may be NULL (ones); bias only for CK_NORM_LAYER, may be NULL
    float epsilon;
    ck_matrix y;
    float *inverse, *mean; // [rows][groups], row stride `stat_stride`; may be NULL (mean only for CK_NORM_LAYER)
    long stat_stride;
} ck_norm_args;

typedef struct {
    int kind;
    ck_matrix x, dy;
    long rows, groups, columns;
    const float *weight, *inverse, *mean;
    long stat_stride;
    ck_matrix dx;
    int accumulate;         // dx += (float32 only)
    float *dweight, *dbias; // [columns], += ; may be NULL
} ck_norm_backward_args;

// y = rotation of x by the angle of each row's position; heads of head_dim columns, the first rotary_dim of each turn.
typedef struct {
    ck_matrix x, y;
    long rows, heads, head_dim, rotary_dim;
    const int32_t *positions;
    const float *cosine, *sine; // [positions][rotary_dim / 2]
    long table_stride;
    int inverse;
} ck_rope_args;

typedef struct {
    int kind; // CK_ACT_*
    long rows, columns;
    ck_matrix gate, up; // up.data NULL: y = act(gate)
    ck_matrix y;
} ck_activation_args;

typedef struct {
    int kind;
    long rows, columns;
    ck_matrix gate, up, dy;
    ck_matrix dgate, dup; // may be the same memory as gate and up
    ck_matrix y;          // act(gate) * up once more, or data NULL
} ck_activation_backward_args;

// y = alpha * x + beta * y, with conversion. beta 0 never reads y.
typedef struct {
    ck_matrix x, y;
    long rows, columns;
    float alpha, beta;
} ck_combine_args;

// x = cap * tanh(x / cap), in place
typedef struct {
    ck_matrix x;
    long rows, columns;
    float cap;
} ck_soft_cap_args;

typedef struct {
    ck_matrix x; // [rows][columns], float32: softmax in place, or untouched when only the log-sum-exp is wanted
    long rows, columns;
    float *log_sum; // [rows] or NULL
    int softmax;
} ck_softmax_args;

// logits [rows][columns] float32 -> loss[row] = log-sum-exp - logits[label]; with `gradient`, logits are overwritten
// by scale * weight[row] * (softmax - one hot). Rows with a negative label have loss 0 and gradient 0.
typedef struct {
    ck_matrix logits;
    long rows, columns;
    const int32_t *labels;
    const float *weights; // [rows] or NULL
    float *loss;          // [rows], not weighted
    int gradient;
    float scale;
} ck_logit_loss_args;

// The same without stored logits: logits = soft cap of (logit_scale * hidden W^T).
// dhidden[row] = scale * weight[row] * d loss[row] / d hidden[row]; data NULL: losses only.
typedef struct {
    ck_matrix hidden; // [rows][K], type of head
    ck_packed head;
    long rows;
    const int32_t *labels;
    const float *weights;
    float logit_scale, soft_cap; // soft_cap 0: none
    float *loss;
    ck_matrix dhidden; // float32
    float scale;
    const ck_arena *arena; // CK_SLOT_THREAD: ck_head_loss_scratch_bytes
} ck_head_loss_args;
long ck_head_loss_scratch_bytes(long columns);

// ---------------------------------------------------------------- attention

// Pages of 64 positions for all layers and KV heads; a block is one (page, layer, head):
// bf16: K [d/2][64][2], V [32][dp][2]; float32: K [d][64], V [64][dp]; dp = head_dim rounded up to 16.
typedef struct {
    void *data;
    long layers, heads, head_dim, pages;
    int type;
} ck_cache;
long ck_cache_block_bytes(long head_dim, int type);

typedef struct {
    ck_cache cache;
    long layer, rows;
    const int32_t *positions, *sequences; // [rows]
    const int32_t *pages, *page_offsets;  // pages of sequence s: pages[page_offsets[s]...]
    ck_matrix k, v;                       // [rows][heads * head_dim], either type
} ck_append_args;

typedef struct {
    ck_cache cache;
    long layer, rows, query_heads;
    const int32_t *positions, *sequences;
    const int32_t *pages, *page_offsets;
    ck_matrix q, out; // [rows][query_heads * head_dim], type of the cache
    float scale, soft_cap;
    long window; // 0: none; else a position sees itself and window - 1 before it
} ck_attend_args;

// Causal attention inside spans of rows (documents). Positions count from the span's first row.
typedef struct {
    ck_matrix q, k, v, out; // one type
    long rows, query_heads, kv_heads, head_dim;
    const int32_t *spans; // span s: rows spans[s] ..< spans[s + 1]
    long longest_span;
    long span_count;
    float scale, soft_cap;
    long window;
    float *log_sum; // [query_heads][log_sum_stride]; natural logarithm
    long log_sum_stride;
    // backward only
    ck_matrix dout, dq, dk, dv; // dq, dk, dv either type
    const ck_arena *arena; // CK_SLOT_THREAD: ck_span_attention_scratch_bytes
} ck_span_attention_args;
long ck_span_attention_scratch_bytes(const ck_span_attention_args *arguments, int backward);

// ---------------------------------------------------------------- gradients and optimizer

// g[p][q] (+)= alpha * sum over rows of x[row][p] * y[row][q]
typedef struct {
    ck_matrix x, y, g; // g float32
    long rows, p, q;
    float alpha;
    int accumulate;
    float *scratch; // ck_contract_scratch_count(p, q) floats
} ck_contract_args;
long ck_contract_scratch_count(long p, long q);

typedef struct {
    float *parameter, *moment1, *moment2;
    const float *gradient;
    long count;
    long step; // from 1
    float gradient_scale;
    double learning_rate, beta1, beta2, epsilon, weight_decay;
} ck_adamw_args;

typedef struct {
    const float *x;
    long count;
    double *partial; // one a block of CK_SUM_BLOCK values
} ck_square_sum_args;
enum { CK_SUM_BLOCK = 4096 };

typedef struct {
    ck_matrix x;
    long rows, columns;
    int32_t *bad; // [threads]: number of rows with a value that is not finite
} ck_finite_args;

// ---------------------------------------------------------------- what the machine can do

// Without memory: `steps` sums of products in as many registers as a tile has, of floats or (with instructions for
// them) of pairs of bf16. With memory: reads it, each thread its share.
typedef struct {
    int type;
    long steps;
    const void *memory;
    long bytes;
    double *results; // [threads][CK_PEAK_STRIDE]: floating-point operations or bytes, then a number that nobody needs
} ck_peak_args;
enum { CK_PEAK_STRIDE = 16 };

// ---------------------------------------------------------------- variants

typedef struct {
    const char *name;
    ck_task linear, transpose, pack, unpack, gather, norm, norm_backward, norm_weight_backward, rope, activation,
        activation_backward, combine, soft_cap, softmax, logit_loss, head_loss, append, attend, span_attention,
        span_attention_backward, contract, adamw, square_sum, finite, peak;
} ck_kernels;

// The variants this machine can run, best first, ended by NULL. `reference` (plain loops) is always the last.
const ck_kernels *const *ck_variants(void);

