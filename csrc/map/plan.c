/* Elementwise functions. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"
#include "map/grid.h"

typedef struct map_plan {
  fc_plan head;
  const fc_kernels *kn;
  fc_map rows;
  fc_grid grid;               /* the result first */
  int64_t es;
} map_plan;

typedef struct map_job {
  const map_plan *plan;
  fc_map rows;                /* with the addresses of the arrays */
} map_job;

/* The slots of the operands. */
static const int slots[] = {FC_X, FC_W, FC_ADD};

static int operands_of(int op) {
  switch (op) {
  case FC_MAP_ACTIVATE:
  case FC_MAP_DROPOUT: return 1;
  case FC_MAP_SCALE_SHIFT:
  case FC_MAP_PRELU_BACKWARD:
  case FC_MAP_DIVIDE_BACKWARD:
  case FC_MAP_MAXIMUM_BACKWARD:
  case FC_MAP_MINIMUM_BACKWARD: return 3;
  default: return 2;
  }
}

/* Whether the numbers of a dropout's elements are from 0 to below 2^31. */
static int numbered(const fc_map_desc *d) {
  int64_t last = 0;
  for (int i = 0; i < d->rank; i++) {
    if (d->size[i] > 1 && d->stride[1][i] < 0) return 0;
    last += d->size[i] > 1 ? d->stride[1][i] * (d->size[i] - 1) : 0;
  }
  return last <= FC_MOST;
}

static int describe(map_plan *p, const fc_map_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  const fc_kernels *kn;
  const int status = fc_find_kernels(&kn, given->isa, &given->types);
  if (status) return status;
  if (!fc_between(given->op, FC_MAP_ACTIVATE, FC_MAP_DROPOUT) || !fc_act_known(&given->act) ||
      !fc_between(given->rank, 0, FC_GRID_RANK) || !fc_elements(given->size, given->rank))
    return FC_ERROR_ARGUMENT;
  fc_map_desc d = *given;
  *p = (map_plan){.kn = kn, .es = fc_bytes(d.types.x)};
  p->rows = (fc_map){.op = d.op, .operands = operands_of(d.op), .act = d.act};
  if (!fc_settle(d.out_stride, d.size, d.rank) || !fc_apart(d.out_stride, d.size, d.rank)) return FC_ERROR_ARGUMENT;
  /* Random numbers are numbered as if they were an operand. */
  const int dropout = d.op == FC_MAP_DROPOUT, operands = p->rows.operands + dropout;
  for (int k = 0; k < operands; k++)
    if (!fc_settle(d.stride[k], d.size, d.rank)) return FC_ERROR_ARGUMENT;
  if (dropout && !(numbered(&d) && d.p > 0 && d.p <= 1)) return FC_ERROR_ARGUMENT;
  if (dropout) {
    p->rows.dropped = (uint32_t)(ceil(d.p * 0x1p32) - 1);
    p->rows.scale = d.p < 1 ? 1 / (1 - d.p) : 0;
  }
  const int64_t *stride[] = {d.out_stride, d.stride[0], d.stride[1], d.stride[2]};
  p->grid = fc_grid_of(d.rank, d.size, 1 + operands, stride);
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const map_job *j = ctx;
  const map_plan *p = j->plan;
  const fc_part part = fc_part_of(&p->grid, index);
  fc_map t = j->rows;
  t.rows = part.rows;
  t.count = part.count;
  t.out = (char *)t.out + part.at[0] * p->es;
  t.out_step = part.step[0];
  t.out_row = part.row[0];
  for (int k = 0; k < t.operands; k++) {
    t.from[k] = (const char *)t.from[k] + part.at[1 + k] * p->es;
    t.step[k] = part.step[1 + k];
    t.row[k] = part.row[1 + k];
  }
  if (t.op == FC_MAP_DROPOUT) {
    t.place = part.at[2];
    t.place_step = part.step[2];
    t.place_row = part.row[2];
  }
  p->kn->map(&t);
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  (void)workspace;
  const map_plan *p = (const map_plan *)plan;
  map_job j = {p, p->rows};
  for (int k = 0; k < j.rows.operands; k++) j.rows.from[k] = arrays[slots[k]];
  j.rows.out = arrays[FC_OUT];
  if (j.rows.op == FC_MAP_DROPOUT) {
    memcpy(&j.rows.seed, arrays[FC_W], 8);
    memcpy(&j.rows.offset, (const char *)arrays[FC_W] + 8, 8);
  }
  return fc_parallel_for(nthreads, p->grid.pieces, piece, &j);
}

static void destroy(fc_plan *plan) { free(plan); }

static const fc_operator map = {.destroy = destroy, .run = run};

int fc_plan_map(const fc_map_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  map_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  const int status = describe(p, d);
  if (status) {
    free(p);
    return status;
  }
  p->head = (fc_plan){
      .does = &map, .algorithm = "elementwise", .needs = FC_BIT(FC_OUT), .serial = fc_elements(d->size, d->rank) < FC_SERIAL_MAP};
  for (int k = 0; k < p->rows.operands + (p->rows.op == FC_MAP_DROPOUT); k++) p->head.needs |= FC_BIT(slots[k]);
  *plan = &p->head;
  return FC_OK;
}
