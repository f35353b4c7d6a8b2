/* What pool/plan.c and kernels/pool*.inc agree on.
 *
 * Every pooling, in either direction, makes the elements of a target out of windows of a source: a maximum, or a sum.
 * The gradient of a sum or an average is again sums of windows: of the outputs that an input position took part in.
 * Windows are ranges in each dimension, so rows are reduced first, whole vectors of them, into one row; then that row. */
#ifndef FC_POOL_H
#define FC_POOL_H

#include <stdint.h>

enum {
  FC_POOL_MAXIMUM,
  FC_POOL_ARGMAX,              /* and where it was */
  FC_POOL_TOTAL,
  FC_POOL_SHARES,              /* a total of source elements, each divided by its own share first */
  FC_POOL_LONG,                /* one of the last two, of so many elements that what rounding loses is summed, too */
};

/* What the lanes of a vector are, and what is done with them. */
enum {
  FC_POOL_EVEN_COLUMNS,        /* columns of one channel, whose windows lie a step of 1 or 2 apart */
  FC_POOL_COLUMNS,             /* columns of one channel */
  FC_POOL_PLANES,              /* columns of one channel, all of which become one element: a maximum or a total */
  FC_POOL_SPREAD,              /* columns of one channel, all of which are one and the same element */
  FC_POOL_CHANNELS,            /* channels, next to each other in the source; large windows */
  FC_POOL_BOX,                 /* columns, or channels: large windows that lie evenly, by sliding ones */
  FC_POOL_POSITIONS,           /* channels; every position of a window is added at once, without a row in between */
};

/* Taps that are reduced at once: a window of 3 x 3. */
#define FC_POOL_GROUP 9

/* Numbers that a sum adds one after the other without a look at what rounding loses. */
#define FC_POOL_ADDITIONS 32

/* One dimension. Target position i reduces the source positions from[i], from[i] + dil, ... below to[i]. */
typedef struct fc_pool_axis {
  int64_t source, target, dil;
  const int64_t *from, *to;
  const double *divisor;       /* of each target position, if it divides: the result by the product over the dimensions */
  const double *share;         /* of each source position, for FC_POOL_SHARES, else NULL */
} fc_pool_axis;

/* The windows that each source position is in: from[i] to to[i]. */
typedef struct fc_pool_around {
  const int64_t *from, *to;
} fc_pool_around;

/* A dimension whose window o has `taps` positions from o step - pad on, in the padding perhaps; step is 0 if not so. */
typedef struct fc_pool_even {
  int64_t step, pad, taps;
} fc_pool_even;

/* Rows row0 to row1 (of depth times height) and columns col0 to col1 of some units: blocks of channels of an image.
 * Pointers are to the first element of whole arrays, strides over (n, channel, d, h, w). */
typedef struct fc_pool_tile {
  int op, divide, form;
  int64_t channels, lanes, blocks; /* lanes channels a block; 1 where lanes of vectors are columns */
  int64_t unit0, unit1, row0, row1, col0, col1;
  fc_pool_axis axis[3];
  fc_pool_even even[3];
  fc_pool_around around[3];    /* with indices and grad */
  int64_t most_rows, most_taps; /* source rows of a target row, columns of a window */
  const void *source;
  void *target;                /* FC_POOL_ARGMAX: may be NULL */
  int64_t *indices;            /* NULL if maxima are not located */
  const void *dy;              /* with grad, of which the elements at the maxima += dy; strides are the target's */
  void *grad;
  int stream;                  /* grad is so large that its rows had better go past the caches */
  int *wrong;                  /* set to 1 if given indices are not positions of grad */
  int64_t *givers;             /* how many of them are positions of their own windows is added to it */
  int partition;               /* every position of grad is in one window */
  const int64_t *source_stride, *target_stride, *index_stride, *grad_stride;
  int64_t span;                /* elements of a row buffer */
  int64_t chunk, pitch;        /* FC_POOL_EVEN_COLUMNS: rows that it has at most, elements from one to the next */
  void *work;
} fc_pool_tile;

/* Positions of some channels: planes, and the same as a strip of rows of lanes, which are whole vectors. */
typedef struct fc_pool_strip {
  void *planes, *strip;
  int64_t count, plane;        /* positions; elements from plane to plane */
  int64_t lanes, pitch;        /* of a row: those that exist, those that have room */
} fc_pool_strip;

/* Elements of a position of a box: one column, or whole vectors of channels. */
static inline int64_t fc_pool_pitch(int64_t lanes, int64_t vl) { return lanes == 1 ? 1 : (lanes + vl - 1) / vl * vl; }

/* The source positions that some target positions read are in [*first, *end). */
static inline void fc_pool_reach(const fc_pool_axis *a, int64_t target0, int64_t target1, int64_t *first, int64_t *end) {
  *first = a->from[target0];
  *end = a->to[target0];
  for (int64_t i = target0 + 1; i < target1; i++) {
    *first = a->from[i] < *first ? a->from[i] : *first;
    *end = a->to[i] > *end ? a->to[i] : *end;
  }
}

#endif
