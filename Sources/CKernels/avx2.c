// AVX2 with FMA.
#include "layout.h"
#if __x86_64__
#include <immintrin.h>
#include <math.h>
#pragma clang diagnostic error "-Wignored-attributes"
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define CK_LEVEL 1
#define CK_SUFFIX avx2
#define CK_NAME "avx2"
#define CK_TABLE ck_avx2
#include "body/all.h"
#pragma clang attribute pop
#endif
