/* Pooling plans: windows in both directions, and how a call is cut into tiles. */
#include <float.h>

#include "core/check.h"
#include "core/threads.h"

/* Below this many elements on the larger side a second thread costs more than it brings. */
#ifndef FC_SERIAL_POOL
#define FC_SERIAL_POOL (64 * 1024)
#endif

/* Elements on the larger side of a piece. */
#define FC_PIECE_POOL (32 * 1024)

/* Bytes of a row buffer, and of the channels of one position, where they are the lanes. */
#define FC_POOL_SPAN (16 * 1024)
#define FC_POOL_LANES 1024

/* Bytes of rows that are reduced at once: with more of them the source does not stay in the first cache. */
#define FC_POOL_ROWS 1024

/* Bytes of a dx that is written past the caches. */
#define FC_POOL_STREAM (4 << 20)

/* Bytes of a strip, if planes are not larger than that themselves, and the most vectors of it. */
#define FC_POOL_STRIP (24 * 1024)
#define FC_POOL_STRIP_VECTORS 8

/* Positions of planes that are pooled in strips: rows of larger ones are long enough for vectors. Gradients scatter there, or
 * take every second column, so strips are better as long as they stay in caches. */
#define FC_POOL_SMALL 256
#define FC_POOL_LARGE (64 * 1024)

/* Bytes of a box of source positions. */
#define FC_POOL_BOX_BYTES (192 * 1024)

struct fc_pool_plan {
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
};

/* How one call is cut: units are blocks of channels of an image; a piece is some units, or some rows of one. */
typedef struct pool_cut {
  int form;
  int lengthy;                 /* FC_POOL_LONG */
  void (*gradient)(const fc_pool_tile *t); /* of maxima, in rows of dx */
  fc_pool_axis axis[3];
  int64_t lanes, blocks, most_rows, units, units_per_piece, rows, rows_per_piece, pieces, columns, span, scratch;
  int64_t chunk, pitch;
  int strips;                  /* channels come next to each other first: a piece is a plan of its own */
} pool_cut;

typedef struct pool_job {
  const fc_pool_plan *plan;
  const fc_pool_strides *strides;
  pool_cut cut;
  const char *x;
  char *y, *dx, *workspace;
  int64_t *indices;
  int stream;                  /* dx goes past the caches */
  int wrong;                   /* indices are not all inside a plane */
  int64_t givers;              /* gathered: windows that have their index inside */
} pool_job;

/* ------------------------------------------------------------------------------------------------ planning */

static int64_t larger(const fc_pool_plan *p, int axis) { return fc_max(p->axis[axis].source, p->axis[axis].target); }

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
      !fc_kernels_of(d->isa, d->dtype) || (d->indices && !max))
    return 0;
  if (d->divisor != 0 && !(fabs(d->divisor) >= (d->dtype == FC_F32 ? FLT_MIN : DBL_MIN) &&
                           fabs(d->divisor) <= (d->dtype == FC_F32 ? FLT_MAX : DBL_MAX)))
    return 0;
  /* Kernels count positions in numbers of the arrays' type. */
  if (max && (d->indices || backward) && d->dtype == FC_F32 && fc_elements(d->x_size, 3) > 1 << 24) return 0;
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
  const int max = d->kind == FC_MAX, backward = d->direction == FC_BWD_INPUT, turned = backward && !max;
  const int64_t in = d->x_size[i], out = d->y_size[i], targets = turned ? in : out;
  const int64_t divisors = d->kind == FC_AVG ? targets : 0, shares = turned && divisors ? out : 0;
  const int64_t arounds = backward && max && d->indices && d->dil[i] == 1 ? in : 0;
  char *memory = malloc((size_t)(2 * targets + 2 * arounds) * sizeof(int64_t) + (size_t)(divisors + shares) * sizeof(double));
  if (!memory) return 0;
  int64_t *from = (int64_t *)memory, *to = from + targets, *begins = to + targets, *ends = begins + arounds;
  double *divisor = (double *)(ends + arounds), *share = divisor + divisors;
  *a = (fc_pool_axis){turned ? out : in, targets, d->dil[i], from, to, divisors ? divisor : 0, shares ? share : 0};
  if (turned) find_around(d, i, from, to);
  if (arounds) {
    find_around(d, i, begins, ends);
    *around = (fc_pool_around){begins, ends};
  }
  double *counts = turned ? share : divisor;
  for (int64_t o = 0; o < out && (!turned || shares); o++) {
    int64_t start, end;
    const int64_t count = window(d, i, o, &start, &end);
    if (!turned) {
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
static fc_pool_even even_axis(const fc_pool_desc *d, int i, int turned) {
  const int64_t source = turned ? d->y_size[i] : d->x_size[i];
  if (d->adaptive || (turned && d->stride[i] != 1) || (d->ker[i] - 1) * d->dil[i] > 2 * source) return (fc_pool_even){0};
  return turned ? (fc_pool_even){1, d->ker[i] - 1 - d->pad[i], d->ker[i]} : (fc_pool_even){d->stride[i], d->pad[i], d->ker[i]};
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

int fc_pool_plan_create(const fc_pool_desc *d, fc_pool_plan **plan) {
  *plan = 0;
  if (!d || !valid(d)) return FC_ERROR_ARGUMENT;
  const int max = d->kind == FC_MAX, backward = d->direction == FC_BWD_INPUT, turned = backward && !max;
  fc_pool_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  p->d = *d;
  p->kn = fc_kernels_of(d->isa, d->dtype);
  p->es = d->dtype == FC_F32 ? 4 : 8;
  for (int i = 0; i < 3; i++) {
    p->tables[i] = make_axis(d, i, &p->axis[i], &p->around[i]);
    if (!p->tables[i]) {
      fc_pool_plan_destroy(p);
      return FC_ERROR_MEMORY;
    }
    p->even[i] = even_axis(d, i, turned);
  }
  p->divide = d->kind == FC_AVG;
  p->op = max ? d->indices || backward ? FC_POOL_ARGMAX : FC_POOL_MAXIMUM : FC_POOL_TOTAL;
  if (turned && p->divide) {
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
  p->spread = turned && p->op == FC_POOL_TOTAL && takes_one(&p->axis[0]) && takes_one(&p->axis[1]) && takes_one(&p->axis[2]);
  *plan = p;
  return FC_OK;
}

void fc_pool_plan_destroy(fc_pool_plan *p) {
  if (!p) return;
  for (int i = 0; i < 3; i++) free(p->tables[i]);
  free(p);
}

/* The source columns that columns col0 to col1 of the target need, before the image too where windows are even. */
static int64_t span_of(const fc_pool_plan *p, const pool_cut *c, int64_t col0, int64_t col1) {
  const fc_pool_axis *x = &c->axis[2];
  const fc_pool_even *e = &p->even[2];
  if (c->form == FC_POOL_POSITIONS || c->form == FC_POOL_PLANES || c->form == FC_POOL_SPREAD) return 0;
  if (c->form == FC_POOL_EVEN_COLUMNS) return (col1 - col0 - 1) * e->step + (e->taps - 1) * x->dil + 1;
  int64_t first, end;
  fc_pool_reach(x, col0, col1, &first, &end);
  return end - first;
}

static int forward_like(const fc_pool_plan *p) { return p->d.kind == FC_MAX || p->d.direction == FC_FWD; }

/* Whether reducing rows first, a step of them for each target row, saves so many loads that it pays for the buffer. */
static int large_windows(const fc_pool_plan *p) {
  const int64_t step = fc_max(1, fc_div_up(p->axis[2].source, p->axis[2].target));
  return p->most_rows * p->most_taps > fc_min(4096, 2 * ((p->most_rows + 1) * step + p->most_taps));
}

/* A gradient of maxima of x whose channels lie next to each other: every piece makes some rows of dx, out of all windows
 * that reach them. Neighbours so look at some windows twice: rows are cut only where units are too few for the threads. */
static pool_cut cut_gradient(const fc_pool_plan *p, int nthreads) {
  const int64_t rows = p->d.x_size[0] * p->d.x_size[1], row = p->d.x_size[2] * p->d.c;
  const int few = p->d.n < 2 * nthreads && nthreads > 1, flat = p->d.x_size[0] == 1;
  pool_cut c = {
      .gradient = p->kn->pool_gradient, .lanes = few && !flat ? fc_min(p->d.c, FC_POOL_LANES / p->es) : p->d.c, .rows = rows};
  memcpy(c.axis, p->axis, sizeof c.axis);
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / (rows * row));
  c.rows_per_piece = few && flat ? fc_round_up(fc_max(8 * p->most_rows, FC_PIECE_POOL / row), p->most_rows) : rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(rows, c.rows_per_piece);
  c.columns = c.axis[2].target;
  c.scratch = fc_round_up(5 * FC_ALIGN + 16 * p->most_rows * (1 + p->most_taps), FC_ALIGN);
  return c;
}

/* A gradient of maxima of which the positions are given: a piece makes some rows of dx out of all windows that reach them. */
static pool_cut cut_gather(const fc_pool_plan *p, int nthreads) {
  const int64_t rows = p->d.x_size[1], row = p->d.x_size[2] * p->d.c;
  pool_cut c = {.gradient = p->kn->pool_gather, .lanes = p->d.c, .blocks = 1, .units = p->d.n, .rows = rows};
  memcpy(c.axis, p->axis, sizeof c.axis);
  c.columns = p->d.y_size[2];
  c.most_rows = p->most_around;
  c.span = c.most_rows * c.columns * c.lanes + p->kn->vl;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / (rows * row));
  c.rows_per_piece = c.units < 2 * nthreads && nthreads > 1 ? fc_max(8 * p->most_around, FC_PIECE_POOL / row) : rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(rows, c.rows_per_piece);
  c.scratch = fc_round_up(2 * FC_ALIGN + 2 * c.span * p->es, FC_ALIGN);
  return c;
}

/* Whether sliding windows over all source positions, which cost the same for any size, are less work than all windows' rows
 * and columns: maxima of 7 x 7, sums of 9 x 9 (measured; a sum that is not slid is one instruction a tap, a maximum three). */
static int boxes_pay(const fc_pool_plan *p) {
  int64_t steps = 4, sources = 1, targets = 1;
  for (int i = 0; i < 3; i++) {
    if (p->even[i].step == 0 || p->axis[i].dil != 1) return 0;
    if (p->even[i].taps > 1) steps += p->op == FC_POOL_MAXIMUM ? 4 : 6;
    sources *= p->axis[i].source;
    targets *= p->axis[i].target;
  }
  return p->op != FC_POOL_ARGMAX && (p->most_rows + p->most_taps) * targets > steps * sources;
}

/* Extent in a box of n target positions. */
static int64_t extent(const fc_pool_even *e, int64_t n) { return (n - 1) * e->step + e->taps; }

static pool_cut cut_boxes(const fc_pool_plan *p, int channels) {
  pool_cut c = {.form = FC_POOL_BOX, .lanes = 1};
  memcpy(c.axis, p->axis, sizeof c.axis);
  const fc_pool_even *e = p->even;
  const int64_t depths = c.axis[0].target, height = c.axis[1].target, most = FC_POOL_BOX_BYTES / p->es;
  const int64_t depth = extent(&e[0], depths), vl = p->kn->vl;
  if (channels) {
    const int64_t whole = depth * extent(&e[1], height) * extent(&e[2], c.axis[2].target);
    c.lanes = fc_min(p->d.c, fc_max(2, most / (whole * vl)) * vl);
  }
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.rows = depths * height;
  /* Rows and columns are halved as long as they are more than what neighbours share. */
  int64_t rows = height;
  c.columns = c.axis[2].target;
  while (depth * extent(&e[1], rows) * extent(&e[2], c.columns) * c.lanes > most) {
    if (c.columns * e[2].step > 2 * e[2].taps && c.columns * c.lanes > 8 * vl && c.columns >= rows)
      c.columns = fc_div_up(c.columns, 2);
    else if (depths == 1 && rows * e[1].step > 2 * e[1].taps)
      rows = fc_div_up(rows, 2);
    else
      break;
  }
  c.rows_per_piece = depths == 1 ? rows : c.rows;
  const int64_t row = fc_round_up(extent(&e[2], c.columns) * fc_pool_pitch(c.lanes, vl), vl);
  c.span = depth * extent(&e[1], rows) * row;
  c.units_per_piece = rows < height ? 1 : fc_max(1, FC_PIECE_POOL / c.span);
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(c.rows, c.rows_per_piece);
  const int64_t longest = fc_max(e[0].taps, fc_max(e[1].taps, e[2].taps));
  c.scratch = fc_round_up(4 * FC_ALIGN + (c.span + row * vl + 4 * longest * vl) * p->es, FC_ALIGN);
  return c;
}

/* The same problem of `lanes` channels of one image, which lie next to each other in arrays of their own. */
static fc_pool_plan strip_plan(const fc_pool_plan *p, int64_t lanes, fc_pool_strides *s) {
  const int64_t *in = p->d.x_size, *out = p->d.y_size;
  const int64_t x[] = {0, 1, in[1] * in[2] * lanes, in[2] * lanes, lanes},
                y[] = {0, 1, out[1] * out[2] * lanes, out[2] * lanes, lanes};
  memcpy(s->x, x, sizeof x);
  memcpy(s->dx, x, sizeof x);
  memcpy(s->y, y, sizeof y);
  memcpy(s->indices, y, sizeof y);
  fc_pool_plan strip = *p;
  strip.d.n = 1;
  strip.d.c = lanes;
  return strip;
}

static int64_t positions(const int64_t size[3]) { return size[0] * size[1] * size[2]; }

/* Whether channels' planes are faster turned into rows of channels. */
static int strips_pay(const fc_pool_plan *p, const fc_pool_strides *s) {
  const fc_pool_desc *d = &p->d;
  const int backward = d->direction == FC_BWD_INPUT, max = d->kind == FC_MAX;
  if (backward && !max && p->even[1].step && p->even[2].step) return 0; /* sums of windows a step of 1 apart, as they are */
  if (d->c < 2 || fc_round_up(d->c, p->kn->vl) > 2 * d->c || p->plane || p->spread || s->y[4] != 1 || s->y[1] == 1) return 0;
  if (backward ? s->dx[4] != 1 || s->dx[1] == 1 || (max && d->indices) : d->indices && s->indices[1] == 1) return 0;
  if ((!backward || (max && !d->indices)) && (s->x[4] != 1 || s->x[1] == 1)) return 0;
  return positions(d->x_size) <= (backward || boxes_pay(p) ? FC_POOL_LARGE : FC_POOL_SMALL);
}

static pool_cut cut_call(const fc_pool_plan *p, const fc_pool_strides *s, int nthreads);

/* Channels come next to each other in strips: a piece is some channels of an image. */
static pool_cut cut_strips(const fc_pool_plan *p) {
  const int64_t vl = p->kn->vl, es = p->es, x = positions(p->d.x_size), y = positions(p->d.y_size);
  pool_cut c = {.strips = 1, .rows = 1, .units_per_piece = 1, .rows_per_piece = 1};
  c.lanes = fc_min(fc_round_up(p->d.c, vl), vl * fc_max(1, fc_min(FC_POOL_STRIP_VECTORS, FC_POOL_STRIP / es / (vl * x))));
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.pieces = c.units = p->d.n * c.blocks;
  /* The last strip may have so few lanes that it is cut in another way. */
  const int64_t lanes[] = {c.lanes, fc_round_up(p->d.c - (c.blocks - 1) * c.lanes, vl)};
  for (int i = 0; i < 2; i++) {
    fc_pool_strides strides;
    const fc_pool_plan strip = strip_plan(p, lanes[i], &strides);
    c.scratch = fc_max(c.scratch, cut_call(&strip, &strides, 1).scratch);
  }
  c.scratch += (2 * x + y) * c.lanes * es + (p->d.indices ? y * c.lanes * 8 : 0);
  c.scratch = fc_round_up(c.scratch + 5 * FC_ALIGN, FC_ALIGN);
  return c;
}

static int gathers(const fc_pool_plan *p, const fc_pool_strides *s) {
  return p->d.indices && p->most_around && p->d.c > 1 && s->y[1] == 1 && s->dx[1] == 1 && s->indices[1] == 1;
}

static pool_cut cut_rows(const fc_pool_plan *p, const fc_pool_strides *s, int nthreads);

static pool_cut cut_call(const fc_pool_plan *p, const fc_pool_strides *s, int nthreads) {
  if (strips_pay(p, s)) return cut_strips(p);
  if (p->d.kind == FC_MAX && p->d.direction == FC_BWD_INPUT && !p->d.indices && p->d.c > 1 && s->x[1] == 1 && s->y[1] == 1 &&
      s->dx[1] == 1 && !large_windows(p))
    return cut_gradient(p, nthreads);
  return gathers(p, s) ? cut_gather(p, nthreads) : cut_rows(p, s, nthreads);
}

/* Rows of windows, one after the other. */
static pool_cut cut_rows(const fc_pool_plan *p, const fc_pool_strides *s, int nthreads) {
  const int64_t *ss = forward_like(p) ? s->x : s->y;
  pool_cut c = {.lanes = 1};
  int64_t rows = p->most_rows;
  if (boxes_pay(p) && !p->spread) return cut_boxes(p, ss[1] == 1 && ss[4] != 1);
  static const int64_t zero = 0, one = 1;
  memcpy(c.axis, p->axis, sizeof c.axis);
  const int64_t *in = p->d.x_size, *dx = s->dx;
  if (p->spread && dx[4] == 1 && (in[1] == 1 || dx[3] == in[2]) && (in[0] == 1 || dx[2] == in[1] * in[2])) {
    c.form = FC_POOL_SPREAD;
    c.axis[2].target *= c.axis[0].target * c.axis[1].target;
    c.axis[0].target = c.axis[1].target = 1;
  } else if (p->d.c == 1 || ss[1] != 1 || (ss[4] == 1 && c.axis[2].source > 1)) {
    const int even = p->op != FC_POOL_SHARES && ss[4] == 1 && (p->even[2].step == 1 || p->even[2].step == 2);
    c.form = even ? FC_POOL_EVEN_COLUMNS : FC_POOL_COLUMNS;
    const int64_t width = c.axis[2].source;
    const int dense = ss[3] == width * ss[4] || c.axis[1].source == 1;
    if (p->plane && dense && p->op != FC_POOL_SHARES && (p->op != FC_POOL_ARGMAX || s->dx[3] == width * s->dx[4])) {
      const int single = c.axis[0].source == 1 && c.axis[0].target == 1 && ss[4] == 1 && p->op != FC_POOL_ARGMAX;
      c.form = single ? FC_POOL_PLANES : FC_POOL_COLUMNS;
      rows = c.axis[0].source;
      c.axis[1] = (fc_pool_axis){1, 1, 1, &zero, &one, c.axis[1].divisor, 0};
      c.axis[2] = (fc_pool_axis){p->plane, 1, 1, &zero, &p->plane, c.axis[2].divisor, 0};
    }
  } else {
    c.form = large_windows(p) ? FC_POOL_CHANNELS : FC_POOL_POSITIONS;
    const int few = nthreads > 1 && p->d.n * c.axis[0].target * c.axis[1].target < 4 * nthreads;
    c.lanes = few || p->op == FC_POOL_ARGMAX ? fc_min(p->d.c, FC_POOL_LANES / p->es) : p->d.c;
    if (c.form == FC_POOL_CHANNELS) /* a window is the least that a row buffer holds */
      c.lanes = fc_min(c.lanes, fc_max(1, FC_POOL_SPAN / (p->most_taps * p->kn->vl * p->es)) * p->kn->vl);
  }
  /* Rows are reduced in groups, then columns one by one, unless these are neighbours; or all positions in groups. */
  if (c.form == FC_POOL_POSITIONS) rows *= p->most_taps;
  const int single_columns = c.form == FC_POOL_CHANNELS || c.form == FC_POOL_EVEN_COLUMNS || p->op == FC_POOL_SHARES;
  c.lengthy = (p->op == FC_POOL_TOTAL || p->op == FC_POOL_SHARES) && c.form != FC_POOL_PLANES && c.form != FC_POOL_SPREAD &&
              (rows > FC_POOL_ADDITIONS * FC_POOL_GROUP || (single_columns && p->most_taps > FC_POOL_ADDITIONS));
  c.blocks = fc_div_up(p->d.c, c.lanes);
  c.units = p->d.n * c.blocks;
  c.rows = c.axis[0].target * c.axis[1].target;
  /* Columns: as many as the row buffer takes, and the places where the maxima were. */
  c.columns = c.axis[2].target;
  const int64_t places = p->op == FC_POOL_ARGMAX ? 8 * c.lanes : 0;
  while (c.columns > p->kn->vl && fc_max(span_of(p, &c, 0, c.columns) * c.lanes * p->es, c.columns * places) > FC_POOL_SPAN)
    c.columns = fc_div_up(c.columns, 2);
  for (int64_t col = 0; col < c.axis[2].target; col += c.columns)
    c.span = fc_max(c.span, span_of(p, &c, col, fc_min(c.axis[2].target, col + c.columns)));
  if (c.form == FC_POOL_EVEN_COLUMNS) {
    c.pitch = c.span + p->kn->vl; /* as far as a row's last vector goes */
    c.chunk = fc_max(1, fc_min(c.rows, FC_POOL_ROWS / p->es / c.pitch));
    c.span = c.chunk * c.pitch + (1 + p->even[2].step) * p->kn->vl;
  } else {
    c.span = c.span * c.lanes + p->kn->vl;
  }
  const int64_t row = fc_max(c.axis[2].source, c.axis[2].target) * c.lanes,
                unit = fc_max(c.axis[0].source * c.axis[1].source, c.rows) * row;
  c.units_per_piece = fc_max(1, FC_PIECE_POOL / unit);
  /* A gradient that is scattered needs all rows of its unit in one thread. */
  c.rows_per_piece = p->d.direction == FC_FWD || !forward_like(p) ? fc_max(1, c.rows * FC_PIECE_POOL / unit) : c.rows;
  if (c.units_per_piece > 1) c.rows_per_piece = c.rows;
  c.pieces = fc_div_up(c.units, c.units_per_piece) * fc_div_up(c.rows, c.rows_per_piece);
  const int64_t results = c.columns * c.lanes + p->kn->vl;
  const int64_t taps = p->most_rows * (1 + (c.form == FC_POOL_POSITIONS ? p->most_taps : 0));
  c.scratch = 16 * FC_ALIGN + (2 * c.span + 3 * results + c.columns + p->kn->vl) * p->es + taps * 3 * 8 +
              (results + c.columns) * 8;
  c.scratch = fc_round_up(c.scratch, FC_ALIGN);
  return c;
}

/* Strides in a form of their own, if they are such. Those of arrays that the direction does not have mean nothing. */
static int settle(const fc_pool_plan *p, fc_pool_strides *s, const fc_pool_strides *given) {
  const fc_pool_desc *d = &p->d;
  const int backward = d->direction == FC_BWD_INPUT;
  const int64_t x[5] = {d->n, d->c, d->x_size[0], d->x_size[1], d->x_size[2]},
                y[5] = {d->n, d->c, d->y_size[0], d->y_size[1], d->y_size[2]};
  *s = *given;
  if (backward && (d->kind != FC_MAX || d->indices)) memset(s->x, 0, sizeof s->x);
  if (!backward) memset(s->dx, 0, sizeof s->dx);
  if (!d->indices) memset(s->indices, 0, sizeof s->indices);
  const int found = d->indices && !backward;
  return fc_settle(s->x, x, 5) && fc_settle(s->y, y, 5) && fc_settle(s->dx, x, 5) && fc_settle(s->indices, y, 5) &&
         (backward ? fc_apart(s->dx, x, 5) : fc_apart(s->y, y, 5)) && (!found || fc_apart(s->indices, y, 5));
}

int64_t fc_pool_plan_workspace(const fc_pool_plan *p, const fc_pool_strides *strides, int nthreads) {
  fc_pool_strides s;
  if (!settle(p, &s, strides)) return -1;
  nthreads = fc_usable_threads(nthreads);
  int64_t scratch = cut_call(p, &s, nthreads).scratch;
  if (gathers(p, &s)) scratch = fc_max(scratch, cut_rows(p, &s, nthreads).scratch);
  return nthreads * scratch + FC_ALIGN;
}

int fc_pool_plan_threads(const fc_pool_plan *p, int nthreads) {
  return p->d.n * p->d.c * larger(p, 0) * larger(p, 1) * larger(p, 2) < FC_SERIAL_POOL ? 1 : fc_usable_threads(nthreads);
}

/* ------------------------------------------------------------------------------------------------- running */

/* Zeros in `lanes` channels of an array of the shape of x. */
static void clear(char *p, const fc_pool_desc *d, const int64_t s[5], int64_t lanes, int64_t es) {
  const int64_t *in = d->x_size;
  const int dense = lanes == 1 ? s[4] == 1 : s[1] == 1 && s[4] == lanes;
  if (dense && (in[1] == 1 || s[3] == in[2] * s[4]) && (in[0] == 1 || s[2] == in[1] * in[2] * s[4])) {
    memset(p, 0, (size_t)(in[0] * in[1] * in[2] * lanes * es));
    return;
  }
  for (int64_t z = 0; z < in[0]; z++)
    for (int64_t h = 0; h < in[1]; h++)
      for (int64_t w = 0; w < in[2]; w++) {
        char *position = p + (z * s[2] + h * s[3] + w * s[4]) * es;
        if (s[1] == 1)
          memset(position, 0, (size_t)(lanes * es));
        else
          for (int64_t l = 0; l < lanes; l++) memset(position + l * s[1] * es, 0, (size_t)es);
      }
}

/* Channels of an array, whose rows are in order in memory, to a strip, or back. */
static void strip_array(void (*kernel)(const fc_pool_strip *s), fc_pool_strip strip, const int64_t size[3], const int64_t s[5],
                        int64_t es) {
  char *planes = strip.planes, *rows = strip.strip;
  /* Rows that adjoin are one. */
  const int flat = (size[1] == 1 || s[3] == size[2]) && (size[0] == 1 || s[2] == size[1] * size[2]);
  strip.plane = s[1];
  strip.count = flat ? positions(size) : size[2];
  for (int64_t d = 0; d < (flat ? 1 : size[0]); d++)
    for (int64_t h = 0; h < (flat ? 1 : size[1]); h++, rows += strip.count * strip.pitch * es) {
      strip.planes = planes + (d * s[2] + h * s[3]) * es;
      strip.strip = rows;
      kernel(&strip);
    }
}

static void piece(void *ctx, int64_t index, int worker);

/* Some channels of an image: to strips, pooled, and back. */
static void strip_piece(pool_job *j, int64_t index, int worker) {
  const fc_pool_plan *p = j->plan;
  const pool_cut *c = &j->cut;
  const fc_pool_strides *s = j->strides;
  const int backward = p->d.direction == FC_BWD_INPUT, indices = !backward && p->d.indices;
  const int64_t n = index / c->blocks, c0 = index % c->blocks * c->lanes, es = p->es, *in = p->d.x_size, *out = p->d.y_size;
  fc_pool_strip strip = {.lanes = fc_min(c->lanes, p->d.c - c0)};
  strip.pitch = fc_round_up(strip.lanes, p->kn->vl);
  fc_pool_strides strides;
  const fc_pool_plan own = strip_plan(p, strip.pitch, &strides);
  char *work = j->workspace + worker * c->scratch;
  char *x = work, *dx = fc_aligned(x + positions(in) * c->lanes * es), *y = fc_aligned(dx + positions(in) * c->lanes * es);
  int64_t *found = fc_aligned(y + positions(out) * c->lanes * es);
  char *rest = fc_aligned(found + (indices ? positions(out) * c->lanes : 0));
  pool_job inner = {.plan = &own, .strides = &strides, .cut = cut_call(&own, &strides, 1), .x = x, .y = y, .workspace = rest};
  inner.dx = backward ? dx : 0;
  inner.indices = indices ? found : 0;
#define PLANES(array, strides) ((char *)(array) + (n * (strides)[0] + c0 * (strides)[1]) * es)
  if (forward_like(p)) {
    strip.planes = PLANES(j->x, s->x);
    strip.strip = x;
    strip_array(p->kn->pool_strip, strip, in, s->x, es);
  }
  strip.planes = PLANES(j->y, s->y);
  strip.strip = y;
  if (backward) strip_array(p->kn->pool_strip, strip, out, s->y, es);
  for (int64_t i = 0; i < inner.cut.pieces; i++) piece(&inner, i, 0);
  if (!backward) strip_array(p->kn->pool_unstrip, strip, out, s->y, es);
  if (backward) {
    strip.planes = PLANES(j->dx, s->dx);
    strip.strip = dx;
    strip_array(p->kn->pool_unstrip, strip, in, s->dx, es);
  }
#undef PLANES
  if (indices)
    for (int64_t l = 0; l < strip.lanes; l++) {
      const int64_t *from = found + l;
      for (int64_t d = 0; d < out[0]; d++)
        for (int64_t h = 0; h < out[1]; h++) {
          int64_t *to = j->indices + n * s->indices[0] + (c0 + l) * s->indices[1] + d * s->indices[2] + h * s->indices[3];
          for (int64_t w = 0; w < out[2]; w++, from += strip.pitch) to[w * s->indices[4]] = *from;
        }
    }
}

static void piece(void *ctx, int64_t index, int worker) {
  pool_job *j = ctx;
  if (j->cut.strips) {
    strip_piece(j, index, worker);
    return;
  }
  const fc_pool_plan *p = j->plan;
  const pool_cut *c = &j->cut;
  const fc_pool_strides *s = j->strides;
  const int64_t row_pieces = fc_div_up(c->rows, c->rows_per_piece);
  const int scatter = p->d.kind == FC_MAX && p->d.direction == FC_BWD_INPUT, forward = forward_like(p);
  fc_pool_tile t = {.op = c->lengthy ? FC_POOL_LONG : p->op,
                    .divide = p->divide,
                    .form = c->form,
                    .channels = p->d.c,
                    .lanes = c->lanes,
                    .blocks = c->blocks,
                    .most_rows = c->most_rows ? c->most_rows : p->most_rows,
                    .most_taps = p->most_taps,
                    .source = forward ? j->x : j->y,
                    .target = scatter   ? 0
                              : forward ? j->y
                                        : j->dx,
                    .indices = j->indices,
                    .dy = scatter ? j->y : 0,
                    .grad = scatter ? j->dx : 0,
                    .stream = j->stream,
                    .wrong = &j->wrong,
                    .givers = &j->givers,
                    .partition = p->partition,
                    .source_stride = forward ? s->x : s->y,
                    .target_stride = forward ? s->y : s->dx,
                    .index_stride = s->indices,
                    .grad_stride = s->dx,
                    .span = c->span,
                    .chunk = c->chunk,
                    .pitch = c->pitch,
                    .work = j->workspace + worker * c->scratch};
  memcpy(t.axis, c->axis, sizeof t.axis);
  memcpy(t.even, p->even, sizeof t.even);
  memcpy(t.around, p->around, sizeof t.around);
  t.unit0 = index / row_pieces * c->units_per_piece;
  t.unit1 = fc_min(c->units, t.unit0 + c->units_per_piece);
  t.row0 = index % row_pieces * c->rows_per_piece;
  t.row1 = fc_min(c->rows, t.row0 + c->rows_per_piece);
  if (c->gradient) {
    c->gradient(&t);
    return;
  }
  if (scatter)
    for (int64_t u = t.unit0; u < t.unit1; u++) {
      const int64_t c0 = u % c->blocks * c->lanes;
      clear(j->dx + (u / c->blocks * s->dx[0] + c0 * s->dx[1]) * p->es, &p->d, s->dx, fc_min(c->lanes, p->d.c - c0), p->es);
    }
  for (t.col0 = 0; t.col0 < c->axis[2].target; t.col0 += c->columns) {
    t.col1 = fc_min(c->axis[2].target, t.col0 + c->columns);
    (scatter && j->indices ? p->kn->pool_scatter : p->kn->pool)(&t);
  }
}

/* Whether dx, with the channels of a position next to each other, is more than caches keep; in vectors as vstream wants them. */
static int streams(const fc_pool_plan *p, const fc_pool_strides *s, const void *dx) {
  int64_t bits = (int64_t)(uintptr_t)dx;
  for (int i = 0; i < 5; i++) bits |= i == 1 ? 0 : s->dx[i] * p->es;
  return s->dx[1] == 1 && bits % 16 == 0 &&
         p->d.n * p->d.c * p->d.x_size[0] * p->d.x_size[1] * p->d.x_size[2] * p->es >= FC_POOL_STREAM;
}

int fc_pool_run(const fc_pool_plan *p, const fc_pool_strides *given, const void *x, void *y, int64_t *indices, void *dx,
                void *workspace, int nthreads) {
  const int backward = p->d.direction == FC_BWD_INPUT, max = p->d.kind == FC_MAX;
  fc_pool_strides own, *strides = &own;
  if (!y || (backward ? !dx : !x) || (p->d.indices ? !indices : backward && max && !x) || !workspace || !settle(p, &own, given))
    return FC_ERROR_ARGUMENT;
  nthreads = fc_usable_threads(nthreads);
  pool_job j = {p, strides, cut_call(p, strides, nthreads), x, y, dx, fc_aligned(workspace), indices, streams(p, strides, dx),
                0, 0};
  int status = fc_parallel_for(nthreads, j.cut.pieces, piece, &j);
  if (status == FC_OK && !j.wrong && gathers(p, strides) && j.givers < p->d.n * p->d.c * positions(p->d.y_size)) {
    /* Not all indices are of their own windows: what they give has to be scattered. */
    j.cut = cut_rows(p, strides, nthreads);
    status = fc_parallel_for(nthreads, j.cut.pieces, piece, &j);
  }
  return status == FC_OK && j.wrong ? FC_ERROR_ARGUMENT : status;
}
