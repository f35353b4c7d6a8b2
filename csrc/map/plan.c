/* Elementwise functions: which dimensions are one, and who computes which part of them. */
#include "core/check.h"
#include "core/threads.h"

/* Elements below which a call runs on its caller alone, and those of a piece: what two threads share has to be worth waking one.
 */
#ifndef FC_SERIAL_MAP
#define FC_SERIAL_MAP (64 * 1024)
#endif
#define FC_PIECE_MAP (32 * 1024)

enum { RANK = 8, ARRAYS = 4 };

/* Dimensions in the order of the result's strides, the longest first, those that adjoin in all arrays as one. */
typedef struct map_job {
  const fc_kernels *kn;
  fc_map rows;
  int rank;
  int64_t size[RANK], stride[ARRAYS][RANK]; /* the result's first */
  int64_t piece_rows, piece_count, pieces_of_rows, pieces_of_count, pieces, es;
} map_job;

static int operands_of(int op) {
  switch (op) {
  case FC_MAP_ACTIVATE: return 1;
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
static void add_dimension(map_job *j, int64_t size, const int64_t stride[ARRAYS]) {
  const int last = j->rank - 1;
  int adjoins = last >= 0;
  for (int k = 0; k < ARRAYS && adjoins; k++) adjoins = j->stride[k][last] == stride[k] * size;
  if (adjoins)
    j->size[last] *= size;
  else
    j->size[j->rank++] = size;
  for (int k = 0; k < ARRAYS; k++) j->stride[k][j->rank - 1] = stride[k];
}

static int prepare(map_job *j, const fc_map_desc *given) {
  if (!given || !fc_kernels_of(given->isa, given->dtype) || !fc_between(given->op, FC_MAP_ACTIVATE, FC_MAP_MINIMUM_BACKWARD) ||
      !fc_act_known(&given->act) || !fc_between(given->rank, 0, RANK) || !fc_elements(given->size, given->rank))
    return FC_ERROR_ARGUMENT;
  fc_map_desc d = *given;
  *j = (map_job){.kn = fc_kernels_of(d.isa, d.dtype), .es = d.dtype == FC_F32 ? 4 : 8};
  j->rows = (fc_map){.op = d.op, .operands = operands_of(d.op), .act = d.act};
  if (!fc_settle(d.out_stride, d.size, d.rank) || !fc_apart(d.out_stride, d.size, d.rank)) return FC_ERROR_ARGUMENT;
  for (int k = 0; k < j->rows.operands; k++)
    if (!fc_settle(d.stride[k], d.size, d.rank)) return FC_ERROR_ARGUMENT;
  int order[RANK], rank = 0;
  for (int i = 0; i < d.rank; i++) {
    if (d.size[i] == 1) continue;
    int at = rank++;
    for (; at > 0 && distance(d.out_stride[order[at - 1]]) < distance(d.out_stride[i]); at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int i = 0; i < rank; i++) {
    int64_t stride[ARRAYS] = {d.out_stride[order[i]]};
    for (int k = 0; k < j->rows.operands; k++) stride[1 + k] = d.stride[k][order[i]];
    add_dimension(j, d.size[order[i]], stride);
  }
  static const int64_t still[ARRAYS] = {0};
  if (j->rank < 1) add_dimension(j, 1, still);
  /* Rows and what is in them are the last two dimensions; of a single one, parts are rows. */
  const int64_t count = j->size[j->rank - 1], rows = j->rank > 1 ? j->size[j->rank - 2] : 1;
  int64_t outer = 1;
  for (int i = 0; i < j->rank - 2; i++) outer *= j->size[i];
  j->piece_count = fc_min(count, FC_PIECE_MAP);
  j->piece_rows = fc_min(rows, fc_max(1, FC_PIECE_MAP / count));
  j->pieces_of_count = fc_div_up(count, j->piece_count);
  j->pieces_of_rows = fc_div_up(rows, j->piece_rows);
  j->pieces = outer * j->pieces_of_rows * j->pieces_of_count;
  return FC_OK;
}

static void piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const map_job *j = ctx;
  const int columns = j->rank - 1, lines = j->rank - 2;
  fc_map t = j->rows;
  const int64_t count0 = index % j->pieces_of_count * j->piece_count;
  index /= j->pieces_of_count;
  const int64_t row0 = index % j->pieces_of_rows * j->piece_rows;
  index /= j->pieces_of_rows;
  t.count = fc_min(j->piece_count, j->size[columns] - count0);
  t.rows = lines < 0 ? 1 : fc_min(j->piece_rows, j->size[lines] - row0);
  int64_t at[ARRAYS];
  for (int k = 0; k < ARRAYS; k++) {
    at[k] = count0 * j->stride[k][columns] + (lines < 0 ? 0 : row0 * j->stride[k][lines]);
    int64_t rest = index;
    for (int i = lines - 1; i >= 0; rest /= j->size[i], i--) at[k] += rest % j->size[i] * j->stride[k][i];
  }
  t.out = (char *)t.out + at[0] * j->es;
  t.out_step = j->stride[0][columns];
  t.out_row = lines < 0 ? 0 : j->stride[0][lines];
  for (int k = 0; k < t.operands; k++) {
    t.from[k] = (const char *)t.from[k] + at[1 + k] * j->es;
    t.step[k] = j->stride[1 + k][columns];
    t.row[k] = lines < 0 ? 0 : j->stride[1 + k][lines];
  }
  j->kn->map(&t);
}

int fc_map_threads(const fc_map_desc *d, int nthreads) {
  if (!d || !fc_between(d->rank, 0, RANK) || fc_elements(d->size, d->rank) < FC_SERIAL_MAP) return 1;
  return fc_usable_threads(nthreads);
}

int fc_map_run(const fc_map_desc *d, const void *first, const void *second, const void *third, void *out, int nthreads) {
  map_job j;
  const int status = prepare(&j, d);
  if (status) return status;
  const void *given[] = {first, second, third};
  for (int k = 0; k < j.rows.operands; k++)
    if (!(j.rows.from[k] = given[k])) return FC_ERROR_ARGUMENT;
  if (!(j.rows.out = out)) return FC_ERROR_ARGUMENT;
  return fc_parallel_for(nthreads, j.pieces, piece, &j);
}
