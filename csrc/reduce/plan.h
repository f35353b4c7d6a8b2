/* What the files of reductions share: the plan. A unit is some results along one axis, side by side in vectors where they are
 * neighbours in memory, one where it reduces many elements; pieces are units, or slices of one where there are few. */
#ifndef FC_REDUCE_PLAN_H
#define FC_REDUCE_PLAN_H

#include "core/plan.h"
#include "kernels/kernels.h"

enum {
  ARRAYS = 11,                 /* slots */
  AXES = 8,
  RESULT = 6,                  /* the array that has all axes */
  KEPT = 8,                    /* the first of those that have the axes that are kept */
  PLACES = 9,
  BLOCK_BYTES = 32 * 1024,     /* of an operand in a block */
};

typedef struct axis {
  int64_t size, weight; /* weight: what a step adds to the place of a maximum */
  int64_t stride[ARRAYS];
} axis;

typedef struct reduce_plan {
  fc_plan head;
  fc_reduce_desc d;
  const fc_kernels *kn;
  int64_t es;
  int arrays, array[ARRAYS]; /* those that are present */
  int copied; /* bits of those whose elements become neighbours first */
  int nkept, nreduced; /* outer ones, without lane and leaf */
  axis kept[AXES], reduced[AXES], lane, leaf;
  int each; /* what is made of each element, or -1 */
  int across; /* vectors run along lane; else along leaf, of one result of lane after another */
  int keeps; /* a unit is one block, whose exponentials its result keeps until their sum is known */
  int64_t lanes, chunks; /* of a unit; units that lane is cut into */
  int64_t pitch; /* numbers of all its lanes, and room for a vector */
  int64_t units, total; /* elements that each result reduces */
  int64_t block, rows; /* elements of leaf in a block; rows of all of them, of the axis around leaf */
  int64_t slices, slice, units_per_piece, pieces;
} reduce_plan;

static inline int extreme(const fc_reduce_desc *d) { return d->kind == FC_MAX_OVER || d->kind == FC_MIN_OVER; }

static inline int locates(const fc_reduce_desc *d) { return extreme(d) && d->present >> PLACES & 1; }

/* reduce/run.c */
int fc_reduce_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads);
int64_t fc_reduce_workspace(const fc_plan *plan, int nthreads, int packed);

#endif
