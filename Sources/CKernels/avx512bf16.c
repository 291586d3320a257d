// AVX-512 with BF16 dot products: AMD Zen 4 and later, Intel Cooper Lake, Sapphire Rapids and later.
#include "layout.h"
#if __x86_64__
#include <immintrin.h>
#include <math.h>
#pragma clang diagnostic error "-Wignored-attributes"
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma"))), apply_to = function)
#define CK_LEVEL 3
#define CK_SUFFIX avx512bf16
#define CK_NAME "avx512bf16"
#define CK_TABLE ck_avx512bf16
#include "body/all.h"
#pragma clang attribute pop
#endif
