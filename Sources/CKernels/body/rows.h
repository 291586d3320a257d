// Row by row: packing, embedding, norms, rotary positions, activations, sums.

#define EACH_ROW(count) \
    for (long row = ck_share(count, thread, threads), row_end = ck_share(count, thread + 1, threads); row < row_end; row++)

INLINE vf row_load(const ck_matrix *m, long row, long column, long left) {
    return load_as(m->data, m->type, row * m->stride + column, left);
}
INLINE void row_store(const ck_matrix *m, long row, long column, vf v, long left) {
    store_as(m->data, m->type, row * m->stride + column, v, left);
}

// Four sums over sixteen lanes each, then across them: the same for every row, whatever the batch.
INLINE void norm_row(const ck_norm_args *a, const int x_type, const int y_type, long row, long c0, float *inverse_out,
                     float *mean_out) {
    const long n = a->columns, at = row * a->x.stride + c0;
    const float each = 1.f / (float)n;
    vf s[4];
    float mean = 0;
    if (a->kind == CK_NORM_LAYER) {
        UNROLL for (int j = 0; j < 4; j++) s[j] = splat(0);
        for (long i = 0; i < n; i += 64)
            UNROLL for (int j = 0; j < 4; j++)
                if (i + j * 16 < n) s[j] += load_as(a->x.data, x_type, at + i + j * 16, n - i - j * 16);
        mean = sum_of((s[0] + s[1]) + (s[2] + s[3])) * each;
    }
    UNROLL for (int j = 0; j < 4; j++) s[j] = splat(0);
    for (long i = 0; i < n; i += 64)
        UNROLL for (int j = 0; j < 4; j++) {
            const long left = n - i - j * 16;
            if (left <= 0) continue;
            vf v = load_as(a->x.data, x_type, at + i + j * 16, left) - splat(mean);
            if (left < 16) v = choose((vi)(lanes() < (int32_t)left), v, splat(0));
            s[j] = fma_(v, v, s[j]);
        }
    const float inverse = 1.f / sqrtf(sum_of((s[0] + s[1]) + (s[2] + s[3])) * each + a->epsilon);
    for (long i = 0; i < n; i += 16) {
        const long left = n - i;
        vf v = (load_as(a->x.data, x_type, at + i, left) - splat(mean)) * splat(inverse);
        if (a->weight) v *= load_some(a->weight + i, left);
        if (a->bias) v += load_some(a->bias + i, left);
        store_as(a->y.data, y_type, row * a->y.stride + c0 + i, v, left);
    }
    *inverse_out = inverse;
    *mean_out = mean;
}

static void norm(const void *arguments, int thread, int threads) {
    const ck_norm_args *a = arguments;
    EACH_ROW(a->rows)
    for (long g = 0; g < a->groups; g++) {
        const long c0 = g * a->columns;
        float inverse, mean;
        if (a->x.type == CK_F32 && a->y.type == CK_BF16) norm_row(a, CK_F32, CK_BF16, row, c0, &inverse, &mean);
        else if (a->x.type == CK_F32) norm_row(a, CK_F32, CK_F32, row, c0, &inverse, &mean);
        else norm_row(a, a->x.type, a->y.type, row, c0, &inverse, &mean);
        if (a->inverse) a->inverse[row * a->stat_stride + g] = inverse;
        if (a->mean) a->mean[row * a->stat_stride + g] = mean;
    }
}

static void norm_backward(const void *arguments, int thread, int threads) {
    const ck_norm_backward_args *a = arguments;
    const long n = a->columns;
    const float each = 1.f / (float)n;
    EACH_ROW(a->rows)
    for (long g = 0; g < a->groups; g++) {
        const long c0 = g * n;
        const float inverse = a->inverse[row * a->stat_stride + g];
        const float mean = a->kind == CK_NORM_LAYER ? a->mean[row * a->stat_stride + g] : 0;
        vf s = splat(0), s1 = splat(0);
        for (long i = 0; i < n; i += 16) {
            vf d = row_load(&a->dy, row, c0 + i, n - i);
            if (a->weight) d *= load_some(a->weight + i, n - i);
            s = fma_(d, (row_load(&a->x, row, c0 + i, n - i) - splat(mean)) * splat(inverse), s);
            s1 += d;
        }
        const vf slope = splat(sum_of(s) * each), shift = splat(a->kind == CK_NORM_LAYER ? sum_of(s1) * each : 0);
        for (long i = 0; i < n; i += 16) {
            vf d = row_load(&a->dy, row, c0 + i, n - i);
            if (a->weight) d *= load_some(a->weight + i, n - i);
            vf h = (row_load(&a->x, row, c0 + i, n - i) - splat(mean)) * splat(inverse);
            vf v = splat(inverse) * (d - shift - h * slope);
            if (a->accumulate) v += row_load(&a->dx, row, c0 + i, n - i);
            row_store(&a->dx, row, c0 + i, v, n - i);
        }
    }
}

static void norm_weight_backward(const void *arguments, int thread, int threads) {
    const ck_norm_backward_args *a = arguments;
    const long n = a->columns, parts = (n + 15) / 16;
    for (long i = ck_share(parts, thread, threads) * 16; i < ck_share(parts, thread + 1, threads) * 16; i += 16) {
        vf w = splat(0), b = splat(0);
        for (long row = 0; row < a->rows; row++)
            for (long g = 0; g < a->groups; g++) {
                float mean = a->kind == CK_NORM_LAYER ? a->mean[row * a->stat_stride + g] : 0;
                vf d = row_load(&a->dy, row, g * n + i, n - i);
                vf h = (row_load(&a->x, row, g * n + i, n - i) - splat(mean)) * splat(a->inverse[row * a->stat_stride + g]);
                w = fma_(d, h, w);
                b += d;
            }
        if (a->dweight) store_some(a->dweight + i, load_some(a->dweight + i, n - i) + w, n - i);
        if (a->dbias) store_some(a->dbias + i, load_some(a->dbias + i, n - i) + b, n - i);
    }
}

static void rope(const void *arguments, int thread, int threads) {
    const ck_rope_args *a = arguments;
    const long half = a->rotary_dim / 2;
    EACH_ROW(a->rows) {
        const float *c = a->cosine + a->positions[row] * a->table_stride, *s = a->sine + a->positions[row] * a->table_stride;
        for (long h = 0; h < a->heads; h++) {
            long c0 = h * a->head_dim;
            for (long i = 0; i < half; i += 16) {
                long left = half - i;
                vf u = row_load(&a->x, row, c0 + i, left), w = row_load(&a->x, row, c0 + half + i, left);
                vf cc = load_some(c + i, left), ss = load_some(s + i, left);
                if (a->inverse) ss = -ss;
                row_store(&a->y, row, c0 + i, u * cc - w * ss, left);
                row_store(&a->y, row, c0 + half + i, w * cc + u * ss, left);
            }
            for (long i = a->rotary_dim; i < a->head_dim; i += 16)
                row_store(&a->y, row, c0 + i, row_load(&a->x, row, c0 + i, a->head_dim - i), a->head_dim - i);
        }
    }
}

static void activation(const void *arguments, int thread, int threads) {
    const ck_activation_args *a = arguments;
    EACH_ROW(a->rows)
    for (long i = 0; i < a->columns; i += 16) {
        long left = a->columns - i;
        vf v = act(a->kind, row_load(&a->gate, row, i, left));
        if (a->up.data) v *= row_load(&a->up, row, i, left);
        row_store(&a->y, row, i, v, left);
    }
}

INLINE void activation_backward_as(const int kind, const ck_activation_backward_args *a, int thread, int threads) {
    EACH_ROW(a->rows)
    for (long i = 0; i < a->columns; i += 16) {
        long left = a->columns - i;
        vf g = row_load(&a->gate, row, i, left), d = row_load(&a->dy, row, i, left), value = act(kind, g);
        vf u = a->up.data ? row_load(&a->up, row, i, left) : splat(1);
        if (a->y.data) row_store(&a->y, row, i, value * u, left);
        row_store(&a->dgate, row, i, d * u * act_slope(kind, g), left);
        if (a->dup.data) row_store(&a->dup, row, i, d * value, left);
    }
}

static void activation_backward(const void *arguments, int thread, int threads) {
    const ck_activation_backward_args *a = arguments;
    if (a->kind == CK_ACT_SILU) activation_backward_as(CK_ACT_SILU, a, thread, threads);
    else activation_backward_as(a->kind, a, thread, threads);
}

static void combine(const void *arguments, int thread, int threads) {
    const ck_combine_args *a = arguments;
    EACH_ROW(a->rows)
    for (long i = 0; i < a->columns; i += 16) {
        long left = a->columns - i;
        vf v = splat(a->alpha) * row_load(&a->x, row, i, left);
        if (a->beta != 0) v += splat(a->beta) * row_load(&a->y, row, i, left);
        row_store(&a->y, row, i, v, left);
    }
}

static void soft_cap(const void *arguments, int thread, int threads) {
    const ck_soft_cap_args *a = arguments;
    EACH_ROW(a->rows)
    for (long i = 0; i < a->columns; i += 16) {
        long left = a->columns - i;
        row_store(&a->x, row, i, splat(a->cap) * tanh_(row_load(&a->x, row, i, left) / splat(a->cap)), left);
    }
}

static void gather(const void *arguments, int thread, int threads) {
    const ck_gather_args *a = arguments;
    EACH_ROW(a->rows) {
        long id = a->ids[row];
        if (a->table.data) {
            for (long i = 0; i < a->columns; i += 16)
                row_store(&a->out, row, i, splat(a->scale) * row_load(&a->table, id, i, a->columns - i), a->columns - i);
            continue;
        }
        const long first = ck_packed_index(&a->packed, id, 0), panel = id / 32;
        const long width = a->packed.paired ? 32 : ck_panel_width(a->packed.rows, panel);
        float line[16];
        for (long i = 0; i < a->columns; i += 16) {
            for (long j = 0; j < 16 && i + j < a->columns; j++) {
                long k = i + j;
                line[j] = a->packed.type == CK_BF16
                              ? ck_from_bf16(((const uint16_t *)a->packed.data)[first + k / 2 * width * 2 + (k & 1)])
                              : ((const float *)a->packed.data)[first + k * width];
            }
            row_store(&a->out, row, i, splat(a->scale) * load_some(line, a->columns - i), a->columns - i);
        }
    }
}

// ---------------------------------------------------------------- packing

// 16 outputs by 16 inputs of bf16 pairs or floats at a time; edges one by one.
static void pack(const void *arguments, int thread, int threads) {
    const ck_pack_args *a = arguments;
    const ck_packed w = {a->out, a->rows, a->columns, a->type, a->paired};
    const long panels = ck_panels(a->rows), depth = ck_depth(a->columns, a->type), pair = a->type == CK_BF16 ? 2 : 1;
    for (long p = ck_share(panels, thread, threads); p < ck_share(panels, thread + 1, threads); p++) {
        const long width = ck_panel_width(a->rows, p);
        long row0 = ck_panel_row(&w, p), rows = a->rows;
        const ck_matrix *source = &a->source;
        if (a->second.data) {
            rows /= 2;
            if (row0 >= rows) source = &a->second, row0 -= rows;
        }
        const bool copy = a->type == CK_BF16 && source->type == CK_BF16;
        char *out = (char *)a->out + p * 32 * depth * ck_size(a->type);
        for (long lane0 = 0; lane0 < width; lane0 += 16)
            for (long k0 = 0; k0 < depth; k0 += 16 * pair) {
                long steps = (depth - k0) / pair < 16 ? (depth - k0) / pair : 16;
                vu r[16];
                for (int i = 0; i < 16; i++) {
                    uint32_t line[16] = {0};
                    long row = row0 + lane0 + i, left = a->columns - k0;
                    if (row < rows) {
                        if (copy) {
                            const uint16_t *from = (const uint16_t *)source->data + row * source->stride + k0;
                            memcpy(line, from, 2 * (size_t)(left < 32 ? left : 32));
                        } else if (a->type == CK_BF16) {
                            store_half((uint16_t *)line, row_load(source, row, k0, left));
                            if (left > 16) store_half((uint16_t *)line + 16, row_load(source, row, k0 + 16, left - 16));
                        } else store((float *)line, row_load(source, row, k0, left));
                    }
                    r[i] = *(const vu_any *)line;
                }
                transpose16(r);
                for (long i = 0; i < steps; i++)
                    *(vu_any *)(out + ((k0 / pair + i) * width + lane0) * 4) = r[i];
            }
    }
}

static void unpack(const void *arguments, int thread, int threads) {
    const ck_unpack_args *a = arguments;
    EACH_ROW(a->w.rows)
    for (long k = 0; k < a->w.columns; k++)
        ck_put(&a->out, row, k, ck_load(a->w.data, a->w.type, ck_packed_index(&a->w, row, k)));
}

// ---------------------------------------------------------------- sums over a row

INLINE vf tail_lanes(vf v, long left, float fill) {
    return left >= 16 ? v : choose((vi)(lanes() < (int32_t)left), v, splat(fill));
}

// max x and sum e^(x - max) of a float32 row; NaN comes out as NaN.
static float row_sum_exp(const float *x, long n, float *top) {
    vf m = splat(-INFINITY), s = splat(0);
    for (long i = 0; i < n; i += 16) m = larger(m, tail_lanes(load_some(x + i, n - i), n - i, -INFINITY));
    *top = max_of(m);
    for (long i = 0; i < n; i += 16) s += tail_lanes(exp_(load_some(x + i, n - i) - splat(*top)), n - i, 0);
    return sum_of(s);
}

static void softmax(const void *arguments, int thread, int threads) {
    const ck_softmax_args *a = arguments;
    EACH_ROW(a->rows) {
        float *x = (float *)a->x.data + row * a->x.stride, top, sum = row_sum_exp(x, a->columns, &top);
        if (a->log_sum) a->log_sum[row] = logf(sum) + top;
        if (!a->softmax) continue;
        for (long i = 0; i < a->columns; i += 16)
            store_some(x + i, exp_(load_some(x + i, a->columns - i) - splat(top)) / splat(sum), a->columns - i);
    }
}

static void logit_loss(const void *arguments, int thread, int threads) {
    const ck_logit_loss_args *a = arguments;
    EACH_ROW(a->rows) {
        float *x = (float *)a->logits.data + row * a->logits.stride, top;
        const long label = a->labels[row], n = a->columns;
        if (label < 0) {
            a->loss[row] = 0;
            if (a->gradient) memset(x, 0, sizeof(float) * (size_t)n);
            continue;
        }
        const float sum = row_sum_exp(x, n, &top), weight = a->scale * (a->weights ? a->weights[row] : 1);
        a->loss[row] = logf(sum) + top - x[label];
        if (!a->gradient) continue;
        for (long i = 0; i < n; i += 16)
            store_some(x + i, exp_(load_some(x + i, n - i) - splat(top)) * splat(weight / sum), n - i);
        x[label] -= weight;
    }
}

static void check_finite(const void *arguments, int thread, int threads) {
    const ck_finite_args *a = arguments;
    int32_t bad = 0;
    EACH_ROW(a->rows) {
        vi wrong = (vi)splat_bits(0);
        for (long i = 0; i < a->columns; i += 16) {
            vi bits = (vi)row_load(&a->x, row, i, a->columns - i) & 0x7f800000;
            wrong |= bits == 0x7f800000;
        }
        vf any = (vf)(wrong & (vi)splat(1));
        bad += sum_of(any) != 0;
    }
    a->bad[thread] = bad;
}
