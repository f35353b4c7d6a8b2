/* Where padding's elements come from, one by one, for the drivers. */
#ifndef PADDING_H
#define PADDING_H

#include "fastconv.h"

/* The position in an axis of so many elements that position p of its padded axis, from -before on, has; -1: none. */
static inline int64_t padded_from(int mode, int64_t p, int64_t size) {
  if (mode == FC_PAD_CIRCULAR) return ((p % size) + size) % size;
  if (mode == FC_PAD_REPLICATE && p < 0) return 0;
  if (mode == FC_PAD_REPLICATE && p >= size) return size - 1;
  for (int turns = 0; mode == FC_PAD_REFLECT && (p < 0 || p >= size) && turns < 2; turns++) p = p < 0 ? -p : 2 * size - 2 - p;
  return p < 0 || p >= size ? -1 : p;
}

#endif
