// Everything a variant is made of. The including file sets CK_LEVEL, CK_SUFFIX, CK_NAME and CK_TABLE.
#pragma clang diagnostic error "-Wignored-attributes"
#pragma clang diagnostic ignored "-Wpsabi" // wide vectors pass through inlined functions only
#pragma clang diagnostic ignored "-Wpass-failed"
#include "../vector.h"
#include "linear.h"
#include "rows.h"
#include "attention.h"
#include "loss.h"
#include "gradients.h"
#include "peak.h"

const ck_kernels CK_TABLE = {
    CK_NAME, linear, transpose, pack, unpack, gather, norm, norm_backward, norm_weight_backward, rope, activation,
    activation_backward, combine, soft_cap, softmax, logit_loss, head_loss, append, attend, span_attention,
    span_attention_backward, contract, adamw, square_sum, check_finite, peak,
};
