/* Elementwise functions: which dimensions are one, and who computes which part of them. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"

/* Elements below which a call runs on its caller alone, and those of a piece: what two threads share has to be worth waking one.
 */
#ifndef FC_SERIAL_MAP
#define FC_SERIAL_MAP (64 * 1024)
#endif
#define FC_PIECE_MAP (32 * 1024)

enum { RANK = 8, ARRAYS = 4 };

/* Dimensions in the order of the result's strides, the longest first, those that adjoin in all arrays as one. */
typedef struct map_plan {
  fc_plan head;
  const fc_kernels *kn;
  fc_map rows;
  int rank;
  int64_t size[RANK], stride[ARRAYS][RANK]; /* the result's first */
  int64_t piece_rows, piece_count, pieces_of_rows, pieces_of_count, pieces, es;
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

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* Dimensions of one element are left out; whether one after the other are one. */
static void add_dimension(map_plan *p, int64_t size, const int64_t stride[ARRAYS]) {
  const int last = p->rank - 1;
  int adjoins = last >= 0;
  for (int k = 0; k < ARRAYS && adjoins; k++) adjoins = p->stride[k][last] == stride[k] * size;
  if (adjoins)
    p->size[last] *= size;
  else
    p->size[p->rank++] = size;
  for (int k = 0; k < ARRAYS; k++) p->stride[k][p->rank - 1] = stride[k];
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
      !fc_between(given->rank, 0, RANK) || !fc_elements(given->size, given->rank))
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
  int order[RANK], rank = 0;
  for (int i = 0; i < d.rank; i++) {
    if (d.size[i] == 1) continue;
    int at = rank++;
    for (; at > 0 && distance(d.out_stride[order[at - 1]]) < distance(d.out_stride[i]); at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int i = 0; i < rank; i++) {
    int64_t stride[ARRAYS] = {d.out_stride[order[i]]};
    for (int k = 0; k < operands; k++) stride[1 + k] = d.stride[k][order[i]];
    add_dimension(p, d.size[order[i]], stride);
  }
  static const int64_t still[ARRAYS] = {0};
  if (p->rank < 1) add_dimension(p, 1, still);
  /* Rows and what is in them are the last two dimensions; of a single one, parts are rows. */
  const int64_t count = p->size[p->rank - 1], rows = p->rank > 1 ? p->size[p->rank - 2] : 1;
  int64_t outer = 1;
  for (int i = 0; i < p->rank - 2; i++) outer *= p->size[i];
  p->piece_count = fc_min(count, FC_PIECE_MAP);
  p->piece_rows = fc_min(rows, fc_max(1, FC_PIECE_MAP / count));
  p->pieces_of_count = fc_div_up(count, p->piece_count);
  p->pieces_of_rows = fc_div_up(rows, p->piece_rows);
  p->pieces = outer * p->pieces_of_rows * p->pieces_of_count;
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const map_job *j = ctx;
  const map_plan *p = j->plan;
  const int columns = p->rank - 1, lines = p->rank - 2;
  fc_map t = j->rows;
  const int64_t count0 = index % p->pieces_of_count * p->piece_count;
  index /= p->pieces_of_count;
  const int64_t row0 = index % p->pieces_of_rows * p->piece_rows;
  index /= p->pieces_of_rows;
  t.count = fc_min(p->piece_count, p->size[columns] - count0);
  t.rows = lines < 0 ? 1 : fc_min(p->piece_rows, p->size[lines] - row0);
  int64_t at[ARRAYS];
  for (int k = 0; k < ARRAYS; k++) {
    at[k] = count0 * p->stride[k][columns] + (lines < 0 ? 0 : row0 * p->stride[k][lines]);
    int64_t rest = index;
    for (int i = lines - 1; i >= 0; rest /= p->size[i], i--) at[k] += rest % p->size[i] * p->stride[k][i];
  }
  t.out = (char *)t.out + at[0] * p->es;
  t.out_step = p->stride[0][columns];
  t.out_row = lines < 0 ? 0 : p->stride[0][lines];
  for (int k = 0; k < t.operands; k++) {
    t.from[k] = (const char *)t.from[k] + at[1 + k] * p->es;
    t.step[k] = p->stride[1 + k][columns];
    t.row[k] = lines < 0 ? 0 : p->stride[1 + k][lines];
  }
  if (t.op == FC_MAP_DROPOUT) {
    t.place = at[2];
    t.place_step = p->stride[2][columns];
    t.place_row = lines < 0 ? 0 : p->stride[2][lines];
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
  return fc_parallel_for(nthreads, p->pieces, piece, &j);
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
