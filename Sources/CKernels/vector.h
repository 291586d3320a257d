// Sixteen floats at a time, in the instructions of the variant that includes this file (CK_LEVEL: 3 AVX-512 with BF16,
// 2 AVX-512, 1 AVX2 with FMA, 0 any machine). Wider than the machine's registers they fall apart into two or four.
#include "layout.h"
#include <math.h>

// The product kernel has a name of its own in each variant, so that a test finds its machine code.
#define CK_JOIN_(a, b) a##_##b
#define CK_JOIN(a, b) CK_JOIN_(a, b)
#define tile_of CK_JOIN(tile_of, CK_SUFFIX)

#define INLINE static inline __attribute__((always_inline))
// On every loop over an accumulator array: without it clang at -O2 leaves the array in memory, at less than half speed.
#define UNROLL _Pragma("clang loop unroll(full)")

#if CK_LEVEL >= 2
enum { TILE_ROWS = 12, TILE_VECTORS = 2 };
#elif CK_LEVEL == 1 || __aarch64__
enum { TILE_ROWS = 6, TILE_VECTORS = 1 };
#else
enum { TILE_ROWS = 3, TILE_VECTORS = 1 };
#endif

// What the left operand of a product is made of. Only BF16 instructions take pairs of bf16; elsewhere the left side is
// converted to float once, the panel (bf16) while it is read, and the sums are those of a float32 product.
#if CK_LEVEL == 3
#define WORK(type) (type)
#else
#define WORK(type) CK_F32
#endif

typedef float vf __attribute__((vector_size(64)));
typedef float vf_any __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));
typedef uint32_t vu_any __attribute__((vector_size(64), aligned(2), may_alias));
typedef uint16_t vh __attribute__((vector_size(32)));
typedef uint16_t vh_any __attribute__((vector_size(32), aligned(2), may_alias));

INLINE vf splat(float x) { return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE vu splat_bits(uint32_t x) { return (vu){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE vf load(const float *p) { return *(const vf_any *)p; }
INLINE void store(float *p, vf v) { *(vf_any *)p = v; }
INLINE vh load_half(const uint16_t *p) { return *(const vh_any *)p; }
INLINE vu widen(vh h) { return __builtin_convertvector(h, vu); }
INLINE vf from_half(vh h) { return (vf)(widen(h) << 16); }
INLINE vi lanes(void) { return (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
// Lane by lane: mask is -1 or 0.
INLINE vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

INLINE vf fma_(vf a, vf b, vf c) {
#if CK_LEVEL >= 1 || __aarch64__
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE vh to_half(vf v) {
#if CK_LEVEL == 3
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#else
    vu u = (vu)v;
    vu rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    vi nan = (vi)(v != v);
    return __builtin_convertvector((nan & (vi)((u >> 16) | 0x40)) | (~nan & (vi)rounded), vh);
#endif
}
INLINE void store_half(uint16_t *p, vf v) { *(vh_any *)p = to_half(v); }

// NaN stays NaN in the first two; `larger` gives b when a is NaN.
#if CK_LEVEL >= 2 // where one is NaN the instruction gives the second
INLINE vf at_least(vf x, float floor) { return (vf)_mm512_max_ps((__m512)splat(floor), (__m512)x); }
INLINE vf at_most(vf x, float ceiling) { return (vf)_mm512_min_ps((__m512)splat(ceiling), (__m512)x); }
INLINE vf larger(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#else
INLINE vf at_least(vf x, float floor) { return choose((vi)(x < splat(floor)), splat(floor), x); }
INLINE vf at_most(vf x, float ceiling) { return choose((vi)(x > splat(ceiling)), splat(ceiling), x); }
INLINE vf larger(vf a, vf b) { return choose((vi)(a > b), a, b); }
#endif

INLINE float sum_of(vf v) {
    typedef float v8 __attribute__((vector_size(32)));
    typedef float v4 __attribute__((vector_size(16)));
    v8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    v4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}
INLINE float max_of(vf v) {
    vf a = larger(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    a = larger(a, __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    a = larger(a, __builtin_shufflevector(a, a, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    return a[0] > a[1] ? a[0] : a[1];
}

// First `count` lanes of a row (0...16), the others zero.
INLINE vf load_some(const float *p, long count) {
    if (count >= 16) return load(p);
    float t[16] = {0};
    for (long i = 0; i < count; i++) t[i] = p[i];
    return load(t);
}
INLINE void store_some(float *p, vf v, long count) {
    if (count >= 16) {
        store(p, v);
        return;
    }
    float t[16];
    store(t, v);
    for (long i = 0; i < count; i++) p[i] = t[i];
}
INLINE vf load_half_some(const uint16_t *p, long count) {
    if (count >= 16) return from_half(load_half(p));
    uint16_t t[16] = {0};
    for (long i = 0; i < count; i++) t[i] = p[i];
    return from_half(load_half(t));
}
INLINE void store_half_some(uint16_t *p, vf v, long count) {
    if (count >= 16) {
        store_half(p, v);
        return;
    }
    uint16_t t[16];
    store_half(t, v);
    for (long i = 0; i < count; i++) p[i] = t[i];
}
// Either element type; `at` in elements.
INLINE vf load_as(const void *data, int type, long at, long count) {
    return type == CK_BF16 ? load_half_some((const uint16_t *)data + at, count) : load_some((const float *)data + at, count);
}
INLINE void store_as(void *data, int type, long at, vf v, long count) {
    if (type == CK_BF16) store_half_some((uint16_t *)data + at, v, count);
    else store_some((float *)data + at, v, count);
}

#define LOG2_E 1.4426950408889634f

// 2^x for x below 127, about 1e-7 relative; below -126 it stays at 2^-126; NaN stays NaN.
INLINE vf exp2_of_negative(vf x) {
    x = at_least(x, -126.f);
    vf shifted = x + splat(12582912.f); // 1.5 · 2^23: rounds to the nearest whole number
    vf whole = shifted - splat(12582912.f), f = x - whole;
    vf p = splat(1.535336188e-4f);
    p = fma_(p, f, splat(1.339887440e-3f));
    p = fma_(p, f, splat(9.618437357e-3f));
    p = fma_(p, f, splat(5.550332549e-2f));
    p = fma_(p, f, splat(2.402264791e-1f));
    p = fma_(p, f, splat(6.931472028e-1f));
    p = fma_(p, f, splat(1.f));
    vu power = ((vu)shifted + 127) << 23; // low bits of `shifted` hold the whole number
    return p * (vf)power;
}
// The same for any x; above 127 it stays at 2^127.
INLINE vf exp2_(vf x) { return exp2_of_negative(at_most(x, 127.f)); }
INLINE vf exp_(vf x) { return exp2_(x * splat(LOG2_E)); }
INLINE vf sigmoid(vf x) { return splat(1.f) / (splat(1.f) + exp2_(x * splat(-LOG2_E))); }
INLINE vf tanh_(vf x) { return splat(1.f) - splat(2.f) / (splat(1.f) + exp2_(x * splat(2 * LOG2_E))); }

// erf by Abramowitz & Stegun 7.1.26 has 1.5e-7 absolute error.
INLINE vf erf_(vf x) {
    vf sign = (vf)((vi)x & (vi)splat(-0.f)), a = (vf)((vi)x & ~(vi)splat(-0.f));
    vf t = splat(1.f) / fma_(splat(0.3275911f), a, splat(1.f)), p = splat(1.061405429f);
    p = fma_(p, t, splat(-1.453152027f));
    p = fma_(p, t, splat(1.421413741f));
    p = fma_(p, t, splat(-0.284496736f));
    p = fma_(p, t, splat(0.254829592f));
    vf y = splat(1.f) - p * t * exp_(-(a * a));
    return (vf)((vi)y | (vi)sign);
}

INLINE vf act(int kind, vf g) {
    if (kind == CK_ACT_SILU) return g * sigmoid(g);
    if (kind == CK_ACT_GELU_TANH)
        return splat(0.5f) * g * (splat(1.f) + tanh_(splat(0.7978845608f) * fma_(splat(0.044715f) * g, g * g, g)));
    if (kind == CK_ACT_GELU_ERF) return splat(0.5f) * g * (splat(1.f) + erf_(g * splat(0.7071067812f)));
    return g;
}
INLINE vf act_slope(int kind, vf g) {
    vf one = splat(1.f), half = splat(0.5f);
    if (kind == CK_ACT_SILU) {
        vf s = sigmoid(g);
        return s * fma_(g, one - s, one);
    }
    if (kind == CK_ACT_GELU_TANH) {
        vf t = tanh_(splat(0.7978845608f) * fma_(splat(0.044715f) * g, g * g, g));
        return half * (one + t) + half * g * (one - t * t) * splat(0.7978845608f) * fma_(splat(0.134145f), g * g, one);
    }
    if (kind == CK_ACT_GELU_ERF)
        return half * (one + erf_(g * splat(0.7071067812f))) + g * exp_(g * g * splat(-0.5f)) * splat(0.3989422804f);
    return one;
}

// ---------------------------------------------------------------- the product kernel

// acc[rows][vectors] += a (rows of `depth`, `lda` elements apart, type WORK) * panel. Each step reads one k (bf16: a pair) of the
// panel, `step` elements further than the last. Every accumulator is one chain over k: its bits do not depend on
// `rows` or `vectors`. `ahead` points to what is fetched into L2 meanwhile, `lines` (1, 2, 4) lines a step.
#if CK_LEVEL == 3
INLINE void mac_pair(vf acc[][4], const vu *b, uint32_t (*bits)(const uint16_t *), const uint16_t *a, long lda, const int rows,
                     const int vectors) {
    UNROLL for (int i = 0; i < rows; i++) {
        __m512bh pair = (__m512bh)_mm512_set1_epi32((int)bits(a + i * lda));
        UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = (vf)_mm512_dpbf16_ps((__m512)acc[i][j], pair, (__m512bh)b[j]);
    }
}
INLINE uint32_t both(const uint16_t *p) {
    uint32_t u;
    memcpy(&u, p, 4);
    return u;
}
INLINE uint32_t only(const uint16_t *p) { return *p; }

INLINE void mac_bf16(vf acc[][4], const void *left, long lda, const uint16_t *panel, long step, long depth, const int rows,
                     const int vectors, const char *ahead, long ahead_step, const int lines) {
    const uint16_t *a = left;
    for (long k = 0; k + 1 < depth; k += 2) {
        vu b[4];
        UNROLL for (int j = 0; j < vectors; j++) b[j] = *(const vu_any *)(panel + j * 32);
        panel += step;
        UNROLL for (int j = 0; j < lines; j++) __builtin_prefetch(ahead + j * 64, 0, 2);
        ahead += ahead_step;
        mac_pair(acc, b, both, a + k, lda, rows, vectors);
    }
    if (depth & 1) { // the last has no partner: what lies there is somebody else's and could be NaN
        vu b[4];
        UNROLL for (int j = 0; j < vectors; j++) b[j] = *(const vu_any *)(panel + j * 32);
        mac_pair(acc, b, only, a + depth - 1, lda, rows, vectors);
    }
}
#else
INLINE void mac_line(vf acc[][4], const vf *b, const float *a, long lda, const int rows, const int vectors) {
    UNROLL for (int i = 0; i < rows; i++) {
        vf x = splat(a[i * lda]);
        UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = fma_(x, b[j], acc[i][j]);
    }
}

INLINE void mac_bf16(vf acc[][4], const void *left, long lda, const uint16_t *panel, long step, long depth, const int rows,
                     const int vectors, const char *ahead, long ahead_step, const int lines) {
    const float *a = left;
    for (long k = 0; k < depth; k += 2) {
        vf b[4];
        UNROLL for (int j = 0; j < vectors; j++) b[j] = (vf)(*(const vu_any *)(panel + j * 32) << 16);
        UNROLL for (int j = 0; j < lines; j++) __builtin_prefetch(ahead + j * 64, 0, 2);
        ahead += ahead_step;
        mac_line(acc, b, a + k, lda, rows, vectors);
        if (k + 1 < depth) {
            UNROLL for (int j = 0; j < vectors; j++) b[j] = (vf)(*(const vu_any *)(panel + j * 32) & 0xffff0000u);
            mac_line(acc, b, a + k + 1, lda, rows, vectors);
        }
        panel += step;
    }
}
#endif

INLINE void mac_f32(vf acc[][4], const void *left, long lda, const float *panel, long step, long depth, const int rows,
                    const int vectors, const char *ahead, long ahead_step, const int lines) {
    const float *a = left;
    for (long k = 0; k < depth; k++) {
        vf b[4];
        UNROLL for (int j = 0; j < vectors; j++) b[j] = load(panel + j * 16);
        panel += step;
        UNROLL for (int j = 0; j < lines; j++) __builtin_prefetch(ahead + j * 64, 0, 2);
        ahead += ahead_step;
        UNROLL for (int i = 0; i < rows; i++) {
            vf x = splat(a[i * lda + k]);
            UNROLL for (int j = 0; j < vectors; j++) acc[i][j] = fma_(x, b[j], acc[i][j]);
        }
    }
}

// What lies `ahead` bytes behind each line of the panel is fetched into L2 with it.
INLINE void mac(const int type, vf acc[][4], const void *a, long lda, const void *panel, long step, long depth, const int rows,
                const int vectors, long ahead) {
    const char *behind = (const char *)panel + ahead;
    if (type == CK_BF16) mac_bf16(acc, a, lda, panel, step, depth, rows, vectors, behind, step * 2, vectors);
    else mac_f32(acc, a, lda, panel, step, depth, rows, vectors, behind, step * 4, vectors);
}

INLINE const void *offset(const void *data, int type, long elements) { return (const char *)data + elements * ck_size(type); }

// Calls CALL with the constant R for a number of rows from 1 to TILE_ROWS.
#define CASE_ROWS(n, CALL) \
    case n: { \
        enum { R = n <= TILE_ROWS ? n : 1 }; \
        CALL; \
    } break;
#define FOR_ROWS(rows, CALL) \
    switch (rows) { \
        CASE_ROWS(1, CALL) CASE_ROWS(2, CALL) CASE_ROWS(3, CALL) CASE_ROWS(4, CALL) CASE_ROWS(5, CALL) CASE_ROWS(6, CALL) \
        CASE_ROWS(7, CALL) CASE_ROWS(8, CALL) CASE_ROWS(9, CALL) CASE_ROWS(10, CALL) CASE_ROWS(11, CALL) CASE_ROWS(12, CALL) \
    }

// n numbers of either type as floats.
INLINE void to_floats(float *to, const void *from, int type, long n) {
    long i = 0;
    for (; i + 16 <= n; i += 16) store(to + i, load_as(from, type, i, 16));
    if (i < n) store_some(to + i, load_as(from, type, i, n - i), n - i);
}
