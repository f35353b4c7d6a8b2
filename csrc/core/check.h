/* What every planner asks of the numbers that it is handed, before it computes with them. */
#ifndef FC_CHECK_H
#define FC_CHECK_H

#include "kernels/kernels.h"

/* Sizes, steps and positions are at most this, products of sizes too: sums and products of two then fit into 64 bits, and
 * what is kept in 32 bits loses nothing. */
#define FC_MOST INT32_MAX

static inline int fc_between(int64_t v, int64_t low, int64_t high) { return low <= v && v <= high; }

/* The product of n sizes of at least 1, or 0 if one is not, or if it exceeds FC_MOST. */
static inline int64_t fc_elements(const int64_t *sizes, int n) {
  int64_t product = 1;
  for (int i = 0; i < n; i++) {
    if (!fc_between(sizes[i], 1, FC_MOST) || product > FC_MOST / sizes[i]) return 0;
    product *= sizes[i];
  }
  return product;
}

/* Elements between the first and the last element of an array at most: what is further away is no memory. A tile's steps
 * beyond the last still fit into 64 bits, in bytes, too. */
#define FC_FARTHEST (INT64_C(1) << 50)

/* Do n strides make an array of these sizes, of 0 to FC_MOST? Along a size of 0 or 1 nobody steps: its stride may be anything,
 * and one that is out of range becomes 0, so that it can be computed with. */
static inline int fc_settle(int64_t *strides, const int64_t *sizes, int n) {
  int64_t reach = 0;
  for (int i = 0; i < n; i++) {
    int64_t length = 0;
    if (sizes[i] <= 1) {
      if (!fc_between(strides[i], -FC_FARTHEST, FC_FARTHEST)) strides[i] = 0;
    } else if (__builtin_mul_overflow(strides[i], sizes[i] - 1, &length) || !fc_between(length, -FC_FARTHEST, FC_FARTHEST)) {
      return 0;
    }
    reach += length < 0 ? -length : length;
  }
  return reach <= FC_FARTHEST;
}

/* May they be a result's, of which no two elements may share a place? As far as strides of 0 show it. */
static inline int fc_apart(const int64_t *strides, const int64_t *sizes, int n) {
  for (int i = 0; i < n; i++)
    if (sizes[i] > 1 && strides[i] == 0) return 0;
  return 1;
}

/* Bytes of a number. */
static inline int64_t fc_bytes(int type) {
  static const int64_t bytes[] = {[FC_F32] = 4, [FC_F64] = 8, [FC_F16] = 2, [FC_BF16] = 2,
                                  [FC_I8] = 1,  [FC_U8] = 1,  [FC_I32] = 4};
  return bytes[type];
}

/* Finds the kernels of an instruction set for these types. Each planner asks this first. */
static inline int fc_find_kernels(const fc_kernels **kernels, int isa, const fc_types *types) {
  const int type[] = {types->x, types->w, types->acc, types->y};
  int unlike = 0;
  for (int i = 0; i < 4; i++) {
    if (!fc_between(type[i], FC_F32, FC_I32)) return FC_ERROR_ARGUMENT;
    unlike |= type[i] != types->acc;
  }
  if (fc_isa_reason(isa)) return FC_ERROR_ARGUMENT;
  *kernels = unlike ? 0 : fc_kernels_of(isa, types->acc);
  return *kernels ? FC_OK : FC_ERROR_UNSUPPORTED;
}

static inline int fc_act_known(const fc_act *act) { return fc_between(act->kind, FC_ACT_NONE, FC_ACT_ERF); }

#endif
