/* Advanced SIMD of 64-bit Arm: 32 registers of 4 floats or 2 doubles. Tile 6 x 4 vectors: 24 accumulators, 4 + 1 operands. */
#if defined(__aarch64__)
#include "isa.h"

#include <arm_neon.h>

#define ISA neon

static inline uint32x4_t fc_mask32(int lo, int hi) {
  const int32x4_t lane = {0, 1, 2, 3};
  return vandq_u32(vcgeq_s32(lane, vdupq_n_s32(lo)), vcltq_s32(lane, vdupq_n_s32(hi)));
}

static inline uint64x2_t fc_mask64(int lo, int hi) {
  const int64x2_t lane = {0, 1};
  return vandq_u64(vcgeq_s64(lane, vdupq_n_s64(lo)), vcltq_s64(lane, vdupq_n_s64(hi)));
}

/* There are no masked loads: only the lanes that are wanted may be touched. */
static inline float32x4_t fc_load_mask32(const float *p, uint32x4_t m) {
  float v[4] = {0};
  if (m[0]) v[0] = p[0];
  if (m[1]) v[1] = p[1];
  if (m[2]) v[2] = p[2];
  if (m[3]) v[3] = p[3];
  return vld1q_f32(v);
}

static inline float64x2_t fc_load_mask64(const double *p, uint64x2_t m) {
  double v[2] = {0};
  if (m[0]) v[0] = p[0];
  if (m[1]) v[1] = p[1];
  return vld1q_f64(v);
}

static inline void fc_store_mask32(float *p, uint32x4_t m, float32x4_t v) {
  for (int i = 0; i < 4; i++)
    if (m[i]) p[i] = v[i];
}

static inline void fc_store_mask64(double *p, uint64x2_t m, float64x2_t v) {
  for (int i = 0; i < 2; i++)
    if (m[i]) p[i] = v[i];
}

/* By the bytes of each lane. */
static inline float32x4_t fc_lookup32(float32x4_t a, float32x4_t b, const int32_t *p) {
  const uint8x16x2_t both = {{vreinterpretq_u8_f32(a), vreinterpretq_u8_f32(b)}};
  const uint32x4_t at = vmlaq_n_u32(vdupq_n_u32(0x03020100), vreinterpretq_u32_s32(vld1q_s32(p)), 0x04040404);
  return vreinterpretq_f32_u8(vqtbl2q_u8(both, vreinterpretq_u8_u32(at)));
}

static inline float64x2_t fc_lookup64(float64x2_t a, float64x2_t b, const int32_t *p) {
  double both[4];
  vst1q_f64(both, a);
  vst1q_f64(both + 2, b);
  return (float64x2_t){both[p[0]], both[p[1]]};
}

static inline __attribute__((always_inline)) void fc_transpose32(float32x4_t r[4]) {
  float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
  float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])), d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
  r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

static inline __attribute__((always_inline)) void fc_transpose64(float64x2_t r[2]) {
  float64x2_t a = vtrn1q_f64(r[0], r[1]);
  r[1] = vtrn2q_f64(r[0], r[1]);
  r[0] = a;
}

#define D float64x2_t
#define DM uint64x2_t
#define DL 2
#define dset1(x) vdupq_n_f64(x)
#define dget(p) vld1q_f64(p)
#define dput(p, v) vst1q_f64(p, v)
#define dadd(a, b) vaddq_f64(a, b)
#define dsub(a, b) vsubq_f64(a, b)
#define dmul(a, b) vmulq_f64(a, b)
#define dfma(a, b, c) vfmaq_f64(c, a, b)
#define dsum(v) vaddvq_f64(v)
#define dgt(a, b) vcgtq_f64(a, b)
#define dunordered(a, b) (~(vceqq_f64(a, a) & vceqq_f64(b, b)))
#define dselect(m, a, b) vbslq_f64(m, a, b)

#define DTYPE f32
#define T float
#define V float32x4_t
#define VU uint32x4_t
#define VM uint32x4_t
#define VL 4
#define MR 6
#define NV 4
#define KC 320
#define MC 96
#define vzero() vdupq_n_f32(0)
#define vset1(x) vdupq_n_f32(x)
#define vload(p) vld1q_f32(p)
#define vstore(p, v) vst1q_f32(p, v)
#define vmask(lo, hi) fc_mask32(lo, hi)
#define vload_mask(p, m) fc_load_mask32(p, m)
#define vstore_mask(p, m, v) fc_store_mask32(p, m, v)
#define veven(a, b) vuzp1q_f32(a, vextq_f32(b, b, 1))
#define vor(a, b) vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)))
#define vbits(v) vreinterpretq_u32_f32(v)
#define vreal(u) vreinterpretq_f32_u32(u)
#define vadd(a, b) vaddq_f32(a, b)
#define vsub(a, b) vsubq_f32(a, b)
#define vmul(a, b) vmulq_f32(a, b)
#define vdiv(a, b) vdivq_f32(a, b)
#define vsqrt(a) vsqrtq_f32(a)
#define vfma(a, b, c) vfmaq_f32(c, a, b)
#define vmax(a, b) vmaxq_f32(a, b)
#define vmin(a, b) vminq_f32(a, b)
#define vgt(a, b) vcgtq_f32(a, b)
#define veq(a, b) vceqq_f32(a, b)
#define vunordered(a, b) (~(vceqq_f32(a, a) & vceqq_f32(b, b)))
#define vselect(m, a, b) vbslq_f32(m, a, b)
#define vonly(m, a) vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a)))
#define vexcept(m, a) vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), m))
#define vany(m) (vmaxvq_u32(m) != 0)
#define vsum(v) vaddvq_f32(v)
#define vmost(v) vmaxvq_f32(v)
#define vevens(a, b) vuzp1q_f32(a, b)
#define vlookup(a, b, p) fc_lookup32(a, b, p)
#define vstream(p, v) vstore(p, v)
#define vpast(p, v) vstore(p, v)
#define vfence() ((void)0)
#define vtranspose(r) fc_transpose32(r)
#define dload(p) vcvt_f64_f32(vld1_f32(p))
#define dload_some(p, n) vsetq_lane_f64((double)*(p), vdupq_n_f64(0), 0)
#define dstore(p, v) vst1_f32(p, vcvt_f32_f64(v))
#include "bodies.h"

#define DTYPE f64
#define T double
#define V float64x2_t
#define VU uint64x2_t
#define VM uint64x2_t
#define VL 2
#define MR 6
#define NV 4
#define KC 256
#define MC 96
#define vzero() vdupq_n_f64(0)
#define vset1(x) vdupq_n_f64(x)
#define vload(p) vld1q_f64(p)
#define vstore(p, v) vst1q_f64(p, v)
#define vmask(lo, hi) fc_mask64(lo, hi)
#define vload_mask(p, m) fc_load_mask64(p, m)
#define vstore_mask(p, m, v) fc_store_mask64(p, m, v)
#define veven(a, b) vuzp1q_f64(a, vextq_f64(b, b, 1))
#define vor(a, b) vreinterpretq_f64_u64(vorrq_u64(vreinterpretq_u64_f64(a), vreinterpretq_u64_f64(b)))
#define vbits(v) vreinterpretq_u64_f64(v)
#define vreal(u) vreinterpretq_f64_u64(u)
#define vadd(a, b) vaddq_f64(a, b)
#define vsub(a, b) vsubq_f64(a, b)
#define vmul(a, b) vmulq_f64(a, b)
#define vdiv(a, b) vdivq_f64(a, b)
#define vsqrt(a) vsqrtq_f64(a)
#define vfma(a, b, c) vfmaq_f64(c, a, b)
#define vmax(a, b) vmaxq_f64(a, b)
#define vmin(a, b) vminq_f64(a, b)
#define vgt(a, b) vcgtq_f64(a, b)
#define veq(a, b) vceqq_f64(a, b)
#define vunordered(a, b) (~(vceqq_f64(a, a) & vceqq_f64(b, b)))
#define vselect(m, a, b) vbslq_f64(m, a, b)
#define vonly(m, a) vreinterpretq_f64_u64(vandq_u64(m, vreinterpretq_u64_f64(a)))
#define vexcept(m, a) vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(a), m))
#define vany(m) (vmaxvq_u32(vreinterpretq_u32_u64(m)) != 0)
#define vsum(v) vaddvq_f64(v)
#define vmost(v) vmaxvq_f64(v)
#define vevens(a, b) vuzp1q_f64(a, b)
#define vlookup(a, b, p) fc_lookup64(a, b, p)
#define vstream(p, v) vstore(p, v)
#define vpast(p, v) vstore(p, v)
#define vfence() ((void)0)
#define vtranspose(r) fc_transpose64(r)
#define dload(p) dget(p)
#define dload_some(p, n) vsetq_lane_f64(*(p), vdupq_n_f64(0), 0)
#define dstore(p, v) dput(p, v)
#include "bodies.h"
#else
typedef int fc_not_for_this_machine;
#endif
