// AVX-512 without BF16: bf16 operands become floats by a shift and a mask.
#include "layout.h"
#if __x86_64__
#include <immintrin.h>
#include <math.h>
#pragma clang diagnostic error "-Wignored-attributes"
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#define CK_LEVEL 2
#define CK_SUFFIX avx512
#define CK_NAME "avx512"
#define CK_TABLE ck_avx512
#include "body/all.h"
#pragma clang attribute pop
#endif
