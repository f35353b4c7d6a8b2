/* What the files of pooling share: the plan, and how a call of it is cut. */
#ifndef FC_POOL_PLAN_H
#define FC_POOL_PLAN_H

#include "core/plan.h"
#include "core/threads.h"
#include "kernels/kernels.h"

typedef struct fc_pool_plan {
  fc_plan head;
  fc_pool_desc d;
  const fc_kernels *kn;
  int64_t es;
  fc_pool_axis axis[3];
  fc_pool_even even[3];
  int op, divide, partition;
  int64_t most_rows, most_taps;
  fc_pool_around around[3];    /* of a maximum's gradient */
  int64_t most_around;         /* rows of windows that reach a row of dx, if dx can be gathered, else 0 */
  int64_t plane;               /* height times width of a source whose planes become one element, else 0 */
  int spread;                  /* planes of the target are made of one element each */
  void *tables[3];             /* of each axis */
} fc_pool_plan;

/* How one call is cut: units are blocks of channels of an image; a piece is some units, or some rows of one. */
typedef struct fc_pool_cut {
  int form;
  int lengthy;                 /* FC_POOL_LONG */
  void (*gradient)(const fc_pool_tile *t); /* of maxima, in rows of dx */
  fc_pool_axis axis[3];
  int64_t lanes, blocks, most_rows, units, units_per_piece, rows, rows_per_piece, pieces, columns, span, scratch;
  int64_t chunk, pitch;
  int strips;                  /* channels come next to each other first: a piece is a plan of its own */
} fc_pool_cut;

static inline int fc_pool_forward_like(const fc_pool_plan *p) { return p->d.kind == FC_MAX || p->d.direction == FC_FWD; }

static inline int64_t fc_pool_positions(const int64_t size[3]) { return size[0] * size[1] * size[2]; }

/* pool/cut.c: how a call is cut for so many threads; into rows of windows one after the other, whatever else would pay;
 * whether a gradient of maxima is gathered, of which what is left is scattered by rows. */
fc_pool_cut fc_pool_cut_call(const fc_pool_plan *p, int nthreads);
fc_pool_cut fc_pool_cut_rows(const fc_pool_plan *p, int nthreads);
int fc_pool_gathers(const fc_pool_plan *p);

/* The same problem of `lanes` channels of one image, which lie next to each other in arrays of their own. */
fc_pool_plan fc_pool_strip_plan(const fc_pool_plan *p, int64_t lanes);

/* pool/run.c */
int fc_pool_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads);

#endif
