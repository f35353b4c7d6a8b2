/* AVX2 with FMA: 16 registers of 8 floats or 4 doubles. Tile 6 x 2 vectors: 12 accumulators, 2 + 1 operands. */
#if defined(__x86_64__)
#include "isa.h"

#include <immintrin.h>

#define ISA avx2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

static inline __m256i fc_mask32(int lo, int hi) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lane));
}

static inline __m256i fc_mask64(int lo, int hi) {
  const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
  return _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(lo), lane), _mm256_cmpgt_epi64(_mm256_set1_epi64x(hi), lane));
}

static inline float fc_sum32(__m256 v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline double fc_sum64(__m256d v) {
  __m128d x = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
}

static inline float fc_most32(__m256 v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline double fc_most64(__m256d v) {
  __m128d x = _mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
}

typedef uint32_t fc_bits32 __attribute__((vector_size(32)));
typedef uint64_t fc_bits64 __attribute__((vector_size(32)));

/* Evens of each half, then the halves' middle quarters change places. */
static inline __m256 fc_evens32(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xd8));
}

static inline __m256d fc_evens64(__m256d a, __m256d b) { return _mm256_permute4x64_pd(_mm256_unpacklo_pd(a, b), 0xd8); }

/* Of each half what the low bits of a place say, and that of the half that its high bit says. */
static inline __m256 fc_lookup32(__m256 a, __m256 b, const int32_t *p) {
  const __m256i at = _mm256_loadu_si256((const __m256i *)p);
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a, at), _mm256_permutevar8x32_ps(b, at),
                          _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}

static inline __m256d fc_lookup64(__m256d a, __m256d b, const int32_t *p) {
  const __m256i at = _mm256_cvtepi32_epi64(_mm_loadu_si128((const __m128i *)p)), twice = _mm256_slli_epi64(at, 1);
  const __m256i half = _mm256_or_si256(twice, _mm256_slli_epi64(_mm256_add_epi64(twice, _mm256_set1_epi64x(1)), 32));
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_castpd_ps(a), half);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_castpd_ps(b), half);
  return _mm256_blendv_pd(_mm256_castps_pd(low), _mm256_castps_pd(high), _mm256_castsi256_pd(_mm256_slli_epi64(at, 61)));
}

/* Arrays are aligned to 16 bytes. */
static inline void fc_stream32(float *p, __m256 v) {
  _mm_stream_ps(p, _mm256_castps256_ps128(v));
  _mm_stream_ps(p + 4, _mm256_extractf128_ps(v, 1));
}

static inline void fc_stream64(double *p, __m256d v) {
  _mm_stream_pd(p, _mm256_castpd256_pd128(v));
  _mm_stream_pd(p + 2, _mm256_extractf128_pd(v, 1));
}

/* Interleave rows, then pairs, then halves. */
static inline __attribute__((always_inline)) void fc_transpose32(__m256 r[8]) {
  __m256 t[8], u[8];
  UNROLL for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  UNROLL for (int i = 0; i < 2; i++) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

static inline __attribute__((always_inline)) void fc_transpose64(__m256d r[4]) {
  __m256d a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
  __m256d c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
  r[0] = _mm256_permute2f128_pd(a, c, 0x20);
  r[1] = _mm256_permute2f128_pd(b, d, 0x20);
  r[2] = _mm256_permute2f128_pd(a, c, 0x31);
  r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#define D __m256d
#define DM __m256d
#define DL 4
#define dset1(x) _mm256_set1_pd(x)
#define dget(p) _mm256_loadu_pd(p)
#define dput(p, v) _mm256_storeu_pd(p, v)
#define dadd(a, b) _mm256_add_pd(a, b)
#define dsub(a, b) _mm256_sub_pd(a, b)
#define dmul(a, b) _mm256_mul_pd(a, b)
#define dfma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define dsum(v) fc_sum64(v)
#define dgt(a, b) _mm256_cmp_pd(a, b, _CMP_GT_OQ)
#define dunordered(a, b) _mm256_cmp_pd(a, b, _CMP_UNORD_Q)
#define dselect(m, a, b) _mm256_blendv_pd(b, a, m)

#define DTYPE f32
#define T float
#define V __m256
#define VU fc_bits32
#define VM __m256i
#define VL 8
#define MR 6
#define NV 2
#define KC 512
#define MC 144
#define vzero() _mm256_setzero_ps()
#define vset1(x) _mm256_set1_ps(x)
#define vload(p) _mm256_loadu_ps(p)
#define vstore(p, v) _mm256_storeu_ps(p, v)
#define vmask(lo, hi) fc_mask32(lo, hi)
#define vload_mask(p, m) _mm256_maskload_ps(p, m)
#define vstore_mask(p, m, v) _mm256_maskstore_ps(p, m, v)
#define veven(a, b) _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xd8)), 0xd8))
#define vor(a, b) _mm256_or_ps(a, b)
#define vbits(v) ((VU)(v))
#define vreal(u) ((V)(u))
#define vadd(a, b) _mm256_add_ps(a, b)
#define vsub(a, b) _mm256_sub_ps(a, b)
#define vmul(a, b) _mm256_mul_ps(a, b)
#define vdiv(a, b) _mm256_div_ps(a, b)
#define vsqrt(a) _mm256_sqrt_ps(a)
#define vfma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vmax(a, b) _mm256_max_ps(a, b)
#define vmin(a, b) _mm256_min_ps(a, b)
#define vgt(a, b) _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ))
#define veq(a, b) _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_EQ_OQ))
#define vunordered(a, b) _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_UNORD_Q))
#define vselect(m, a, b) _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m))
#define vonly(m, a) _mm256_and_ps(_mm256_castsi256_ps(m), a)
#define vexcept(m, a) _mm256_andnot_ps(_mm256_castsi256_ps(m), a)
#define vany(m) _mm256_movemask_epi8(m)
#define vsum(v) fc_sum32(v)
#define vmost(v) fc_most32(v)
#define vevens(a, b) fc_evens32(a, b)
#define vlookup(a, b, p) fc_lookup32(a, b, p)
#define vstream(p, v) fc_stream32(p, v)
#define vpast(p, v) _mm256_stream_ps(p, v)
#define vfence() _mm_sfence()
#define vtranspose(r) fc_transpose32(r)
#define dload(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define dload_some(p, n) _mm256_cvtps_pd(_mm_maskload_ps(p, _mm_cmpgt_epi32(_mm_set1_epi32(n), _mm_setr_epi32(0, 1, 2, 3))))
#define dstore(p, v) _mm_storeu_ps(p, _mm256_cvtpd_ps(v))
#include "bodies.h"

#define DTYPE f64
#define T double
#define V __m256d
#define VU fc_bits64
#define VM __m256i
#define VL 4
#define MR 6
#define NV 2
#define KC 512
#define MC 96
#define vzero() _mm256_setzero_pd()
#define vset1(x) _mm256_set1_pd(x)
#define vload(p) _mm256_loadu_pd(p)
#define vstore(p, v) _mm256_storeu_pd(p, v)
#define vmask(lo, hi) fc_mask64(lo, hi)
#define vload_mask(p, m) _mm256_maskload_pd(p, m)
#define vstore_mask(p, m, v) _mm256_maskstore_pd(p, m, v)
#define veven(a, b) _mm256_permute4x64_pd(_mm256_shuffle_pd(a, b, 0xa), 0xd8)
#define vor(a, b) _mm256_or_pd(a, b)
#define vbits(v) ((VU)(v))
#define vreal(u) ((V)(u))
#define vadd(a, b) _mm256_add_pd(a, b)
#define vsub(a, b) _mm256_sub_pd(a, b)
#define vmul(a, b) _mm256_mul_pd(a, b)
#define vdiv(a, b) _mm256_div_pd(a, b)
#define vsqrt(a) _mm256_sqrt_pd(a)
#define vfma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vmax(a, b) _mm256_max_pd(a, b)
#define vmin(a, b) _mm256_min_pd(a, b)
#define vgt(a, b) _mm256_castpd_si256(_mm256_cmp_pd(a, b, _CMP_GT_OQ))
#define veq(a, b) _mm256_castpd_si256(_mm256_cmp_pd(a, b, _CMP_EQ_OQ))
#define vunordered(a, b) _mm256_castpd_si256(_mm256_cmp_pd(a, b, _CMP_UNORD_Q))
#define vselect(m, a, b) _mm256_blendv_pd(b, a, _mm256_castsi256_pd(m))
#define vonly(m, a) _mm256_and_pd(_mm256_castsi256_pd(m), a)
#define vexcept(m, a) _mm256_andnot_pd(_mm256_castsi256_pd(m), a)
#define vany(m) _mm256_movemask_epi8(m)
#define vsum(v) fc_sum64(v)
#define vmost(v) fc_most64(v)
#define vevens(a, b) fc_evens64(a, b)
#define vlookup(a, b, p) fc_lookup64(a, b, p)
#define vstream(p, v) fc_stream64(p, v)
#define vpast(p, v) _mm256_stream_pd(p, v)
#define vfence() _mm_sfence()
#define vtranspose(r) fc_transpose64(r)
#define dload(p) dget(p)
#define dload_some(p, n) _mm256_maskload_pd(p, fc_mask64(0, n))
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
