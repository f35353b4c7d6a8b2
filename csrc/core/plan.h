/* A plan as core/plan.c sees it, whatever it computes. */
#ifndef FC_PLAN_H
#define FC_PLAN_H

#include "fastconv.h"

/* What an operator does with plans of its own. core/plan.c has checked what it hands over: the arrays that the plan needs are
 * there, the workspace is aligned to FC_ALIGN, and there are 1 to FC_MOST_THREADS threads. */
typedef struct fc_operator {
  void (*destroy)(fc_plan *plan);
  int (*run)(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads);
  /* Bytes of scratch, FC_ALIGN more than that of an aligned workspace; NULL where there is none. */
  int64_t (*workspace)(const fc_plan *plan, int nthreads, int packed);
  /* packed has any alignment. NULL where weights are taken as they are. */
  int (*pack)(const fc_plan *plan, const void *w, void *packed, int nthreads);
} fc_operator;

/* The first member of every operator's plan, which its constructor fills. */
struct fc_plan {
  const fc_operator *does;
  const char *algorithm;
  unsigned needs;             /* slots of the arrays that a run must have, a bit each */
  int serial;                 /* a second thread costs more than it brings */
  int64_t packed_bytes;       /* 0: weights are taken as they are */
  int64_t limit;              /* of the workspace, which threads are left out for; 0: none */
};

#define FC_BIT(slot) (1u << (slot))

#endif
