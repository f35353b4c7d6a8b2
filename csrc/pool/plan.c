/* Pooling plans: descriptions, and the tables of their windows in both directions. */
#include <float.h>

#include "core/check.h"
#include "pool/plan.h"

/* Below this many elements on the larger side a second thread costs more than it brings. */
#ifndef FC_SERIAL_POOL
#define FC_SERIAL_POOL (64 * 1024)
#endif

/* Window o along dimension i: the positions that it pools are in [from, to). Returns how many count. */
static inline int64_t window(const fc_pool_desc *d, int i, int64_t o, int64_t *from, int64_t *to) {
  const int64_t in = d->x_size[i], out = d->y_size[i], dil = d->dil[i];
  if (d->adaptive) {
    *from = o * in / out;
    *to = fc_div_up((o + 1) * in, out);
    return *to - *from;
  }
  const int64_t first = o * d->stride[i] - d->pad[i], end = fc_min(first + dil * (d->ker[i] - 1) + 1, in + d->pad_end[i]);
  *from = first < 0 ? fc_round_up(-first, dil) + first : first;
  *to = fc_min(end, in);
  return d->count_pad ? end - first : fc_div_up(*to - *from, dil);
}

/* Every window has an element. */
static int windows_hold(const fc_pool_desc *d, int i) {
  for (int64_t o = 0; o < d->y_size[i]; o++) {
    int64_t from, to;
    window(d, i, o, &from, &to);
    if (from >= to) return 0;
  }
  return 1;
}

/* The outputs that each input position is in: those that end after it, up to the last that starts before. dil is 1. */
static void find_around(const fc_pool_desc *d, int i, int64_t *from, int64_t *to) {
  const int64_t out = d->y_size[i];
  int64_t first = 0, last = 0, end, start, unused;
  window(d, i, 0, &start, &end);
  for (int64_t at = 0; at < d->x_size[i]; at++) {
    while (first < out && end <= at)
      if (++first < out) window(d, i, first, &unused, &end);
    while (last < out && start <= at)
      if (++last < out) window(d, i, last, &start, &unused);
    from[at] = first;
    to[at] = fc_max(first, last);
  }
}

static int valid(const fc_pool_desc *d) {
  const int max = d->kind == FC_MAX, backward = d->direction == FC_BWD_INPUT;
  const int64_t x[] = {d->n, d->c, d->x_size[0], d->x_size[1], d->x_size[2]},
                y[] = {d->n, d->c, d->y_size[0], d->y_size[1], d->y_size[2]};
  if (!fc_between(d->kind, FC_MAX, FC_SUM) || (!backward && d->direction != FC_FWD) || !fc_elements(x, 5) || !fc_elements(y, 5) ||
      (d->indices && !max))
    return 0;
  const int single = d->types.acc == FC_F32;
  if (d->divisor != 0 && !(fabs(d->divisor) >= (single ? FLT_MIN : DBL_MIN) && fabs(d->divisor) <= (single ? FLT_MAX : DBL_MAX)))
    return 0;
  /* Kernels count positions in numbers of the arrays' type. */
  if (max && (d->indices || backward) && single && fc_elements(d->x_size, 3) > 1 << 24) return 0;
  for (int i = 0; i < 3; i++) {
    if (!fc_between(d->dil[i], 1, max ? FC_MOST : 1)) return 0;
    if (!d->adaptive && !(fc_between(d->ker[i], 1, FC_MOST) && fc_between(d->stride[i], 1, FC_MOST) &&
                          fc_between(d->pad[i], 0, FC_MOST) && fc_between(d->pad_end[i], 0, FC_MOST)))
      return 0;
    if (d->adaptive && d->dil[i] != 1) return 0;
    if (!windows_hold(d, i)) return 0;
  }
  return 1;
}

/* The tables of dimension i, in one piece of memory, which is returned; NULL if there is none. */
static void *make_axis(const fc_pool_desc *d, int i, fc_pool_axis *a, fc_pool_around *around) {
  const int max = d->kind == FC_MAX, backward = d->direction == FC_BWD_INPUT, adjoint = backward && !max;
  const int64_t in = d->x_size[i], out = d->y_size[i], targets = adjoint ? in : out;
  const int64_t divisors = d->kind == FC_AVG ? targets : 0, shares = adjoint && divisors ? out : 0;
  const int64_t arounds = backward && max && d->indices && d->dil[i] == 1 ? in : 0;
  char *memory = malloc((size_t)(2 * targets + 2 * arounds) * sizeof(int64_t) + (size_t)(divisors + shares) * sizeof(double));
  if (!memory) return 0;
  int64_t *from = (int64_t *)memory, *to = from + targets, *begins = to + targets, *ends = begins + arounds;
  double *divisor = (double *)(ends + arounds), *share = divisor + divisors;
  *a = (fc_pool_axis){adjoint ? out : in, targets, d->dil[i], from, to, divisors ? divisor : 0, shares ? share : 0};
  if (adjoint) find_around(d, i, from, to);
  if (arounds) {
    find_around(d, i, begins, ends);
    *around = (fc_pool_around){begins, ends};
  }
  double *counts = adjoint ? share : divisor;
  for (int64_t o = 0; o < out && (!adjoint || shares); o++) {
    int64_t start, end;
    const int64_t count = window(d, i, o, &start, &end);
    if (!adjoint) {
      from[o] = start;
      to[o] = end;
    }
    if (divisors) counts[o] = d->divisor == 0 ? (double)count : i == 0 ? d->divisor : 1;
  }
  return memory;
}

static int same(const double *v, int64_t n) {
  for (int64_t i = 1; i < n; i++)
    if (v[i] != v[0]) return 0;
  return 1;
}

static int64_t longest(const fc_pool_axis *a) {
  int64_t most = 0;
  for (int64_t i = 0; i < a->target; i++) most = fc_max(most, fc_div_up(a->to[i] - a->from[i], a->dil));
  return most;
}

/* Rows of windows that reach a row of dx, if comparing all windows around a position is faster than adding to the places
 * of the maxima, else 0. */
static int64_t around_rows(const fc_pool_plan *p) {
  const fc_pool_desc *d = &p->d;
  int64_t most[3] = {0};
  if (d->x_size[0] * d->y_size[0] != 1 || d->x_size[1] * d->x_size[2] >= 1 << 24 || !p->around[1].from || !p->around[2].from)
    return 0;
  for (int i = 1; i < 3; i++)
    for (int64_t j = 0; j < d->x_size[i]; j++) most[i] = fc_max(most[i], p->around[i].to[j] - p->around[i].from[j]);
  return most[1] * most[2] <= FC_POOL_GROUP ? most[1] : 0;
}

/* Windows that lie evenly, if no more padding comes with them than the source has room for. */
static fc_pool_even even_axis(const fc_pool_desc *d, int i, int adjoint) {
  const int64_t source = adjoint ? d->y_size[i] : d->x_size[i];
  if (d->adaptive || (adjoint && d->stride[i] != 1) || (d->ker[i] - 1) * d->dil[i] > 2 * source) return (fc_pool_even){0};
  return adjoint ? (fc_pool_even){1, d->ker[i] - 1 - d->pad[i], d->ker[i]} : (fc_pool_even){d->stride[i], d->pad[i], d->ker[i]};
}

static int takes_all(const fc_pool_axis *a) {
  return a->target == 1 && a->from[0] == 0 && a->to[0] == a->source && (a->dil == 1 || a->source == 1);
}

static int takes_one(const fc_pool_axis *a) {
  for (int64_t i = 0; i < a->target; i++)
    if (a->from[i] != 0 || a->to[i] != 1) return 0;
  return a->source == 1;
}

/* Whether every source position is in one window. */
static int is_partition(const fc_pool_axis *a) {
  for (int64_t i = 0; i < a->target; i++)
    if (a->from[i] != (i ? a->to[i - 1] : 0)) return 0;
  return a->dil == 1 && a->to[a->target - 1] == a->source;
}

/* What a direction has: x that it reads, dx. */
static int reads_x(const fc_pool_desc *d) { return d->direction == FC_FWD || (d->kind == FC_MAX && !d->indices); }
static int makes_dx(const fc_pool_desc *d) { return d->direction == FC_BWD_INPUT; }

static unsigned needs(const fc_pool_desc *d) {
  return FC_BIT(FC_Y) | (reads_x(d) ? FC_BIT(FC_X) : 0) | (makes_dx(d) ? FC_BIT(FC_DX) : 0) |
         (d->indices ? FC_BIT(FC_INDICES) : 0);
}

/* Strides in a form of their own, if they are such. */
static int settle(fc_pool_desc *d) {
  const int64_t x[5] = {d->n, d->c, d->x_size[0], d->x_size[1], d->x_size[2]},
                y[5] = {d->n, d->c, d->y_size[0], d->y_size[1], d->y_size[2]};
  if (!reads_x(d)) memset(d->x_stride, 0, sizeof d->x_stride);
  if (!makes_dx(d)) memset(d->dx_stride, 0, sizeof d->dx_stride);
  if (!d->indices) memset(d->indices_stride, 0, sizeof d->indices_stride);
  const int found = d->indices && !makes_dx(d);
  return fc_settle(d->x_stride, x, 5) && fc_settle(d->y_stride, y, 5) && fc_settle(d->dx_stride, x, 5) &&
         fc_settle(d->indices_stride, y, 5) && (makes_dx(d) ? fc_apart(d->dx_stride, x, 5) : fc_apart(d->y_stride, y, 5)) &&
         (!found || fc_apart(d->indices_stride, y, 5));
}

static int64_t larger_side(const fc_pool_desc *d) {
  int64_t all = d->n * d->c;
  for (int i = 0; i < 3; i++) all *= fc_max(d->x_size[i], d->y_size[i]);
  return all;
}

static void destroy(fc_plan *plan) {
  fc_pool_plan *p = (fc_pool_plan *)plan;
  for (int i = 0; i < 3; i++) free(p->tables[i]);
  free(p);
}

static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  const fc_pool_plan *p = (const fc_pool_plan *)plan;
  int64_t scratch = fc_pool_cut_call(p, nthreads).scratch;
  if (fc_pool_gathers(p)) scratch = fc_max(scratch, fc_pool_cut_rows(p, nthreads).scratch);
  return nthreads * scratch + FC_ALIGN;
}

static const fc_operator pool = {.destroy = destroy, .run = fc_pool_run, .workspace = workspace};

int fc_plan_pool(const fc_pool_desc *given, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  if (!given) return FC_ERROR_ARGUMENT;
  const fc_kernels *kn;
  const int status = fc_find_kernels(&kn, given->isa, &given->types);
  if (status) return status;
  if (!valid(given)) return FC_ERROR_ARGUMENT;
  const int max = given->kind == FC_MAX, backward = given->direction == FC_BWD_INPUT, adjoint = backward && !max;
  fc_pool_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  p->head = (fc_plan){.does = &pool,
                      .algorithm = max && backward && given->indices ? "scatter" : "rows_then_columns",
                      .needs = needs(given),
                      .serial = larger_side(given) < FC_SERIAL_POOL};
  p->d = *given;
  const fc_pool_desc *d = &p->d;
  if (!settle(&p->d)) {
    free(p);
    return FC_ERROR_ARGUMENT;
  }
  p->kn = kn;
  p->es = fc_bytes(d->types.x);
  for (int i = 0; i < 3; i++) {
    p->tables[i] = make_axis(d, i, &p->axis[i], &p->around[i]);
    if (!p->tables[i]) {
      destroy(&p->head);
      return FC_ERROR_MEMORY;
    }
    p->even[i] = even_axis(d, i, adjoint);
  }
  p->divide = d->kind == FC_AVG;
  p->op = max ? d->indices || backward ? FC_POOL_ARGMAX : FC_POOL_MAXIMUM : FC_POOL_TOTAL;
  if (adjoint && p->divide) {
    /* One divisor for all can wait until the sum is there; else every dy is divided first. */
    double product = 1;
    for (int i = 0; i < 3; i++) {
      p->divide &= same(p->axis[i].share, d->y_size[i]);
      product *= p->axis[i].share[0];
    }
    if (!p->divide) p->op = FC_POOL_SHARES;
    for (int i = 0; i < 3; i++) {
      for (int64_t j = 0; j < p->axis[i].target; j++) ((double *)p->axis[i].divisor)[j] = i == 0 ? product : 1;
      if (p->divide) p->axis[i].share = 0;
    }
  }
  p->most_rows = longest(&p->axis[0]) * longest(&p->axis[1]);
  p->most_taps = longest(&p->axis[2]);
  p->partition = is_partition(&p->axis[0]) && is_partition(&p->axis[1]) && is_partition(&p->axis[2]);
  if (max && backward && d->indices) p->most_around = around_rows(p);
  if (takes_all(&p->axis[1]) && takes_all(&p->axis[2])) p->plane = p->axis[1].source * p->axis[2].source;
  p->spread = adjoint && p->op == FC_POOL_TOTAL && takes_one(&p->axis[0]) && takes_one(&p->axis[1]) && takes_one(&p->axis[2]);
  *plan = &p->head;
  return FC_OK;
}
