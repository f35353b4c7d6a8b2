/* Steps of optimizers: one pass over a parameter, its gradient and what is remembered of earlier ones. */
#include "core/plan.h"
#include "core/threads.h"
#include "map/grid.h"

enum { GRADIENT = 1, REMEMBERED = 2, ARRAYS = FC_UPDATE_ARRAYS };

typedef struct update_plan {
  fc_plan head;
  const fc_kernels *kn;
  fc_grid grid;               /* of the arrays that are there, the parameter first */
  int array[ARRAYS];          /* which those are */
  int rule, nesterov;
  int64_t es;
} update_plan;

typedef struct update_job {
  const update_plan *plan;
  void *const *arrays;
} update_job;

static const int slots[ARRAYS] = {FC_OUT, FC_X, FC_FIRST, FC_SECOND, FC_THIRD};

/* What each rule remembers, by bits: what it needs, and what it takes. */
static const struct {
  int needed, allowed;
} rules[] = {
    [FC_UPDATE_SGD] = {0, 1},
    [FC_UPDATE_ADAM] = {3, 3},
    [FC_UPDATE_RMSPROP] = {1, 7},
};

static int describe(update_plan *p, const fc_update_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  const fc_kernels *kn;
  const int status = fc_find_kernels(&kn, given->isa, &given->types);
  if (status) return status;
  if (!fc_between(given->rule, FC_UPDATE_SGD, FC_UPDATE_RMSPROP) ||
      !fc_between(given->nesterov, 0, given->rule == FC_UPDATE_SGD && given->remembered) ||
      (given->remembered & rules[given->rule].needed) != rules[given->rule].needed ||
      given->remembered & ~rules[given->rule].allowed || !fc_between(given->rank, 0, FC_GRID_RANK) ||
      !fc_elements(given->size, given->rank))
    return FC_ERROR_ARGUMENT;
  fc_update_desc d = *given;
  *p = (update_plan){.kn = kn, .rule = d.rule, .nesterov = d.nesterov, .es = fc_bytes(d.types.x)};
  p->head = (fc_plan){
      .algorithm = "elementwise", .needs = FC_BIT(FC_NUMBERS), .serial = fc_elements(d.size, d.rank) < FC_SERIAL_MAP};
  const int64_t *stride[ARRAYS];
  int arrays = 0;
  for (int a = 0; a < ARRAYS; a++) {
    if (a >= REMEMBERED && !(d.remembered >> (a - REMEMBERED) & 1)) continue;
    if (!fc_settle(d.stride[a], d.size, d.rank) || (a != GRADIENT && !fc_apart(d.stride[a], d.size, d.rank)))
      return FC_ERROR_ARGUMENT;
    p->head.needs |= FC_BIT(slots[a]);
    p->array[arrays] = a;
    stride[arrays++] = d.stride[a];
  }
  p->grid = fc_grid_of(d.rank, d.size, arrays, stride);
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const update_job *j = ctx;
  const update_plan *p = j->plan;
  const fc_part part = fc_part_of(&p->grid, index);
  fc_update t = {
      .rule = p->rule, .nesterov = p->nesterov, .numbers = j->arrays[FC_NUMBERS], .rows = part.rows, .count = part.count};
  for (int k = 0; k < p->grid.arrays; k++) {
    const int a = p->array[k];
    t.array[a] = (char *)j->arrays[slots[a]] + part.at[k] * p->es;
    t.row[a] = part.row[k];
    t.step[a] = part.step[k];
  }
  p->kn->update(&t);
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  (void)workspace;
  const update_plan *p = (const update_plan *)plan;
  update_job j = {p, arrays};
  return fc_parallel_for(nthreads, p->grid.pieces, piece, &j);
}

static void destroy(fc_plan *plan) { free(plan); }

static const fc_operator update = {.destroy = destroy, .run = run};

int fc_plan_update(const fc_update_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  update_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  const int status = describe(p, d);
  if (status) {
    free(p);
    return status;
  }
  p->head.does = &update;
  *plan = &p->head;
  return FC_OK;
}
