/* Losses, their sums and their gradients: one pass over x, its targets, and their factors. */
#include "core/plan.h"
#include "core/threads.h"
#include "map/grid.h"

enum { WEIGHT = 2, POSITIVE = 3, Y = 4, DX = 5, ARRAYS = 6 };

typedef struct loss_plan {
  fc_plan head;
  const fc_kernels *kn;
  fc_grid grid;               /* of the result, if it has all elements, and of the operands */
  int array[ARRAYS];          /* which those are */
  int kind, reduced;
  double p0, divisor;
  int64_t es;
} loss_plan;

typedef struct loss_job {
  const loss_plan *plan;
  void *const *arrays;
  double *sums;               /* of the pieces */
  int outside;
} loss_job;

static const int slots[ARRAYS] = {FC_X, FC_TARGET, FC_FIRST, FC_SECOND, FC_Y, FC_DX};

static int settle(const fc_loss_desc *d) {
  const int classes = d->kind == FC_LOSS_CLASSES;
  return fc_between(d->kind, FC_LOSS_MSE, FC_LOSS_CLASSES) && fc_between(d->direction, classes, FC_BWD_INPUT) &&
         fc_between(d->reduced, 0, d->direction == FC_FWD) &&
         fc_between(d->factors, classes ? 2 : 0, classes || d->kind == FC_LOSS_BINARY_LOGITS ? 3 : 1) &&
         fc_between(d->rank, 0, FC_GRID_RANK) && fc_elements(d->size, d->rank) && d->p0 >= 0 &&
         (d->kind != FC_LOSS_HUBER || d->p0 > 0);
}

static int describe(loss_plan *p, const fc_loss_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  const fc_kernels *kn;
  const int status = fc_find_kernels(&kn, given->isa, &given->types);
  if (status) return status;
  if (!settle(given)) return FC_ERROR_ARGUMENT;
  fc_loss_desc d = *given;
  *p = (loss_plan){.kn = kn, .kind = d.kind, .reduced = d.reduced, .p0 = d.p0, .divisor = d.divisor, .es = fc_bytes(d.types.x)};
  p->head = (fc_plan){.algorithm = "elementwise", .serial = fc_elements(d.size, d.rank) < FC_SERIAL_MAP};
  const int result = d.direction == FC_FWD ? Y : DX;
  const int64_t *stride[ARRAYS];
  int arrays = 0;
  for (int i = 0; i < ARRAYS; i++) {
    const int a = i == 0 ? result : i <= result ? i - 1 : i; /* the result first, whose order counts */
    if ((a == WEIGHT && !(d.factors & 1)) || (a == POSITIVE && !(d.factors & 2)) || (a == DX && result != DX)) continue;
    p->head.needs |= FC_BIT(slots[a]);
    if (a == result && d.reduced) continue;
    if (!fc_settle(d.stride[a], d.size, d.rank) || (a == result && !fc_apart(d.stride[a], d.size, d.rank)))
      return FC_ERROR_ARGUMENT;
    p->array[arrays] = a;
    stride[arrays++] = d.stride[a];
  }
  p->grid = fc_grid_of(d.rank, d.size, arrays, stride);
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  loss_job *j = ctx;
  const loss_plan *p = j->plan;
  const fc_part part = fc_part_of(&p->grid, index);
  fc_loss t = {.kind = p->kind, .p0 = p->p0, .rows = part.rows, .count = part.count};
  for (int k = 0; k < p->grid.arrays; k++) {
    const int a = p->array[k];
    char *at = (char *)j->arrays[slots[a]] + part.at[k] * p->es;
    if (k == 0 && !p->reduced) {
      t.out = at;
      t.out_row = part.row[k];
      t.out_step = part.step[k];
    } else {
      t.from[a] = at;
      t.row[a] = part.row[k];
      t.step[a] = part.step[k];
    }
  }
  p->kn->loss(&t);
  if (p->reduced) j->sums[index] = t.sum;
  if (t.outside) __atomic_store_n(&j->outside, 1, __ATOMIC_RELAXED);
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const loss_plan *p = (const loss_plan *)plan;
  loss_job j = {.plan = p, .arrays = arrays, .sums = workspace};
  const int status = fc_parallel_for(nthreads, p->grid.pieces, piece, &j);
  if (status || j.outside) return status ? status : FC_ERROR_ARGUMENT;
  if (!p->reduced) return FC_OK;
  double sum = 0;
  for (int64_t i = 0; i < p->grid.pieces; i++) sum += j.sums[i];
  if (p->es == 4)
    *(float *)arrays[FC_Y] = (float)(sum / p->divisor);
  else
    *(double *)arrays[FC_Y] = sum / p->divisor;
  return FC_OK;
}

static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)nthreads;
  (void)packed;
  const loss_plan *p = (const loss_plan *)plan;
  return p->reduced ? p->grid.pieces * (int64_t)sizeof(double) + FC_ALIGN : 0;
}

static void destroy(fc_plan *plan) { free(plan); }

/* Only sums of pieces are kept anywhere. */
static const fc_operator loss = {.destroy = destroy, .run = run}, sum = {.destroy = destroy, .run = run, .workspace = workspace};

int fc_plan_loss(const fc_loss_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  loss_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  const int status = describe(p, d);
  if (status) {
    free(p);
    return status;
  }
  p->head.does = p->reduced ? &sum : &loss;
  *plan = &p->head;
  return FC_OK;
}
