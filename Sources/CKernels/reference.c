// Plain loops with double sums: what every fast kernel is compared with, and the fallback where nothing faster exists.
#include "layout.h"
#include <math.h>
#include <stdlib.h>

#define ROWS_OF(count) \
    for (long row = ck_share(count, thread, threads), end_ = ck_share(count, thread + 1, threads); row < end_; row++)

static double activate(int kind, double g) {
    if (kind == CK_ACT_SILU) return g / (1 + exp(-g));
    if (kind == CK_ACT_GELU_TANH) return 0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g)));
    if (kind == CK_ACT_GELU_ERF) return 0.5 * g * (1 + erf(g * 0.7071067811865476));
    return g;
}

static double activate_slope(int kind, double g) {
    if (kind == CK_ACT_SILU) {
        double s = 1 / (1 + exp(-g));
        return s * (1 + g * (1 - s));
    }
    if (kind == CK_ACT_GELU_TANH) {
        double t = tanh(0.7978845608028654 * (g + 0.044715 * g * g * g));
        return 0.5 * (1 + t) + 0.5 * g * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * g * g);
    }
    if (kind == CK_ACT_GELU_ERF)
        return 0.5 * (1 + erf(g * 0.7071067811865476)) + g * exp(-0.5 * g * g) * 0.3989422804014327;
    return 1;
}

static double packed_dot(const ck_matrix *x, long row, const ck_packed *w, long output) {
    double s = 0;
    for (long k = 0; k < w->columns; k++)
        s += (double)ck_at(x, row, k) * ck_load(w->data, w->type, ck_packed_index(w, output, k));
    return s;
}

static double linear_value(const ck_linear_args *a, long row, long n) {
    double s = packed_dot(&a->x, row, &a->w, n);
    for (long i = 0; i < a->term_count; i++) {
        const ck_term *t = &a->terms[i];
        if (row < t->row0 || row >= t->row1 || n < t->column0 || n >= t->column0 + t->up.rows) continue;
        s += packed_dot(&t->u, row - t->row0, &t->up, n - t->column0);
    }
    return a->alpha * s + (a->bias ? a->bias[n] : 0);
}

static void linear(const void *arguments, int thread, int threads) {
    const ck_linear_args *a = arguments;
    long half = a->w.rows / 2;
    ROWS_OF(a->rows) {
        if (a->y.data)
            for (long n = 0; n < a->w.rows; n++) {
                double v = linear_value(a, row, n);
                ck_put(&a->y, row, n, (float)(a->accumulate ? ck_at(&a->y, row, n) + v : v));
            }
        if (a->gated.data)
            for (long n = 0; n < half; n++)
                ck_put(&a->gated, row, n, (float)(activate(a->gate, linear_value(a, row, n)) * linear_value(a, row, n + half)));
    }
}

static void transpose(const void *arguments, int thread, int threads) {
    const ck_transpose_args *a = arguments;
    ck_packed t = {NULL, a->w.columns, a->w.rows, a->w.type, 0};
    long depth = ck_depth(t.columns, t.type), origin = a->panel0 * 32 * depth;
    long first = ck_share(a->panel1 - a->panel0, thread, threads), last = ck_share(a->panel1 - a->panel0, thread + 1, threads);
    for (long p = a->panel0 + first; p < a->panel0 + last; p++) {
        long width = ck_panel_width(t.rows, p), base = p * 32 * depth - origin;
        memset((char *)a->out + base * ck_size(t.type), 0, (size_t)(width * depth * ck_size(t.type)));
        for (long k = p * 32; k < p * 32 + width && k < t.rows; k++)
            for (long n = 0; n < t.columns; n++)
                ck_store(a->out, t.type, ck_packed_index(&t, k, n) - origin,
                         ck_load(a->w.data, a->w.type, ck_packed_index(&a->w, n, k)));
    }
}

static void pack(const void *arguments, int thread, int threads) {
    const ck_pack_args *a = arguments;
    ck_packed w = {a->out, a->rows, a->columns, a->type, a->paired};
    long panels = ck_panels(a->rows), depth = ck_depth(a->columns, a->type), pair = a->type == CK_BF16 ? 2 : 1;
    for (long p = ck_share(panels, thread, threads); p < ck_share(panels, thread + 1, threads); p++) {
        long width = ck_panel_width(a->rows, p), row0 = ck_panel_row(&w, p), o = p * 32 * depth, rows = a->rows;
        const ck_matrix *source = &a->source;
        if (a->second.data) {
            rows /= 2;
            if (row0 >= rows) source = &a->second, row0 -= rows;
        }
        for (long k = 0; k < depth; k += pair)
            for (long lane = 0; lane < width; lane++)
                for (long j = 0; j < pair; j++, o++) {
                    bool real = row0 + lane < rows && k + j < a->columns;
                    if (a->type == CK_BF16 && source->type == CK_BF16)
                        ((uint16_t *)a->out)[o] =
                            real ? ((const uint16_t *)source->data)[(row0 + lane) * source->stride + k + j] : 0;
                    else ck_store(a->out, a->type, o, real ? ck_at(source, row0 + lane, k + j) : 0);
                }
    }
}

static void unpack(const void *arguments, int thread, int threads) {
    const ck_unpack_args *a = arguments;
    ROWS_OF(a->w.rows)
    for (long k = 0; k < a->w.columns; k++)
        ck_put(&a->out, row, k, ck_load(a->w.data, a->w.type, ck_packed_index(&a->w, row, k)));
}

static void gather(const void *arguments, int thread, int threads) {
    const ck_gather_args *a = arguments;
    ROWS_OF(a->rows)
    for (long k = 0; k < a->columns; k++) {
        long id = a->ids[row];
        float v = a->table.data ? ck_at(&a->table, id, k)
                                : ck_load(a->packed.data, a->packed.type, ck_packed_index(&a->packed, id, k));
        ck_put(&a->out, row, k, v * a->scale);
    }
}

static void norm(const void *arguments, int thread, int threads) {
    const ck_norm_args *a = arguments;
    ROWS_OF(a->rows)
    for (long g = 0; g < a->groups; g++) {
        long c0 = g * a->columns;
        double mean = 0, s = 0;
        if (a->kind == CK_NORM_LAYER) {
            for (long i = 0; i < a->columns; i++) mean += ck_at(&a->x, row, c0 + i);
            mean /= a->columns;
        }
        for (long i = 0; i < a->columns; i++) s += (ck_at(&a->x, row, c0 + i) - mean) * (ck_at(&a->x, row, c0 + i) - mean);
        double inverse = 1 / sqrt(s / a->columns + a->epsilon);
        for (long i = 0; i < a->columns; i++) {
            double v = (ck_at(&a->x, row, c0 + i) - mean) * inverse;
            ck_put(&a->y, row, c0 + i, (float)(v * (a->weight ? a->weight[i] : 1) + (a->bias ? a->bias[i] : 0)));
        }
        if (a->inverse) a->inverse[row * a->stat_stride + g] = (float)inverse;
        if (a->mean) a->mean[row * a->stat_stride + g] = (float)mean;
    }
}

static void norm_backward(const void *arguments, int thread, int threads) {
    const ck_norm_backward_args *a = arguments;
    ROWS_OF(a->rows)
    for (long g = 0; g < a->groups; g++) {
        long c0 = g * a->columns;
        double inverse = a->inverse[row * a->stat_stride + g], s = 0, s1 = 0;
        double mean = a->kind == CK_NORM_LAYER ? a->mean[row * a->stat_stride + g] : 0;
        for (long i = 0; i < a->columns; i++) {
            double d = ck_at(&a->dy, row, c0 + i) * (a->weight ? a->weight[i] : 1);
            s += d * (ck_at(&a->x, row, c0 + i) - mean) * inverse;
            s1 += d;
        }
        s /= a->columns;
        s1 = a->kind == CK_NORM_LAYER ? s1 / a->columns : 0;
        for (long i = 0; i < a->columns; i++) {
            double d = ck_at(&a->dy, row, c0 + i) * (a->weight ? a->weight[i] : 1);
            double h = (ck_at(&a->x, row, c0 + i) - mean) * inverse, v = inverse * (d - s1 - h * s);
            ck_put(&a->dx, row, c0 + i, (float)(a->accumulate ? ck_at(&a->dx, row, c0 + i) + v : v));
        }
    }
}

static void norm_weight_backward(const void *arguments, int thread, int threads) {
    const ck_norm_backward_args *a = arguments;
    for (long i = ck_share(a->columns, thread, threads); i < ck_share(a->columns, thread + 1, threads); i++) {
        double w = 0, b = 0;
        for (long row = 0; row < a->rows; row++)
            for (long g = 0; g < a->groups; g++) {
                double mean = a->kind == CK_NORM_LAYER ? a->mean[row * a->stat_stride + g] : 0;
                double d = ck_at(&a->dy, row, g * a->columns + i);
                w += d * (ck_at(&a->x, row, g * a->columns + i) - mean) * a->inverse[row * a->stat_stride + g];
                b += d;
            }
        if (a->dweight) a->dweight[i] += (float)w;
        if (a->dbias) a->dbias[i] += (float)b;
    }
}

static void rope(const void *arguments, int thread, int threads) {
    const ck_rope_args *a = arguments;
    long half = a->rotary_dim / 2;
    ROWS_OF(a->rows)
    for (long h = 0; h < a->heads; h++) {
        const float *c = a->cosine + a->positions[row] * a->table_stride, *s = a->sine + a->positions[row] * a->table_stride;
        long c0 = h * a->head_dim;
        for (long i = 0; i < half; i++) {
            float u = ck_at(&a->x, row, c0 + i), w = ck_at(&a->x, row, c0 + half + i), n = a->inverse ? -s[i] : s[i];
            ck_put(&a->y, row, c0 + i, u * c[i] - w * n);
            ck_put(&a->y, row, c0 + half + i, w * c[i] + u * n);
        }
        for (long i = a->rotary_dim; i < a->head_dim; i++) ck_put(&a->y, row, c0 + i, ck_at(&a->x, row, c0 + i));
    }
}

static void activation(const void *arguments, int thread, int threads) {
    const ck_activation_args *a = arguments;
    ROWS_OF(a->rows)
    for (long i = 0; i < a->columns; i++)
        ck_put(&a->y, row, i, (float)(activate(a->kind, ck_at(&a->gate, row, i)) * (a->up.data ? ck_at(&a->up, row, i) : 1)));
}

static void activation_backward(const void *arguments, int thread, int threads) {
    const ck_activation_backward_args *a = arguments;
    ROWS_OF(a->rows)
    for (long i = 0; i < a->columns; i++) {
        double g = ck_at(&a->gate, row, i), u = a->up.data ? ck_at(&a->up, row, i) : 1, d = ck_at(&a->dy, row, i);
        if (a->y.data) ck_put(&a->y, row, i, (float)(activate(a->kind, g) * u));
        ck_put(&a->dgate, row, i, (float)(d * u * activate_slope(a->kind, g)));
        if (a->dup.data) ck_put(&a->dup, row, i, (float)(d * activate(a->kind, g)));
    }
}

static void combine(const void *arguments, int thread, int threads) {
    const ck_combine_args *a = arguments;
    ROWS_OF(a->rows)
    for (long i = 0; i < a->columns; i++)
        ck_put(&a->y, row, i, a->alpha * ck_at(&a->x, row, i) + (a->beta != 0 ? a->beta * ck_at(&a->y, row, i) : 0));
}

static void soft_cap(const void *arguments, int thread, int threads) {
    const ck_soft_cap_args *a = arguments;
    ROWS_OF(a->rows)
    for (long i = 0; i < a->columns; i++) ck_put(&a->x, row, i, (float)(a->cap * tanh(ck_at(&a->x, row, i) / a->cap)));
}

static void softmax(const void *arguments, int thread, int threads) {
    const ck_softmax_args *a = arguments;
    ROWS_OF(a->rows) {
        double top = -INFINITY, sum = 0;
        for (long i = 0; i < a->columns; i++) top = fmax(top, ck_at(&a->x, row, i));
        for (long i = 0; i < a->columns; i++) sum += exp(ck_at(&a->x, row, i) - top);
        if (a->log_sum) a->log_sum[row] = (float)(log(sum) + top);
        if (a->softmax)
            for (long i = 0; i < a->columns; i++) ck_put(&a->x, row, i, (float)(exp(ck_at(&a->x, row, i) - top) / sum));
    }
}

static void logit_loss(const void *arguments, int thread, int threads) {
    const ck_logit_loss_args *a = arguments;
    ROWS_OF(a->rows) {
        long label = a->labels[row];
        double top = -INFINITY, sum = 0, weight = a->scale * (a->weights ? a->weights[row] : 1);
        for (long i = 0; i < a->columns; i++) top = fmax(top, ck_at(&a->logits, row, i));
        for (long i = 0; i < a->columns; i++) sum += exp(ck_at(&a->logits, row, i) - top);
        a->loss[row] = label < 0 ? 0 : (float)(log(sum) + top - ck_at(&a->logits, row, label));
        if (a->gradient)
            for (long i = 0; i < a->columns; i++) {
                double p = exp(ck_at(&a->logits, row, i) - top) / sum;
                ck_put(&a->logits, row, i, label < 0 ? 0 : (float)(weight * (p - (i == label))));
            }
    }
}

static void head_loss(const void *arguments, int thread, int threads) {
    const ck_head_loss_args *a = arguments;
    long n = a->head.rows, columns = a->head.columns;
    double *logits = malloc(sizeof(double) * (size_t)n);
    ROWS_OF(a->rows) {
        long label = a->labels[row];
        a->loss[row] = 0;
        if (a->dhidden.data)
            for (long k = 0; k < columns; k++) ck_put(&a->dhidden, row, k, 0);
        if (label < 0) continue;
        double top = -INFINITY, sum = 0, weight = a->scale * (a->weights ? a->weights[row] : 1);
        for (long i = 0; i < n; i++) {
            logits[i] = a->logit_scale * packed_dot(&a->hidden, row, &a->head, i);
            if (a->soft_cap > 0) logits[i] = a->soft_cap * tanh(logits[i] / a->soft_cap);
            top = fmax(top, logits[i]);
        }
        for (long i = 0; i < n; i++) sum += exp(logits[i] - top);
        a->loss[row] = (float)(log(sum) + top - logits[label]);
        if (!a->dhidden.data) continue;
        for (long i = 0; i < n; i++) {
            double slope = a->soft_cap > 0 ? 1 - pow(logits[i] / a->soft_cap, 2) : 1;
            logits[i] = weight * (exp(logits[i] - top) / sum - (i == label)) * slope * a->logit_scale;
        }
        for (long k = 0; k < columns; k++) {
            double s = 0;
            for (long i = 0; i < n; i++) s += logits[i] * ck_load(a->head.data, a->head.type, ck_packed_index(&a->head, i, k));
            ck_put(&a->dhidden, row, k, (float)s);
        }
    }
    free(logits);
}

static void append(const void *arguments, int thread, int threads) {
    const ck_append_args *a = arguments;
    const ck_cache *c = &a->cache;
    ROWS_OF(a->rows)
    for (long h = 0; h < c->heads; h++) {
        long position = a->positions[row];
        char *block = ck_block(c, a->pages[a->page_offsets[a->sequences[row]] + position / 64], a->layer, h);
        for (long d = 0; d < c->head_dim; d++) {
            ck_store(block, c->type, ck_k_index(c->type, position % 64, d), ck_at(&a->k, row, h * c->head_dim + d));
            ck_store(block, c->type, ck_v_index(c->type, c->head_dim, position % 64, d), ck_at(&a->v, row, h * c->head_dim + d));
        }
    }
}

static double capped(double score, float scale, float cap) {
    score *= scale;
    return cap > 0 ? cap * tanh(score / cap) : score;
}

static void attend(const void *arguments, int thread, int threads) {
    const ck_attend_args *a = arguments;
    const ck_cache *c = &a->cache;
    long group = a->query_heads / c->heads, d = c->head_dim;
    ROWS_OF(a->rows)
    for (long h = 0; h < a->query_heads; h++) {
        const int32_t *pages = a->pages + a->page_offsets[a->sequences[row]];
        long last = a->positions[row], first = a->window > 0 && last >= a->window ? last - a->window + 1 : 0;
        double top = -INFINITY, sum = 0, o[1024] = {0};
        for (int pass = 0; pass < 2; pass++)
            for (long t = first; t <= last; t++) {
                const char *block = ck_block(c, pages[t / 64], a->layer, h / group);
                double s = 0;
                for (long i = 0; i < d; i++)
                    s += (double)ck_at(&a->q, row, h * d + i) * ck_load(block, c->type, ck_k_index(c->type, t % 64, i));
                s = capped(s, a->scale, a->soft_cap);
                if (pass == 0) {
                    top = fmax(top, s);
                    continue;
                }
                double p = exp(s - top);
                sum += p;
                for (long i = 0; i < d; i++) o[i] += p * ck_load(block, c->type, ck_v_index(c->type, d, t % 64, i));
            }
        for (long i = 0; i < d; i++) ck_put(&a->out, row, h * d + i, (float)(o[i] / sum));
    }
}

static double span_score(const ck_span_attention_args *a, long i, long j, long h, long g) {
    double s = 0;
    for (long d = 0; d < a->head_dim; d++)
        s += (double)ck_at(&a->q, i, h * a->head_dim + d) * ck_at(&a->k, j, g * a->head_dim + d);
    return capped(s, a->scale, a->soft_cap);
}

static void span_attention(const void *arguments, int thread, int threads) {
    const ck_span_attention_args *a = arguments;
    long d = a->head_dim, group = a->query_heads / a->kv_heads;
    for (long h = ck_share(a->query_heads, thread, threads); h < ck_share(a->query_heads, thread + 1, threads); h++)
        for (long s = 0; s < a->span_count; s++)
            for (long i = a->spans[s]; i < a->spans[s + 1]; i++) {
                long g = h / group, first = a->spans[s];
                if (a->window > 0 && i - first >= a->window) first = i - a->window + 1;
                double top = -INFINITY, sum = 0, o[1024] = {0};
                for (long j = first; j <= i; j++) top = fmax(top, span_score(a, i, j, h, g));
                for (long j = first; j <= i; j++) {
                    double p = exp(span_score(a, i, j, h, g) - top);
                    sum += p;
                    for (long n = 0; n < d; n++) o[n] += p * ck_at(&a->v, j, g * d + n);
                }
                for (long n = 0; n < d; n++) ck_put(&a->out, i, h * d + n, (float)(o[n] / sum));
                if (a->log_sum) a->log_sum[h * a->log_sum_stride + i] = (float)(log(sum) + top);
            }
}

static void span_attention_backward(const void *arguments, int thread, int threads) {
    const ck_span_attention_args *a = arguments;
    long d = a->head_dim, group = a->query_heads / a->kv_heads;
    float *dk = malloc(sizeof(float) * (size_t)(a->rows * d)), *dv = malloc(sizeof(float) * (size_t)(a->rows * d));
    for (long g = ck_share(a->kv_heads, thread, threads); g < ck_share(a->kv_heads, thread + 1, threads); g++) {
        for (long i = 0; i < a->rows * d; i++) dk[i] = dv[i] = 0;
        for (long h = g * group; h < (g + 1) * group; h++)
            for (long s = 0; s < a->span_count; s++)
                for (long i = a->spans[s]; i < a->spans[s + 1]; i++) {
                    long first = a->spans[s];
                    if (a->window > 0 && i - first >= a->window) first = i - a->window + 1;
                    double dq[1024] = {0}, total = 0;
                    for (long n = 0; n < d; n++) total += (double)ck_at(&a->out, i, h * d + n) * ck_at(&a->dout, i, h * d + n);
                    for (long j = first; j <= i; j++) {
                        double score = span_score(a, i, j, h, g), p = exp(score - a->log_sum[h * a->log_sum_stride + i]), dp = 0;
                        for (long n = 0; n < d; n++) dp += (double)ck_at(&a->dout, i, h * d + n) * ck_at(&a->v, j, g * d + n);
                        double ds = p * (dp - total) * a->scale;
                        if (a->soft_cap > 0) ds *= 1 - pow(score / a->soft_cap, 2);
                        for (long n = 0; n < d; n++) {
                            dq[n] += ds * ck_at(&a->k, j, g * d + n);
                            dk[j * d + n] += (float)(ds * ck_at(&a->q, i, h * d + n));
                            dv[j * d + n] += (float)(p * ck_at(&a->dout, i, h * d + n));
                        }
                    }
                    for (long n = 0; n < d; n++) ck_put(&a->dq, i, h * d + n, (float)dq[n]);
                }
        for (long i = 0; i < a->rows; i++)
            for (long n = 0; n < d; n++) {
                ck_put(&a->dk, i, g * d + n, dk[i * d + n]);
                ck_put(&a->dv, i, g * d + n, dv[i * d + n]);
            }
    }
    free(dk);
    free(dv);
}

static void contract(const void *arguments, int thread, int threads) {
    const ck_contract_args *a = arguments;
    for (long p = ck_share(a->p, thread, threads); p < ck_share(a->p, thread + 1, threads); p++)
        for (long q = 0; q < a->q; q++) {
            double s = 0;
            for (long row = 0; row < a->rows; row++) s += (double)ck_at(&a->x, row, p) * ck_at(&a->y, row, q);
            s *= a->alpha;
            ck_put(&a->g, p, q, (float)(a->accumulate ? ck_at(&a->g, p, q) + s : s));
        }
}

// As torch.optim.AdamW: decay first, then the bias-corrected update.
static void adamw(const void *arguments, int thread, int threads) {
    const ck_adamw_args *a = arguments;
    double c1 = 1 - pow(a->beta1, (double)a->step), c2 = 1 - pow(a->beta2, (double)a->step);
    float step_size = (float)(a->learning_rate / c1), root = (float)sqrt(c2);
    float decay = (float)(1 - a->learning_rate * a->weight_decay), rest1 = (float)(1 - a->beta1);
    float beta2 = (float)a->beta2, rest2 = (float)(1 - a->beta2), epsilon = (float)a->epsilon;
    for (long i = ck_share(a->count, thread, threads); i < ck_share(a->count, thread + 1, threads); i++) {
        float g = a->gradient[i] * a->gradient_scale, w = a->parameter[i];
        w *= decay;
        a->moment1[i] = a->moment1[i] + rest1 * (g - a->moment1[i]);
        a->moment2[i] = beta2 * a->moment2[i] + rest2 * g * g;
        a->parameter[i] = w - step_size * (a->moment1[i] / (sqrtf(a->moment2[i]) / root + epsilon));
    }
}

static void square_sum(const void *arguments, int thread, int threads) {
    const ck_square_sum_args *a = arguments;
    long blocks = (a->count + CK_SUM_BLOCK - 1) / CK_SUM_BLOCK;
    for (long b = ck_share(blocks, thread, threads); b < ck_share(blocks, thread + 1, threads); b++) {
        double s = 0;
        for (long i = b * CK_SUM_BLOCK; i < (b + 1) * CK_SUM_BLOCK && i < a->count; i++) s += (double)a->x[i] * a->x[i];
        a->partial[b] = s;
    }
}

static void check_finite(const void *arguments, int thread, int threads) {
    const ck_finite_args *a = arguments;
    int32_t bad = 0;
    ROWS_OF(a->rows) {
        bool good = true;
        for (long i = 0; i < a->columns; i++) good = good && isfinite(ck_at(&a->x, row, i));
        bad += !good;
    }
    a->bad[thread] = bad;
}

static void peak(const void *arguments, int thread, int threads) {
    const ck_peak_args *a = arguments;
    double *result = a->results + thread * CK_PEAK_STRIDE;
    if (a->memory) {
        const long first = ck_share(a->bytes, thread, threads), end = ck_share(a->bytes, thread + 1, threads);
        unsigned sum = 0;
        for (long i = first; i < end; i++) sum += ((const unsigned char *)a->memory)[i];
        result[0] = (double)(end - first);
        result[1] = sum;
        return;
    }
    float x = 0;
    for (long s = 0; s < a->steps; s++) x = x * 0.5f + 0.25f;
    result[0] = 2.0 * (double)a->steps;
    result[1] = x;
}

const ck_kernels ck_reference = {
    "reference", linear, transpose, pack, unpack, gather, norm, norm_backward, norm_weight_backward, rope, activation,
    activation_backward, combine, soft_cap, softmax, logit_loss, head_loss, append, attend, span_attention,
    span_attention_backward, contract, adamw, square_sum, check_finite, peak,
};
