/* The AVX-512 intrinsics of csrc/isa/avx512.c in plain C, for tests of its kernels on any CPU. .ci/run builds them so: this
 * folder before the compiler's own, and that file without its pragmas. Multiply-adds round twice. */
#ifndef LOWERED_IMMINTRIN_H
#define LOWERED_IMMINTRIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_UNORD_Q };

typedef float __m512 __attribute__((vector_size(64)));
typedef double __m512d __attribute__((vector_size(64)));
typedef int32_t lowered_i32 __attribute__((vector_size(64)));
typedef int64_t lowered_i64 __attribute__((vector_size(64)));
typedef uint16_t __mmask16;
typedef uint8_t __mmask8;

#define _mm512_setr_epi32(...) ((lowered_i32){__VA_ARGS__})
#define _mm512_setr_epi64(...) ((lowered_i64){__VA_ARGS__})

/* A type V of N lanes T, S in names: I are integers and M masks for it; Q lanes are 128 bits. */
#define LOWERED(V, T, I, M, S)                                                                                           \
  enum { N_##S = 64 / sizeof(T), Q_##S = 16 / sizeof(T) };                                                               \
  LOWERED_OP(V, S, max, (V a, V b), a[i] > b[i] ? a[i] : b[i])                                                           \
  LOWERED_OP(V, S, min, (V a, V b), a[i] < b[i] ? a[i] : b[i])                                                           \
  LOWERED_OP(V, S, mask_blend, (M m, V a, V b), m >> i & 1 ? b[i] : a[i])                                                \
  LOWERED_OP(V, S, sqrt, (V a), (T)sqrt(a[i]))                                                                           \
  LOWERED_OP(V, S, maskz_loadu, (M m, const T *p), m >> i & 1 ? p[i] : 0)                                                \
  LOWERED_OP(V, S, permutex2var, (V a, I to, V b), to[i] & N_##S ? b[to[i] & (N_##S - 1)] : a[to[i] & (N_##S - 1)])      \
  LOWERED_OP(V, S, unpacklo, (V a, V b), (i & 1 ? b : a)[i / Q_##S * Q_##S + i % Q_##S / 2])                             \
  LOWERED_OP(V, S, unpackhi, (V a, V b), (i & 1 ? b : a)[i / Q_##S * Q_##S + i % Q_##S / 2 + Q_##S / 2])                 \
  LOWERED_OP(V, S, blocks, (V a, V b, int to), (i < N_##S / 2 ? a : b)[(to >> i / Q_##S * 2 & 3) * Q_##S + i % Q_##S])   \
  static inline V _mm512_setzero_##S(void) { return (V){0}; }                                                            \
  static inline V _mm512_set1_##S(T x) { return x - (V){0}; }                                                            \
  static inline V _mm512_add_##S(V a, V b) { return a + b; }                                                             \
  static inline V _mm512_sub_##S(V a, V b) { return a - b; }                                                             \
  static inline V _mm512_mul_##S(V a, V b) { return a * b; }                                                             \
  static inline V _mm512_div_##S(V a, V b) { return a / b; }                                                             \
  static inline V _mm512_fmadd_##S(V a, V b, V c) { return a * b + c; }                                                  \
  static inline V _mm512_or_##S(V a, V b) { return (V)((I)a | (I)b); }                                                   \
  static inline V _mm512_loadu_##S(const T *p) {                                                                         \
    V v;                                                                                                                 \
    memcpy(&v, p, sizeof v);                                                                                             \
    return v;                                                                                                            \
  }                                                                                                                      \
  static inline void _mm512_storeu_##S(T *p, V v) { memcpy(p, &v, sizeof v); }                                           \
  static inline void _mm512_mask_storeu_##S(T *p, M m, V v) {                                                            \
    for (int i = 0; i < N_##S; i++)                                                                                      \
      if (m >> i & 1) p[i] = v[i];                                                                                       \
  }                                                                                                                      \
  static inline M _mm512_cmp_##S##_mask(V a, V b, int how) {                                                             \
    M m = 0;                                                                                                             \
    for (int i = 0; i < N_##S; i++) {                                                                                    \
      const int yes = how == _CMP_EQ_OQ ? a[i] == b[i] : how == _CMP_GT_OQ ? a[i] > b[i] : a[i] != a[i] || b[i] != b[i]; \
      m = (M)(m | yes << i);                                                                                             \
    }                                                                                                                    \
    return m;                                                                                                            \
  }                                                                                                                      \
  static inline T _mm512_reduce_add_##S(V v) {                                                                           \
    for (int half = N_##S / 2; half; half /= 2)                                                                          \
      for (int i = 0; i < half; i++) v[i] += v[i + half];                                                                \
    return v[0];                                                                                                         \
  }                                                                                                                      \
  static inline T _mm512_reduce_max_##S(V v) {                                                                           \
    T most = v[0];                                                                                                       \
    for (int i = 1; i < N_##S; i++) most = v[i] > most ? v[i] : most;                                                    \
    return most;                                                                                                         \
  }

#define LOWERED_OP(V, S, NAME, ARGUMENTS, LANE)   \
  static inline V _mm512_##NAME##_##S ARGUMENTS { \
    V r;                                          \
    for (int i = 0; i < N_##S; i++) r[i] = LANE;  \
    return r;                                     \
  }

LOWERED(__m512, float, lowered_i32, __mmask16, ps)
LOWERED(__m512d, double, lowered_i64, __mmask8, pd)

#define _mm512_shuffle_f32x4(a, b, to) _mm512_blocks_ps(a, b, to)
#define _mm512_shuffle_f64x2(a, b, to) _mm512_blocks_pd(a, b, to)

LOWERED_OP(__m512, ps, shuffle, (__m512 a, __m512 b, int to), (i & 2 ? b : a)[i / 4 * 4 + (to >> i % 4 * 2 & 3)])

/* Floats as doubles, and back. */
typedef float __m256 __attribute__((vector_size(32)));
typedef lowered_i64 __m512i;

#define _mm512_castpd_si512(v) ((__m512i)(v))
#define _mm512_castsi512_pd(v) ((__m512d)(v))
#define _mm512_add_epi64(a, b) ((a) + (b))
#define _mm512_slli_epi64(a, n) ((a) << (n))

/* Places that are read from memory, 32 bits wide. */
typedef int32_t __m256i __attribute__((vector_size(32)));

static inline __m512i _mm512_loadu_si512(const void *p) {
  __m512i v;
  memcpy(&v, p, sizeof v);
  return v;
}

static inline __m256i _mm256_loadu_si256(const __m256i *p) {
  __m256i v;
  memcpy(&v, p, sizeof v);
  return v;
}

static inline __m512i _mm512_cvtepi32_epi64(__m256i v) {
  __m512i r;
  for (int i = 0; i < 8; i++) r[i] = v[i];
  return r;
}

#define _mm512_permutex2var_ps(a, to, b) _mm512_permutex2var_ps(a, (lowered_i32)(to), b)

/* There are no stores past the caches. */
#define _mm512_stream_ps(p, v) _mm512_storeu_ps(p, v)
#define _mm512_stream_pd(p, v) _mm512_storeu_pd(p, v)
#define _mm_sfence() ((void)0)

static inline __m256 _mm256_maskz_loadu_ps(__mmask8 m, const float *p) {
  __m256 v;
  for (int i = 0; i < 8; i++) v[i] = m >> i & 1 ? p[i] : 0;
  return v;
}

static inline __m256 _mm256_loadu_ps(const float *p) { return _mm256_maskz_loadu_ps(255, p); }
static inline void _mm256_storeu_ps(float *p, __m256 v) { memcpy(p, &v, sizeof v); }

static inline __m512d _mm512_cvtps_pd(__m256 v) {
  __m512d r;
  for (int i = 0; i < 8; i++) r[i] = v[i];
  return r;
}

static inline __m256 _mm512_cvtpd_ps(__m512d v) {
  __m256 r;
  for (int i = 0; i < 8; i++) r[i] = (float)v[i];
  return r;
}

#undef LOWERED
#undef LOWERED_OP
#endif
