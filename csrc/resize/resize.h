/* What the parts of resizing agree on: a plan and its tables. */
#ifndef FC_RESIZE_H
#define FC_RESIZE_H

#include "core/check.h"
#include "core/plan.h"

/* Terms of a sum along w, or along the other axes together; pixels of a block of a row, and terms of their sums; bytes of its
 * source. Of rows that are sums along two axes, terms that are listed at a time, if one row has no more. */
enum { MOST_TAPS = 1 << 16, BLOCK = 256, BLOCK_TAPS = 1024, BLOCK_BYTES = 64 * 1024, LISTED = 4096 };

/* The table of an axis. */
typedef struct fc_resize_table {
  int32_t *first, *index;
  double *weight;
  int64_t most;                /* terms of a sum */
} fc_resize_table;

/* Pixels of a row of the result, and what of its source's row they read: pixels that are neighbours, from low on, or those that
 * are so many elements after the first. Of lines, the number of the first vector of elements. */
typedef struct fc_resize_block {
  int64_t begin, count, low, used, vector;
  const int64_t *at;
} fc_resize_block;

/* Which lanes are next to each other: channels; elements of lines, which are pixels or their channels; rows, turned. */
enum { CHANNELS, LINES, ROWS };

typedef struct fc_resize_plan {
  fc_plan head;
  fc_resize_desc d;
  const fc_kernels *kn;
  int64_t es;
  int lanes_are, flat;         /* flat: positions along d are single ones of the source */
  fc_resize_table axis[3];
  int pairs;                   /* along w, positions are sums of one or two */
  void *weight, *row_weight;   /* along w and along h, of the arrays' type */
  int64_t *row_place;          /* along h, in elements */
  int32_t *local;              /* along w, the numbers of pixels among those that a block reads */
  int64_t *at;
  fc_resize_block *blocks;
  int64_t nblocks, used, row_taps; /* most pixels that a block reads; most rows that are added */
  int64_t lanes, lane_blocks, rows, rows_per_piece, pieces, pitch;
  int64_t listed, list, scratch; /* terms of listed rows; bytes for a thread: of the list; in all */
  /* Of lines: elements of a pixel that are neighbours, and vectors' terms. */
  int64_t pixel;
  int32_t *first, *lane;
  fc_resize_term *terms;
  void *lane_weight, *lanes_memory;
  int plain;
} fc_resize_plan;

/* A number of the arrays' type. */
static inline void fc_resize_put(const fc_resize_plan *p, void *weights, int64_t i, double weight) {
  if (p->es == 4)
    ((float *)weights)[i] = (float)weight;
  else
    ((double *)weights)[i] = weight;
}

/* Copies the tables of a description that is checked, and cuts rows into blocks; of rows whose elements are lanes makes the
 * tables of vectors, unless terms lie too far apart for these: then fits becomes 0. */
int fc_resize_tables(fc_resize_plan *p);
int fc_resize_line_up(fc_resize_plan *p, int *fits);
void fc_resize_forget(fc_resize_plan *p);

int fc_resize_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads);

#endif
