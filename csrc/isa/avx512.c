/* AVX-512 (F, VL, DQ): 32 registers of 16 floats or 8 doubles. Tile 14 x 2 vectors: 28 accumulators, 2 + 1 operands.
 * 14 rows, as 7, 14, 28, 56, 112 and 224, the widths of most networks' maps, are whole or half tiles of them. */
#if defined(__x86_64__)
#include "isa.h"

#include <immintrin.h>

#define ISA avx512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma,prefer-vector-width=512")
#endif

typedef uint32_t fc_bits32 __attribute__((vector_size(64)));
typedef uint64_t fc_bits64 __attribute__((vector_size(64)));

static inline __m512 fc_even32(__m512 a, __m512 b) {
  return _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31), b);
}

static inline __m512d fc_even64(__m512d a, __m512d b) {
  return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 9, 11, 13, 15), b);
}

/* lo may lie below 0 and hi above the last lane. */
static inline unsigned fc_mask(int lo, int hi, int lanes) {
  lo = lo < 0 ? 0 : lo > lanes ? lanes : lo;
  hi = hi < lo ? lo : hi > lanes ? lanes : hi;
  return (1u << hi) - (1u << lo);
}

/* Interleave rows, then pairs, then quarters, then halves. */
static inline __attribute__((always_inline)) void fc_transpose32(__m512 r[16]) {
  __m512 t[16];
  UNROLL for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    r[4 * i] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm512_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm512_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  /* r[4 q + c] holds column c of each quarter, for rows 4 q ... 4 q + 3. */
  UNROLL for (int c = 0; c < 4; c++) {
    t[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
    t[4 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
    t[8 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    t[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
  }
  UNROLL for (int c = 0; c < 4; c++) {
    r[c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0x88);
    r[8 + c] = _mm512_shuffle_f32x4(t[c], t[8 + c], 0xdd);
    r[4 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0x88);
    r[12 + c] = _mm512_shuffle_f32x4(t[4 + c], t[12 + c], 0xdd);
  }
}

static inline __attribute__((always_inline)) void fc_transpose64(__m512d r[8]) {
  __m512d t[8];
  UNROLL for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
  }
  /* t[2 p + c] holds column c of each quarter, for rows 2 p and 2 p + 1. */
  UNROLL for (int c = 0; c < 2; c++) {
    r[c] = _mm512_shuffle_f64x2(t[c], t[2 + c], 0x88);
    r[2 + c] = _mm512_shuffle_f64x2(t[c], t[2 + c], 0xdd);
    r[4 + c] = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0x88);
    r[6 + c] = _mm512_shuffle_f64x2(t[4 + c], t[6 + c], 0xdd);
  }
  UNROLL for (int c = 0; c < 2; c++) {
    t[c] = _mm512_shuffle_f64x2(r[c], r[4 + c], 0x88);
    t[4 + c] = _mm512_shuffle_f64x2(r[c], r[4 + c], 0xdd);
    t[2 + c] = _mm512_shuffle_f64x2(r[2 + c], r[6 + c], 0x88);
    t[6 + c] = _mm512_shuffle_f64x2(r[2 + c], r[6 + c], 0xdd);
  }
  UNROLL for (int i = 0; i < 8; i++) r[i] = t[i];
}

#define D __m512d
#define DM __mmask8
#define DL 8
#define dset1(x) _mm512_set1_pd(x)
#define dget(p) _mm512_loadu_pd(p)
#define dput(p, v) _mm512_storeu_pd(p, v)
#define dadd(a, b) _mm512_add_pd(a, b)
#define dsub(a, b) _mm512_sub_pd(a, b)
#define dmul(a, b) _mm512_mul_pd(a, b)
#define dfma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define dsum(v) _mm512_reduce_add_pd(v)
#define dgt(a, b) _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ)
#define dunordered(a, b) _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q)
#define dselect(m, a, b) _mm512_mask_blend_pd(m, b, a)

#define DTYPE f32
#define T float
#define V __m512
#define VU fc_bits32
#define VM __mmask16
#define VL 16
#define MR 14
#define NV 2
#define KC 320
#define MC 168
#define vzero() _mm512_setzero_ps()
#define vset1(x) _mm512_set1_ps(x)
#define vload(p) _mm512_loadu_ps(p)
#define vstore(p, v) _mm512_storeu_ps(p, v)
#define vmask(lo, hi) ((__mmask16)fc_mask(lo, hi, 16))
#define vload_mask(p, m) _mm512_maskz_loadu_ps(m, p)
#define vstore_mask(p, m, v) _mm512_mask_storeu_ps(p, m, v)
#define veven(a, b) fc_even32(a, b)
#define vor(a, b) _mm512_or_ps(a, b)
#define vbits(v) ((VU)(v))
#define vreal(u) ((V)(u))
#define vadd(a, b) _mm512_add_ps(a, b)
#define vsub(a, b) _mm512_sub_ps(a, b)
#define vmul(a, b) _mm512_mul_ps(a, b)
#define vdiv(a, b) _mm512_div_ps(a, b)
#define vsqrt(a) _mm512_sqrt_ps(a)
#define vfma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vmax(a, b) _mm512_max_ps(a, b)
#define vmin(a, b) _mm512_min_ps(a, b)
#define vgt(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define veq(a, b) _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define vunordered(a, b) _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q)
#define vselect(m, a, b) _mm512_mask_blend_ps(m, b, a)
#define vonly(m, a) _mm512_mask_blend_ps(m, vzero(), a)
#define vexcept(m, a) _mm512_mask_blend_ps(m, a, vzero())
#define vany(m) ((m) != 0)
#define vsum(v) _mm512_reduce_add_ps(v)
#define vmost(v) _mm512_reduce_max_ps(v)
#define vevens(a, b) _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b)
#define vlookup(a, b, p) _mm512_permutex2var_ps(a, _mm512_loadu_si512(p), b)
#define vstream(p, v) vstore(p, v)
#define vpast(p, v) _mm512_stream_ps(p, v)
#define vfence() _mm_sfence()
#define vtranspose(r) fc_transpose32(r)
#define dload(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
#define dload_some(p, n) _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)fc_mask(0, n, 8), p))
#define dstore(p, v) _mm256_storeu_ps(p, _mm512_cvtpd_ps(v))
#include "bodies.h"

#define DTYPE f64
#define T double
#define V __m512d
#define VU fc_bits64
#define VM __mmask8
#define VL 8
#define MR 14
#define NV 2
#define KC 256
#define MC 112
#define vzero() _mm512_setzero_pd()
#define vset1(x) _mm512_set1_pd(x)
#define vload(p) _mm512_loadu_pd(p)
#define vstore(p, v) _mm512_storeu_pd(p, v)
#define vmask(lo, hi) ((__mmask8)fc_mask(lo, hi, 8))
#define vload_mask(p, m) _mm512_maskz_loadu_pd(m, p)
#define vstore_mask(p, m, v) _mm512_mask_storeu_pd(p, m, v)
#define veven(a, b) fc_even64(a, b)
#define vor(a, b) _mm512_or_pd(a, b)
#define vbits(v) ((VU)(v))
#define vreal(u) ((V)(u))
#define vadd(a, b) _mm512_add_pd(a, b)
#define vsub(a, b) _mm512_sub_pd(a, b)
#define vmul(a, b) _mm512_mul_pd(a, b)
#define vdiv(a, b) _mm512_div_pd(a, b)
#define vsqrt(a) _mm512_sqrt_pd(a)
#define vfma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vmax(a, b) _mm512_max_pd(a, b)
#define vmin(a, b) _mm512_min_pd(a, b)
#define vgt(a, b) _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ)
#define veq(a, b) _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)
#define vunordered(a, b) _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q)
#define vselect(m, a, b) _mm512_mask_blend_pd(m, b, a)
#define vonly(m, a) _mm512_mask_blend_pd(m, vzero(), a)
#define vexcept(m, a) _mm512_mask_blend_pd(m, a, vzero())
#define vany(m) ((m) != 0)
#define vsum(v) _mm512_reduce_add_pd(v)
#define vmost(v) _mm512_reduce_max_pd(v)
#define vevens(a, b) _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b)
#define vlookup(a, b, p) _mm512_permutex2var_pd(a, _mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i *)(p))), b)
#define vstream(p, v) vstore(p, v)
#define vpast(p, v) _mm512_stream_pd(p, v)
#define vfence() _mm_sfence()
#define vtranspose(r) fc_transpose64(r)
#define dload(p) dget(p)
#define dload_some(p, n) _mm512_maskz_loadu_pd((__mmask8)fc_mask(0, n, 8), p)
#define dstore(p, v) dput(p, v)
#include "bodies.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int fc_not_for_this_machine;
#endif
